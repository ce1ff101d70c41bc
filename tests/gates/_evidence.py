"""Evidence by hand, for gates that look at figures alone."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from audioml.gates._evidence import Evidence, Side
from audioml.params import parse_params

MINIMAL = {
    "name": "tones",
    "data": {"layout": "folder", "source": "tones"},
    "features": {"name": "logmel"},
    "task": {"name": "classification"},
    "model": {"name": "bcresnet"},
}


def make_evidence(metrics: dict[str, float], champion: dict[str, float] | None = None, **changes: Any) -> Evidence:
    """Return what a gate would see of version 2, with these registered metrics, and of version 1 as champion."""
    given = {
        "workspace": Path("nowhere"),
        "params": parse_params(MINIMAL),
        "challenger": Side(2, metrics, Path("package")),
        "champion": None if champion is None else Side(1, champion, Path("other")),
        "primary": "test_accuracy",
        "higher_is_better": True,
        "paired": None,
        "not_paired": "nobody tried",
        "read_scores": lambda: None,
        "read_clips": lambda n: [],
        "serve": lambda: nullcontext("http://nowhere"),
    }
    return Evidence(**given | changes)
