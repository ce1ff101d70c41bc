"""Parts: models beside the final one, by which splits each is trained and judged, and the table of their outputs.

A part of the kind ``fold`` is trained on all other folds and judged on its own; one of the kind ``share`` is trained on
a share of the final model's training clips, and judged on the same test clips.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioml.store.files import hash_bytes, write_atomic

if TYPE_CHECKING:
    import pandas as pd

PARTS = "models/parts.parquet"
Kind = Literal["fold", "share"]
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "kind": pa.string(),
        "name": pa.string(),
        "output": pa.list_(pa.float32()),
        "shape": pa.list_(pa.int64()),
        "targets": pa.dictionary(pa.int32(), pa.string()),
    }
)
"""One row for each clip that a part's model is judged on: what it makes of the clip, flat, that output's shape, and
the model's targets as JSON, the same for all clips of a part."""


@dataclass(frozen=True)
class Part:
    """One model beside the final one."""

    kind: Kind
    name: str
    """Of a fold, the column's value, or a number from 1 where folds are drawn; of a share, the number: ``0.25``."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def item(self) -> str:
        """Name of the work item that trains it: ``fold-george``, safe as a file's name and different for each part."""
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", self.name)
        item = f"{self.kind}-{safe}"
        return item if safe == self.name else f"{item}-{hash_bytes(self.name.encode())[:8]}"


def list_parts(splits: pd.DataFrame) -> list[Part]:
    """Return the parts of a table of splits: folds, then shares from the smallest."""
    return [*list_folds(splits), *list_shares(splits)]


def list_folds(splits: pd.DataFrame) -> list[Part]:
    """Return the folds by their numbers; none where there is no cross-validation."""
    if "fold_name" not in splits:
        return []
    known = splits.dropna(subset=["fold"]).drop_duplicates("fold").sort_values("fold")
    return [Part("fold", str(name)) for name in known["fold_name"]]


def list_shares(splits: pd.DataFrame) -> list[Part]:
    """Return the shares of the training clips from the smallest; none where there is no learning curve."""
    return [Part("share", str(share)) for share in np.unique(splits["share"].dropna())] if "share" in splits else []


def splits_of(splits: pd.DataFrame, part: Part) -> pd.DataFrame:
    """Return the splits by which the model of a part is trained: what it is judged on is ``test``.

    Left out are, for a fold, clips of a fixed test set, which are in no fold, and for a share, training clips
    that it has not. The columns are ``clip_id`` and ``split``; the index of the rows stays.
    """
    if part.kind == "share":
        has = (splits["split"] != "train") | (splits["share"] <= float(part.name))
        return splits.loc[has, ["clip_id", "split"]]
    inside = splits[splits["fold"].notna() | (splits["split"] == "train")]
    held_out = (inside["fold_name"] == part.name).to_numpy(dtype=bool)
    fold = int(inside.loc[held_out, "fold"].iloc[0])
    validates = np.array([fold in folds for folds in inside["validates"]], dtype=bool)
    return inside[["clip_id"]].assign(split=np.select([held_out, validates], ["test", "validation"], "train"))


def write_outputs(
    path: Path, part: Part, clip_ids: Sequence[str], outputs: NDArray[np.float32], targets: dict[str, Any]
) -> None:
    """Write what the model of a part makes of the clips that it is judged on, outputs (clips, ...), and its targets."""
    n = len(clip_ids)
    columns = [
        list(clip_ids),
        [part.kind] * n,
        [part.name] * n,
        [output.ravel() for output in outputs],
        [list(output.shape) for output in outputs],
        [json.dumps(targets, ensure_ascii=False)] * n,
    ]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    _write(path, pa.table(arrays, schema=SCHEMA))


def join_outputs(path: Path, tables: Sequence[Path]) -> None:
    """Write the tables of several parts as one; an empty one if there are none."""
    _write(path, pa.concat_tables([SCHEMA.empty_table(), *(pq.read_table(table, schema=SCHEMA) for table in tables)]))


def read_outputs(path: Path, kind: Kind) -> tuple[pd.DataFrame, list[NDArray[np.float32]]]:
    """Return clip_id and name of the part for each clip that parts of a kind are judged on, and the outputs alike."""
    table = pq.read_table(path, schema=SCHEMA, filters=[("kind", "==", kind)])
    outputs: list[Any] = [
        np.asarray(flat, np.float32).reshape(shape)
        for flat, shape in zip(table["output"].to_pylist(), table["shape"].to_pylist(), strict=True)
    ]
    return table.select(["clip_id", "name"]).to_pandas(), outputs


def read_targets(path: Path, kind: Kind) -> dict[str, dict[str, Any]]:
    """Return the targets of the model of each part of a kind, by its name."""
    table = pq.read_table(path, columns=["name", "targets"], filters=[("kind", "==", kind)])
    pairs = table.to_pandas().astype(str).drop_duplicates("name")
    return {name: json.loads(text) for name, text in zip(pairs["name"], pairs["targets"], strict=True)}


def _write(path: Path, table: pa.Table) -> None:
    with write_atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
