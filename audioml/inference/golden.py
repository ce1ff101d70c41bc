"""Golden clips: a few recordings that a package carries, each with what the served network made of it.

Whoever loads a package, on another machine or with other libraries, can see whether it still answers as it did where it
was made. Needs pyarrow, as MLflow does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioml.errors import DecodeError, StoreError
from audioml.store.files import write_atomic

GOLDEN = "golden.parquet"
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "audio": pa.binary(),
        "output": pa.list_(pa.float32()),
        "shape": pa.list_(pa.int64()),
        "tolerance": pa.float64(),
    }
)
"""One row a clip: the whole audio file, the clip's merged output, flat, its shape, and by how much another may differ,
relative to the larger of 1 and the largest number in it."""


class OutputsPredictor(Protocol):
    """What makes outputs of clips: `audioml.inference.predictor.Predictor`."""

    def predict_outputs(self, clips: Sequence[bytes]) -> NDArray[Any]:
        """Return each clip's merged output, ``(clips, ...)``."""


def write_golden(path: Path, predictor: OutputsPredictor, clips: Sequence[tuple[str, bytes]], tolerance: float) -> None:
    """Write golden clips with what a predictor makes of them; equal clips and outputs make equal files.

    Parameters
    ----------
    path
        Written atomically.
    predictor
        The network that serves.
    clips
        Id and whole audio file of each.
    tolerance
        What is put down to rounding: `Description.rounding`.

    Raises
    ------
    DecodeError
        When a clip cannot be read.
    """
    outputs = [np.asarray(predictor.predict_outputs([audio])[0], np.float32) for _, audio in clips]
    columns = [
        [clip_id for clip_id, _ in clips],
        [audio for _, audio in clips],
        [output.ravel() for output in outputs],
        [list(output.shape) for output in outputs],
        [tolerance] * len(clips),
    ]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    with write_atomic(path) as temporary:
        pq.write_table(pa.table(arrays, schema=SCHEMA), temporary, compression="zstd")


@dataclass(frozen=True, eq=False)
class GoldenClip:
    """A recording, and what the served network made of it where the package was made."""

    clip_id: str
    audio: bytes
    """The whole file."""
    output: NDArray[np.float32]
    """The clip's merged output."""
    tolerance: float
    """By how much another may differ, relative to the larger of 1 and the largest number in it."""


def read_golden(folder: Path) -> list[GoldenClip]:
    """Read a package's golden clips; none where it has no such file, as those of earlier versions.

    Raises
    ------
    StoreError
        When the file is damaged.
    """
    path = folder / GOLDEN
    if not path.exists():
        return []
    try:
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path} is no table of golden clips ({error}). Fetch the package again, or train.") from None
    outputs = [np.array(row["output"], np.float32).reshape(row["shape"]) for row in rows]
    return [
        GoldenClip(row["clip_id"], row["audio"], output, row["tolerance"])
        for row, output in zip(rows, outputs, strict=True)
    ]


def check_golden(predictor: OutputsPredictor, folder: Path) -> int:
    """Compare what a predictor makes of a package's golden clips with what the package expects.

    Parameters
    ----------
    predictor
        Loaded from the same folder.
    folder
        Of the package's artifacts.

    Returns
    -------
    The clips that were compared; 0 where the package has none, as those of earlier versions.

    Raises
    ------
    StoreError
        When an output differs by more than its tolerance, or a clip cannot be read any more; when the file is damaged.
    """
    clips = read_golden(folder)
    for clip in clips:
        name = f"The golden clip {clip.clip_id[:12]}"
        try:
            found = np.asarray(predictor.predict_outputs([clip.audio])[0])
        except DecodeError as error:
            raise StoreError(f"{name} cannot be read, but could where the package was made: {error}") from None
        _compare(name, found, clip.output, clip.tolerance)
    return len(clips)


def _compare(name: str, found: NDArray[Any], expected: NDArray[np.float32], tolerance: float) -> None:
    advice = "The package is not what was trained, or is run by other libraries than it names: it must not serve."
    if found.shape != expected.shape:
        raise StoreError(f"{name} gives an output of shape {found.shape}, but {expected.shape} was expected. {advice}")
    if not expected.size:
        return
    difference = np.abs(found - expected)
    worst = np.unravel_index(int(difference.argmax()), expected.shape)
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    # A difference that is no number is none that is allowed.
    if not difference[worst] <= allowed:
        at = ", ".join(str(int(i)) for i in worst)
        raise StoreError(
            f"{name} gives {found[worst]:.6g} at [{at}] of its output, but {expected[worst]:.6g} was expected, within "
            f"{allowed:.2g}. {advice}"
        )
