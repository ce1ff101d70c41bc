"""Lineage in both directions: from a prediction to the recordings behind it, and from a recording to its models."""
