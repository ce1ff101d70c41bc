"""The exact clips behind a model: what train leaves beside the package, and registration keeps with the version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.errors import StoreError
from audioml.store.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

TRAINING_CLIPS = "models/training_clips.parquet"
INIT_FROM_TAG = "audioml.init_from"
"""Of a training run: ``NAME/VERSION`` of the model, or the path, whose weights it started from."""
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "path": pa.string(),
        "start_s": pa.float64(),
        "group": pa.string(),
        "split": pa.string(),
        "features": pa.string(),
        "packaged": pa.bool_(),
    }
)
"""One row a clip that had features. `group` is its value in the column `split.group`, null without one; `split` is
train (its weights come from it), validation (it chose the epoch, the temperature and the like) or test (it was
measured on it); `features` is the file name of the feature shard; `packaged` says whether the package carries it."""


def write_training_clips(path: Path, clips: pd.DataFrame) -> None:
    """Write the table sorted by path and start; equal tables make equal files."""
    ordered = clips.sort_values(["path", "start_s", "clip_id"], kind="stable")
    table = pa.Table.from_pandas(ordered[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    with write_atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def read_training_clips(paths: Sequence[Path]) -> pd.DataFrame:
    """Read one table, or several of one model as one: of a clip that is in more than one, the last row counts.

    Raises
    ------
    StoreError
        When one is missing, or is no such table.
    """
    try:
        tables = [pq.read_table(path, schema=SCHEMA) for path in paths]
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is missing. Make it with: audioml run train") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{paths[0].parent} holds no table of training clips: {error}") from None
    clips: pd.DataFrame = pa.concat_tables([SCHEMA.empty_table(), *tables]).to_pandas()
    return clips.drop_duplicates("clip_id", keep="last", ignore_index=True)
