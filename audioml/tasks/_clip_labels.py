"""The labels of clips as their task reads them: for most tasks the column `label`, for some several of it a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audioml.params import Params
from audioml.plugins import load_plugin

if TYPE_CHECKING:
    import pandas as pd

MIN_LABELS = 2
"""Different labels that most tasks need at least: of one there is nothing to tell apart."""


def labels_of(params: Params, manifest: pd.DataFrame) -> Sequence[Sequence[str]] | None:
    """Return the labels of each clip, none or more; None where a clip's one label is its column `label`.

    Raises
    ------
    DatasetError
        When a clip's column `label` is not what the task reads.
    """
    task = load_plugin("tasks", params.task.name)
    if not hasattr(task, "labels_of"):
        return None
    # What has no label at all is for the checks to report.
    labelled = manifest["label"].notna()
    found = iter(task.labels_of(params.plugin_section("tasks"), manifest[labelled]))
    return [next(found) if there else [] for there in labelled]


def min_labels(params: Params) -> int:
    """Return how many different labels the task needs at least."""
    return int(getattr(load_plugin("tasks", params.task.name), "MIN_LABELS", MIN_LABELS))


def is_open(params: Params) -> bool:
    """Tell whether test clips may be of labels that no training clip has, as of speakers that were never heard."""
    return bool(getattr(load_plugin("tasks", params.task.name), "OPEN_SET", False))


def count_labels(params: Params, manifest: pd.DataFrame) -> int:
    """Return the number of different labels. Raises as `labels_of`."""
    several = labels_of(params, manifest)
    return int(manifest["label"].nunique()) if several is None else len({label for own in several for label in own})
