"""Withdrawn recordings leave what ingest knows, and the packed shards.

Packed shards never change, with this one exception: a shard that holds a withdrawn clip is packed again without it,
under another name. All other shards, and so the features of all their clips, stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from audioml.store.clips import Clip, Place, count_rows, iter_clips, read_clip_ids, write_clips
from audioml.store.recordings import build_facts, place_facts
from audioml.store.withdrawn import REASON, Withdrawn

if TYPE_CHECKING:
    import pyarrow as pa


def mark_withdrawn(facts: pa.Table, withdrawn: Withdrawn) -> pa.Table:
    """Return facts in which each recording whose clips are all withdrawn is one row that says so.

    Its `clip_id` is the hash by which it is in the list: once that is taken from the list the recording is read again.
    """
    import pyarrow as pa

    if not withdrawn:
        return facts
    columns = [facts[name].to_pylist() for name in ("path", "listed_bytes", "version", "reason", "clip_id")]
    known, stays = withdrawn.by_id, set()
    for path, _, _, reason, clip_id in zip(*columns, strict=True):
        if reason is not None or clip_id not in known:
            stays.add(path)
    gone = {}
    for path, size, version, _, clip_id in zip(*columns, strict=True):
        if path not in stays and path not in gone:
            entry = known[clip_id]
            gone[path] = {
                "path": path,
                "listed_bytes": size,
                "version": version,
                "reason": REASON,
                "detail": entry.describe(),
                "clip_id": entry.sha256 or clip_id,
            }
    if not gone:
        return facts
    kept = facts.filter(pa.array((path in stays for path in columns[0]), pa.bool_()))
    return pa.concat_tables([kept, build_facts(list(gone.values()))])


def repack_without(folder: Path, facts: pa.Table, withdrawn: Withdrawn) -> pa.Table:
    """Pack the shards that hold withdrawn clips again without them, and return facts that say where the others lie.

    The old shards stay, for whoever writes these facts to remove afterwards: so nothing is lost if that is killed.

    Parameters
    ----------
    folder
        Of the packed shards.
    facts
        As `mark_withdrawn` returns them. A clip that another recording has too, which was not withdrawn, stays.
    withdrawn
        All that is.

    Raises
    ------
    StoreError
        When a shard is missing or damaged.
    """
    if not withdrawn:
        return facts
    live: dict[str, dict[int, str]] = {}
    places = [facts[name].to_pylist() for name in ("shard", "row", "path")]
    for shard, row, path in zip(*places, strict=True):
        if shard is not None:
            rows = live.setdefault(shard, {})
            rows[row] = min(path, rows.get(row, path))
    moved: dict[Place, Place] = {}
    for shard, rows in sorted(live.items()):
        if count_rows(folder / shard) == len(rows) or withdrawn.by_id.keys().isdisjoint(read_clip_ids(folder / shard)):
            continue
        order = sorted(rows)
        packed = zip(order, iter_clips(folder / shard, order), strict=True)
        name = write_clips(folder, [Clip(clip_id, rows[row], data) for row, (clip_id, data) in packed])
        moved |= {Place(shard, row): Place(name, i) for i, row in enumerate(order)}
    if not moved:
        return facts
    old = [None if shard is None else Place(shard, row) for shard, row, _ in zip(*places, strict=True)]
    return place_facts(facts, [None if place is None else moved.get(place, place) for place in old])
