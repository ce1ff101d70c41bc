"""What a manifest must fulfil: each check's name, default severity, words and bounds, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from audioml.errors import ParamsError, did_you_mean
from audioml.params import Severity, ValidateParams
from audioml.store.manifest import MANIFEST_TYPES

COLUMNS = tuple(MANIFEST_TYPES)
"""Columns that every manifest has."""

Table = Literal["clips", "labels"]


@dataclass(frozen=True)
class Check:
    """One expectation on one of two tables: ``clips`` (a row a clip) or ``labels`` (a row a label)."""

    name: str
    severity: Severity
    table: Table
    kind: str
    """Class name of the expectation in Great Expectations."""
    arguments: dict[str, Any]
    """What the expectation's class takes: column, bounds, ``mostly``."""
    expectation: str
    """The expectation in words, with its bounds."""
    advice: str
    """What to do when it fails."""
    show: Callable[[Any], str] = field(default=str, compare=False)
    """Writes an offending value with its unit."""


def build_checks(params: ValidateParams, n_labels: int = 2, several: bool = False) -> tuple[Check, ...]:
    """Return the checks that are not off, in the order in which they are reported.

    Parameters
    ----------
    params
        Bounds and severities.
    n_labels
        Different labels that the task needs at least.
    several
        A clip may have more than one label, so that its column `label` is none.

    Raises
    ------
    ParamsError
        When `params.severity` names a check that does not exist, or two bounds cross.
    """
    if params.min_duration_s > params.max_duration_s:
        raise ParamsError(
            f"params.yaml: 'validate.min_duration_s' is {params.min_duration_s:g}, above "
            f"'validate.max_duration_s', which is {params.max_duration_s:g}; swap them."
        )
    checks = {check.name: check for check in _all_checks(params, n_labels, several)}
    known = [*checks, *(["labels"] if params.labels is None else [])]
    for name in params.severity:
        if name not in known:
            raise ParamsError(
                f"params.yaml: 'validate.severity' names the check {name!r}, which does not exist."
                f"{did_you_mean(name, known)} Checks: {', '.join(known)}."
            )
    overridden = (
        Check(**{**vars(check), "severity": params.severity.get(check.name, check.severity)})
        for check in checks.values()
    )
    return tuple(check for check in overridden if check.severity != "off")


def _all_checks(params: ValidateParams, n_labels: int, several: bool) -> list[Check]:
    most = f"At least {params.mostly * 100:.4g} % of all clips" if params.mostly < 1 else "All clips"
    checks = [
        Check(
            "columns",
            "fail",
            "clips",
            "ExpectTableColumnsToMatchSet",
            {"column_set": list(COLUMNS), "exact_match": False},
            f"The manifest has the columns {', '.join(COLUMNS)}.",
            "Make the manifest again with: audioml run ingest",
        ),
        Check(
            "unique_clips",
            "fail",
            "clips",
            "ExpectColumnValuesToBeUnique",
            {"column": "clip_id"},
            "No two clips have the same bytes (clip_id).",
            "Remove the copies from the source, then: audioml run ingest",
            lambda value: f"clip_id {str(value)[:12]}",
        ),
        Check(
            "labelled",
            "fail",
            "clips",
            "ExpectColumnValuesToNotBeNull",
            {"column": "label"},
            "Every clip has a label.",
            "Look at data.pattern and data.label in params.yaml: they must give every path a label.",
        ),
        Check(
            "classes",
            "fail",
            "labels" if several else "clips",
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "label", "min_value": n_labels},
            f"There {'is' if n_labels == 1 else 'are'} at least {n_labels} different label{'s'[: n_labels > 1]}.",
            "Add recordings of another class, or correct data.pattern and data.label in params.yaml.",
        ),
        Check(
            "clips_per_label",
            "fail",
            "labels",
            "ExpectColumnValuesToBeBetween",
            {"column": "clips", "min_value": params.min_clips_per_label},
            f"Every label has at least {params.min_clips_per_label} clips.",
            "Add recordings of these labels or leave the labels out; the bound is validate.min_clips_per_label.",
            lambda value: "1 clip" if value == 1 else f"{int(value)} clips",
        ),
        Check(
            "label_balance",
            "warn",
            "labels",
            "ExpectColumnValuesToBeBetween",
            {"column": "imbalance", "max_value": params.max_label_imbalance},
            f"No label has more than {params.max_label_imbalance:g} times as many clips as another.",
            "Add recordings of the rare labels; the bound is validate.max_label_imbalance.",
            lambda value: f"{value:.4g} : 1",
        ),
        Check(
            "duration",
            "fail",
            "clips",
            "ExpectColumnValuesToBeBetween",
            {
                "column": "duration_s",
                "min_value": params.min_duration_s,
                "max_value": params.max_duration_s,
                "mostly": params.mostly,
            },
            f"{most} last {params.min_duration_s:g} to {params.max_duration_s:g} s.",
            "Remove or cut these recordings, or move validate.min_duration_s and validate.max_duration_s.",
            lambda value: f"{value:.4g} s",
        ),
        Check(
            "sample_rate",
            "fail",
            "clips",
            "ExpectColumnValuesToBeBetween",
            {"column": "sample_rate", "min_value": params.min_sample_rate, "mostly": params.mostly},
            f"{most} have a sample rate of at least {params.min_sample_rate} Hz.",
            "Record at a higher rate, or lower validate.min_sample_rate.",
            lambda value: f"{int(value)} Hz",
        ),
        Check(
            "clipping",
            "warn",
            "clips",
            "ExpectColumnValuesToBeBetween",
            {"column": "clipped_share", "max_value": params.max_clipped_share, "mostly": params.mostly},
            f"{most} have at most {params.max_clipped_share * 100:.4g} % of their samples at full scale.",
            "Record with a lower gain, or raise validate.max_clipped_share.",
            lambda value: f"{value * 100:.3g} % of samples at full scale",
        ),
        Check(
            "silence",
            "warn",
            "clips",
            "ExpectColumnValuesToBeBetween",
            {"column": "silent_share", "max_value": params.max_silent_share, "mostly": params.mostly},
            f"{most} have at most {params.max_silent_share * 100:.4g} % of their frames below -60 dBFS.",
            "Remove or trim the silent recordings, or raise validate.max_silent_share.",
            lambda value: f"{value * 100:.3g} % of frames silent",
        ),
    ]
    if params.labels is not None:
        allowed = Check(
            "labels",
            "fail",
            "labels" if several else "clips",
            "ExpectColumnValuesToBeInSet",
            {"column": "label", "value_set": params.labels},
            f"Every label is one of {', '.join(params.labels)}.",
            "Correct the labels of these clips, or add them to validate.labels.",
            lambda value: f"label {value!r}",
        )
        checks.insert(3, allowed)
    return checks
