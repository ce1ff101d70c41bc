"""The settings with which models answer streams, and without."""

from __future__ import annotations

from typing import Any

STREAMING: dict[str, tuple[str, dict[str, Any], int]] = {
    "gru": ("gru", {"bidirectional": False}, 1),
    "lstm": ("lstm", {"bidirectional": False}, 1),
    "crnn": ("crnn", {"bidirectional": False, "causal": True}, 2),
    "crnn, frames in fours": ("crnn", {"bidirectional": False, "causal": True, "time_pooling": 4, "layers": 2}, 4),
    "conformer": ("conformer", {"chunk_frames": 3, "left_chunks": 2, "layers": 2}, 12),
    "conformer, no chunk before": ("conformer", {"chunk_frames": 2, "left_chunks": 0, "kernel": 4, "layers": 2}, 8),
}
"""By name: the model, its params, and the frames that it takes at a time."""
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "gru": ("gru", {}),
    "lstm": ("lstm", {}),
    "crnn": ("crnn", {}),
    "crnn, one direction": ("crnn", {"bidirectional": False}),
    "conformer": ("conformer", {"layers": 2}),
}
