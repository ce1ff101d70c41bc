"""The reference that a package carries for monitoring: what its clips are like, and what the model says of unseen ones.

Training clips say what audio the model knows. What it answers is taken of validation clips, as it is surer of those
that it was trained on. Needs pyarrow, as MLflow does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.audio.decode import Limits
from audioml.errors import DecodeError, StoreError
from audioml.store.files import write_atomic
from audioml.units import samples_to_seconds

if TYPE_CHECKING:
    import pandas as pd

    from audioml.inference.predictor import Answer

REFERENCE = "reference.parquet"
MEASURE_TYPES: dict[str, pa.DataType] = {
    "rms_dbfs": pa.float32(),
    "peak_dbfs": pa.float32(),
    "noise_dbfs": pa.float32(),
    "clipped_share": pa.float32(),
    "silent_share": pa.float32(),
    "bandwidth_hz": pa.float32(),
    "embedding": pa.list_(pa.float32()),
}
"""Columns of the log of predictions and of the reference: those of `Condition`, and the embedding."""
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "split": pa.string(),
        "group": pa.int32(),
        "duration_s": pa.float64(),
        "sample_rate": pa.int32(),
        "prediction": pa.string(),
        **MEASURE_TYPES,
    }
)
"""One row a clip. `group` numbers what belongs together in the splits, such as a speaker; null where each clip stands
alone. `prediction` is JSON, and null of training clips."""
ANSWERED = "validation"
"""Split of the clips whose answers are kept."""


class ReferenceClip(NamedTuple):
    """A clip for the reference."""

    clip_id: str
    split: str
    """train or validation."""
    group: int | None
    audio: bytes
    """The whole file."""


class MeasuringPredictor(Protocol):
    """What answers and measures clips: `audioml.inference.predictor.Predictor`."""

    def predict_each(
        self, clips: list[bytes], limits: Limits = ..., measured: bool = ...
    ) -> list[Answer | DecodeError]:
        """Return what is said of each clip, with its measures."""


def write_reference(path: Path, predictor: MeasuringPredictor, clips: Iterable[ReferenceClip]) -> int:
    """Write the reference, atomically, if there are clips; equal ones and equal answers make equal files.

    Clips that cannot be read are left out.

    Parameters
    ----------
    path
        Of the table.
    predictor
        The network that serves.
    clips
        Read one by one.

    Returns
    -------
    The clips in it.
    """
    rows = []
    for clip in clips:
        (answer,) = predictor.predict_each([clip.audio], measured=True)
        if isinstance(answer, DecodeError):
            continue
        assert answer.measures is not None, "it was asked for"
        row = {
            "clip_id": clip.clip_id,
            "split": clip.split,
            "group": clip.group,
            "duration_s": samples_to_seconds(answer.info.n_samples, answer.info.sample_rate),
            "sample_rate": answer.info.sample_rate,
            "prediction": json.dumps(answer.prediction, ensure_ascii=False) if clip.split == ANSWERED else None,
        }
        rows.append(row | answer.measures.values())
    if not rows:
        return 0
    with write_atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")
    return len(rows)


def read_reference(folder: Path) -> pd.DataFrame | None:
    """Read the reference of a package's folder of artifacts; None where it has none, as those of earlier versions.

    Raises
    ------
    StoreError
        When the file is damaged.
    """
    path = folder / REFERENCE
    if not path.exists():
        return None
    try:
        frame: pd.DataFrame = pq.read_table(path, schema=SCHEMA).to_pandas()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{path} is no table of reference clips ({error}). Fetch the package again, or train."
        ) from None
    return frame
