"""Files with whole-or-nothing writes: manifest, packed clips, feature shards."""
