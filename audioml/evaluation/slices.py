"""The primary metric on parts of the test set: by each column of the source, by duration, by level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.evaluation.intervals import bootstrap_interval
from audioml.store.manifest import MANIFEST_TYPES

FORMAT_COLUMNS = ("sample_rate", "channels", "format")
"""Columns of every manifest that are slices where clips differ in them."""
TERCILES = {
    "duration_s": ("duration", "s", ("short", "medium", "long")),
    "rms_dbfs": ("level", "dBFS", ("quiet", "medium", "loud")),
}
"""Measured columns that are cut into three parts of about equal size: the slice's name, unit and values."""
COLUMNS = ["slice", "value", "n", "metric", "low", "high"]


def measure_slices(
    manifest: pd.DataFrame,
    scores: npt.ArrayLike,
    max_values: int,
    samples: int,
    confidence: float,
    generator: np.random.Generator,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """Return one row per slice, worst first.

    Parameters
    ----------
    manifest
        The clips that are judged, one row a clip.
    scores
        Numerator and denominator of each clip, shape ``(n, 2)``, in the manifest's order.
    max_values
        A column with more distinct values than this is left out.
    samples, confidence, generator
        As in `bootstrap_interval`.
    higher_is_better
        False for error rates.

    Returns
    -------
    DataFrame
        ``slice`` (the column's name), ``value``, ``n`` (clips), ``metric``, ``low``, ``high``. A column with one
        value only is no slice.
    """
    scores = np.asarray(scores, dtype=np.float64)
    rows = []
    for name, values in slice_columns(manifest, max_values).items():
        for value in sorted(values.unique()):
            here = (values == value).to_numpy()
            interval = bootstrap_interval(scores[here], samples, confidence, generator)
            rows.append([name, value, interval.n, interval.value, interval.low, interval.high])
    table = pd.DataFrame(rows, columns=COLUMNS)
    # Between slices of the same metric, the larger one is better known and comes first.
    table["_n"] = -table["n"]
    table = table.sort_values(["metric", "_n", "slice", "value"], ascending=[higher_is_better, True, True, True])
    return table[COLUMNS].reset_index(drop=True)


def slice_columns(manifest: pd.DataFrame, max_values: int) -> dict[str, pd.Series[str]]:
    """Return each column that makes slices, as text: the source's own, the format's, and terciles."""
    own = [str(column) for column in manifest.columns if column not in MANIFEST_TYPES]
    columns: dict[str, pd.Series[str]] = {}
    for name in [*own, *(column for column in FORMAT_COLUMNS if column in manifest)]:
        text = manifest[name].map(lambda value: "(none)" if pd.isna(value) else str(value)).astype(str)
        if 2 <= text.nunique() <= max_values:
            columns[name] = text
    for column, (name, unit, parts) in TERCILES.items():
        if column in manifest and name not in columns:
            cut = _cut_terciles(manifest[column], unit, parts)
            if cut.nunique() > 1:
                columns[name] = cut
    return columns


def _cut_terciles(values: pd.Series[float], unit: str, parts: tuple[str, str, str]) -> pd.Series[str]:
    low, high = values.quantile([1 / 3, 2 / 3])
    bounds = (f"up to {low:.3g}", f"{low:.3g} to {high:.3g}", f"above {high:.3g}")
    part = np.where(values <= low, 0, np.where(values <= high, 1, 2))
    return pd.Series([f"{parts[i]}: {bounds[i]} {unit}" for i in part], index=values.index, dtype=str)
