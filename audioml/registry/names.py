"""Names as MLflow takes them. Metrics carry labels (``f1/dog``), and labels are whatever a folder is called."""

from __future__ import annotations

import re

FORBIDDEN = re.compile(r"[^\w.\- :]")
MAX_LENGTH = 240
"""MLflow's bound is 250; tags put a prefix before the name."""


def metric_name(name: str) -> str:
    """Return a name for a metric with what MLflow refuses in its code: ``f1/c#`` becomes ``f1/c_23_``.

    Slashes group metrics in MLflow's pages and stay; empty parts and parts of dots only become ``_``.
    """
    parts = [FORBIDDEN.sub(lambda match: f"_{ord(match[0]):x}_", part) for part in name.split("/")]
    return "/".join("_" if part.strip(".") == "" else part for part in parts)[:MAX_LENGTH]
