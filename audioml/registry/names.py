"""Names as MLflow takes them. Metrics carry labels (``f1/dog``), and labels are whatever a folder is called."""

from __future__ import annotations

import re
from typing import Any

FORBIDDEN = re.compile(r"[^\w.\- :]")
MAX_LENGTH = 240
"""MLflow's bound is 250; tags put a prefix before the name."""


def flatten_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of metrics.json by one name each: ``test_accuracy``, ``test_f1/yes``."""
    flat: dict[str, float] = {}
    for split, values in metrics.items():
        for name, value in values.items():
            if isinstance(value, dict):
                flat |= {f"{split}_{name}/{label}": float(number) for label, number in value.items()}
            else:
                flat[f"{split}_{name}"] = float(value)
    return flat


def metric_name(name: str) -> str:
    """Return a name for a metric with what MLflow refuses in its code: ``f1/c#`` becomes ``f1/c_23_``.

    Slashes group metrics in MLflow's pages and stay; empty parts and parts of dots only become ``_``.
    """
    parts = [FORBIDDEN.sub(lambda match: f"_{ord(match[0]):x}_", part) for part in name.split("/")]
    return "/".join("_" if part.strip(".") == "" else part for part in parts)[:MAX_LENGTH]
