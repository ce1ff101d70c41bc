"""The primary metric on parts of the test set: by each column of the source, by duration, by level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.evaluation.intervals import Interval
from audioml.store.manifest import MANIFEST_TYPES

FORMAT_COLUMNS = ("sample_rate", "channels", "format")
"""Columns of every manifest that are slices where clips differ in them."""
TERCILES = {
    "duration_s": ("duration", "s", ("short", "medium", "long")),
    "rms_dbfs": ("level", "dBFS", ("quiet", "medium", "loud")),
}
"""Measured columns that are cut into three parts of about equal size: the slice's name, unit and values."""
COLUMNS = ["slice", "value", "n", "metric", "low", "high", "differs"]


def measure_slices(
    manifest: pd.DataFrame,
    interval_of: Callable[[npt.NDArray[np.bool_]], Interval],
    max_values: int,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """Return one row per slice, worst first.

    Parameters
    ----------
    manifest
        The clips that are judged, one row a clip.
    interval_of
        Gives the metric, with its interval, of the clips that a mask ``(n,)`` chooses.
    max_values
        A column with more distinct values than this is left out.
    higher_is_better
        False for error rates.

    Returns
    -------
    DataFrame
        ``slice`` (the column's name), ``value``, ``n`` (clips), ``metric``, ``low``, ``high``, and ``differs``:
        worse or better where the interval excludes the value of all clips, else empty. A column with one value only
        is no slice.
    """
    overall = interval_of(np.ones(len(manifest), dtype=bool)).value
    rows = []
    for name, values in slice_columns(manifest, max_values).items():
        for value in sorted(values.unique()):
            interval = interval_of((values == value).to_numpy())
            differs = _compare(interval, overall, higher_is_better)
            rows.append([name, value, interval.n, interval.value, interval.low, interval.high, differs])
    table = pd.DataFrame(rows, columns=COLUMNS)
    # Between slices of the same metric, the larger one is better known and comes first.
    table["_n"] = -table["n"]
    table = table.sort_values(["metric", "_n", "slice", "value"], ascending=[higher_is_better, True, True, True])
    return table[COLUMNS].reset_index(drop=True)


def _compare(interval: Interval, overall: float, higher_is_better: bool) -> str:
    if interval.low <= overall <= interval.high or np.isnan([overall, interval.low]).any():
        return ""
    return "better" if (interval.low > overall) == higher_is_better else "worse"


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
