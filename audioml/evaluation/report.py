"""The evaluation as one HTML page that holds all it shows: numbers, curves, spectrograms and sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from audioml.evaluation.calibration import Calibration
from audioml.evaluation.cost import Cost
from audioml.evaluation.explanation import Explanation
from audioml.evaluation.folds import CrossValidation, draw_folds
from audioml.evaluation.intervals import MIN_GROUPS, Grouping, Interval
from audioml.evaluation.plots import to_data_uri, to_svg
from audioml.evaluation.unknown import Strangers
from audioml.evaluation.variants import VariantFigures

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
MAX_SLICES = 60
MAX_MATRIX_LABELS = 60
"""A confusion matrix of more labels than this is given as its most frequent confusions only."""
MAX_CONFUSIONS = 12
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Mistake:
    """A clip that the model got wrong, with what is needed to see and hear why."""

    path: str
    actual: str
    predicted: str
    confidence: float | None
    """Probability that the model gave to what it predicted."""
    duration_s: float
    shown_s: float
    """Length of what is shown and played, from the start of the clip."""
    sample_rate: int
    """Of what is shown, in Hz."""
    spectrogram: bytes
    """PNG."""
    audio: bytes
    """WAV."""
    details: dict[str, str] = field(default_factory=dict)
    """The source's own columns, such as the speaker."""

    @property
    def spectrogram_uri(self) -> str:
        """The picture as a ``data:`` address."""
        return to_data_uri(self.spectrogram, "image/png")

    @property
    def audio_uri(self) -> str:
        """The sound as a ``data:`` address."""
        return to_data_uri(self.audio, "audio/wav")


@dataclass(frozen=True)
class Evaluation:
    """All that the report shows."""

    name: str
    metric: str
    """Name of the primary metric."""
    headline: Interval
    confidence: float
    counts: dict[str, int]
    """Clips of each split."""
    hours: float
    metrics: dict[str, float]
    """All metrics of the test set, flat."""
    validation: float | None
    """The primary metric on the validation set."""
    tables: dict[str, pd.DataFrame]
    """What the task gives; one with the columns actual and predicted becomes a confusion matrix."""
    slices: pd.DataFrame
    mistakes: list[Mistake]
    n_mistakes: int
    curves: str | None
    """SVG of the training curves."""
    card: dict[str, str]
    """Where the model comes from: run, commit, digests, versions."""
    params: str
    """params.yaml as text."""
    figures: dict[str, str] = field(default_factory=dict)
    """SVG of figures that the task wants in the report, by name."""
    grouping: Grouping | None = None
    """What was drawn whole for the intervals; None where clips were drawn one by one."""
    calibration: Calibration | None = None
    reliability: str | None = None
    """SVG of the calibration."""
    noise: pd.DataFrame | None = None
    """``snr_db``, ``n``, ``metric``, ``low``, ``high``."""
    noise_name: str = ""
    noise_curve: str | None = None
    """SVG of it."""
    strangers: Strangers | None = None
    cost: Cost | None = None
    variants: list[VariantFigures] = field(default_factory=list)
    """Float32 first; none where it is the only one."""
    max_loss: float = 0.0
    """What a variant may lose of the primary metric on validation clips."""
    explanations: list[Explanation] = field(default_factory=list)
    explained: str = ""
    """Why there are no explanations, where there are none."""
    folds: CrossValidation | None = None
    """What the models of the folds make of held-out clips, where there is cross-validation."""
    learning_curve: pd.DataFrame | None = None
    """``share``, ``train_clips``, ``metric``, ``low``, ``high``, where there are models of shares."""
    learning_plot: str | None = None
    """SVG of it."""


def render_report(evaluation: Evaluation) -> str:
    """Return the page as HTML. It runs no script and asks nothing of any host."""
    own = resources.files("audioml.evaluation")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": format_percent, "number": format_number, "short": format_short}
    template = environment.from_string(own.joinpath("report.html.j2").read_text(encoding="utf-8"))
    tables, folds = dict(evaluation.tables), evaluation.folds
    confusion = next((name for name, table in tables.items() if list(table.columns) == ["actual", "predicted"]), None)
    pairs = tables.pop(confusion) if confusion else None
    return template.render(
        evaluation=evaluation,
        style=own.joinpath("report.css").read_text(encoding="utf-8"),
        policy=POLICY,
        matrix=None if pairs is None else count_confusions(pairs),
        confusions=[] if pairs is None else list_confusions(pairs),
        tables={name: describe_table(table) for name, table in tables.items()},
        min_groups=MIN_GROUPS,
        slices=evaluation.slices.head(MAX_SLICES).to_dict("records"),
        fold_rows=folds.table.to_dict("records") if folds else [],
        fold_plot=to_svg(draw_folds(folds, evaluation.metric), "folds") if folds else None,
        hidden_slices=max(0, len(evaluation.slices) - MAX_SLICES),
    )


def count_confusions(pairs: pd.DataFrame) -> dict[str, Any] | None:
    """Return the confusion matrix: labels, and rows of counts with their share of the row; None if too large."""
    counts = pd.crosstab(pairs["actual"], pairs["predicted"])
    labels = sorted(set(counts.index) | set(counts.columns))
    if len(labels) > MAX_MATRIX_LABELS:
        return None
    matrix = counts.reindex(index=labels, columns=labels, fill_value=0).to_numpy(dtype=int)
    totals = matrix.sum(axis=1).clip(min=1)
    rows = [
        {
            "label": label,
            "cells": [
                {"count": int(count), "share": float(count / total), "label": other}
                for count, other in zip(row, labels, strict=True)
            ],
        }
        for label, row, total in zip(labels, matrix, totals, strict=True)
    ]
    return {"labels": labels, "rows": rows}


def list_confusions(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the most frequent confusions: actual, predicted, count, and share of the actual label's clips."""
    wrong = pairs[pairs["actual"] != pairs["predicted"]]
    counts = wrong.value_counts(["actual", "predicted"]).rename("count").reset_index()
    counts = counts.sort_values(["count", "actual", "predicted"], ascending=[False, True, True])
    totals = pairs["actual"].value_counts().reindex(counts["actual"]).to_numpy()
    counts["share"] = counts["count"].to_numpy() / totals
    confusions: list[dict[str, Any]] = counts.head(MAX_CONFUSIONS).to_dict("records")  # type: ignore[assignment]
    return confusions


def describe_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table's columns and rows, with those columns marked whose values are shares from 0 to 1."""
    shares = [
        str(name)
        for name in table.columns
        if pd.api.types.is_float_dtype(table[name]) and table[name].dropna().between(0, 1).all()
    ]
    return {"columns": [str(c) for c in table.columns], "rows": table.to_dict("records"), "shares": shares}


def format_percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage; all and nothing without digits, and never rounded up to all."""
    if share is None or pd.isna(share):
        return "–"
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) >= 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    return ("100" if share == 1 else "0" if share == 0 else text) + f"{NO_BREAK_SPACE}%"


def format_number(value: Any) -> str:
    """Return a number as people read it; anything else as text."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def format_short(value: float) -> str:
    """Return a large number with three digits and its unit prefix, such as 5.31 M."""
    exponent = 0 if value < 1000 else min(4, int(np.log10(value)) // 3)
    return f"{value / 1000**exponent:.3g}{NO_BREAK_SPACE}{'kMGT'[exponent - 1]}" if exponent else f"{value:.3g}"
