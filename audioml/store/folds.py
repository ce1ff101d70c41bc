"""Folds of a cross-validation: what each is trained and judged on, and the table of their models' outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioml.store.files import hash_bytes, write_atomic

if TYPE_CHECKING:
    import pandas as pd

FOLDS = "models/folds.parquet"
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "fold": pa.int64(),
        "fold_name": pa.string(),
        "output": pa.list_(pa.float32()),
        "shape": pa.list_(pa.int64()),
    }
)
"""One row for each clip that was held out: what the model of its fold makes of it, flat, and that output's shape."""


@dataclass(frozen=True)
class Fold:
    """One fold."""

    index: int
    """From 0, in sorted order of the names, or of the numbers that they stand for."""
    name: str
    """The column's value; for drawn folds, a number from 1."""

    @property
    def item(self) -> str:
        """Name of the work item that trains it: ``fold-george``, safe as a file's name and different for each fold."""
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", self.name)
        return f"fold-{safe}" if safe == self.name else f"fold-{safe}-{hash_bytes(self.name.encode())[:8]}"


def list_folds(splits: pd.DataFrame) -> list[Fold]:
    """Return the folds of a table of splits, by index; none where there is no cross-validation."""
    if "fold_name" not in splits:
        return []
    known = splits.dropna(subset=["fold"]).drop_duplicates("fold").sort_values("fold")
    return [Fold(int(index), str(name)) for index, name in zip(known["fold"], known["fold_name"], strict=True)]


def splits_of_fold(splits: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return the splits by which the model of a fold is trained: the fold itself is ``test``.

    Clips that are in no fold (those of a fixed test set) are left out; the index of the rows stays.
    """
    inside = splits[splits["fold"].notna()]
    held_out = (inside["fold"] == fold).to_numpy(dtype=bool)
    validates = np.array([fold in folds for folds in inside["validates"]], dtype=bool)
    return inside[["clip_id", "fold"]].assign(split=np.select([held_out, validates], ["test", "validation"], "train"))


def write_outputs(path: Path, fold: Fold, clip_ids: Sequence[str], outputs: NDArray[np.float32]) -> None:
    """Write what the model of a fold makes of the clips that it was not trained on, outputs (clips, ...)."""
    n = len(clip_ids)
    columns = [
        list(clip_ids),
        [fold.index] * n,
        [fold.name] * n,
        [output.ravel() for output in outputs],
        [list(output.shape) for output in outputs],
    ]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    _write(path, pa.table(arrays, schema=SCHEMA))


def join_outputs(path: Path, parts: Sequence[Path]) -> None:
    """Write the tables of several folds as one; an empty one if there are none."""
    _write(path, pa.concat_tables([SCHEMA.empty_table(), *(pq.read_table(part, schema=SCHEMA) for part in parts)]))


def read_outputs(path: Path) -> tuple[pd.DataFrame, list[NDArray[np.float32]]]:
    """Return clip_id, fold and fold_name of each held-out clip, and the outputs in the same order."""
    table = pq.read_table(path, schema=SCHEMA)
    outputs: list[Any] = [
        np.asarray(flat, np.float32).reshape(shape)
        for flat, shape in zip(table["output"].to_pylist(), table["shape"].to_pylist(), strict=True)
    ]
    return table.select(["clip_id", "fold", "fold_name"]).to_pandas(), outputs


def _write(path: Path, table: pa.Table) -> None:
    with write_atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
