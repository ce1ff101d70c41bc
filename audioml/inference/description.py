"""What stands beside a model so that it can be used without the workspace it came from: model.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import audioml
from audioml.errors import StoreError
from audioml.store.files import read_json, write_json

MODEL, STREAM, DESCRIPTION = "model.onnx", "stream.onnx", "model.json"


@dataclass(frozen=True)
class Description:
    """How audio becomes features, and outputs become predictions."""

    name: str
    """The model's registered name."""
    clean: list[dict[str, Any]]
    """``{"name": ..., "params": {...}}`` of each plug-in of the cleaning chain, in order."""
    features: dict[str, Any]
    """``{"name": ..., "params": {...}}``: the feature plug-in and its whole section."""
    task: dict[str, Any]
    """``{"name": ..., "params": {...}}``: the task plug-in and its whole section."""
    model: dict[str, Any]
    """``{"name": ..., "params": {...}}``: for people; the network itself is in model.onnx."""
    targets: dict[str, Any]
    """What the task made from the training manifest, such as the labels."""
    input_shape: tuple[int, int | None]
    """(bins, frames) of one window; frames is None where each clip is a window of its own length."""
    temperature: float = 1.0
    """Divides raw outputs before the task merges them, so that probabilities are calibrated (Guo et al. 2017)."""
    stream_block: int | None = None
    """Frames of the features that the network takes at a time in a stream; None where it needs whole clips. Whether the
    model can answer streams depends on its features too: see `audioml.inference.streaming`."""
    variant: str = "float32"
    """Which variant of the network is in model.onnx: float32, int8 or pruned."""
    audioml_version: str = audioml.__version__

    @property
    def rounding(self) -> float:
        """Largest difference of merged outputs, relative to the larger of 1 and the largest, put down to rounding.

        With 8 bits the last bits of a feature, in which processors differ, decide now and then between two steps.
        """
        return 2e-2 if self.variant == "int8" else 1e-3

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON value of model.json."""
        return {**asdict(self), "input_shape": list(self.input_shape)}


def write_description(folder: Path, description: Description) -> None:
    """Write `model.json` into a folder."""
    write_json(folder / DESCRIPTION, description.as_dict())


def read_description(folder: Path) -> Description:
    """Read `model.json` of a folder.

    Raises
    ------
    StoreError
        When it is missing, or lacks or has keys that this version doesn't know.
    """
    path = folder / DESCRIPTION
    try:
        value = read_json(path)
        return Description(**{**value, "input_shape": tuple(value["input_shape"])})
    except FileNotFoundError:
        raise StoreError(f"{path} is missing, so {folder} holds no audioml model.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is not a description that audioml {audioml.__version__} can read ({error}). "
            "Use the version that made it, or train again."
        ) from None
