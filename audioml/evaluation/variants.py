"""What each variant of a network costs, and what it is worth: float32, 8 bits, pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audioml.evaluation.cost import count_multiply_adds, time_predictions
from audioml.inference.description import MODEL


@dataclass(frozen=True)
class VariantFigures:
    """Of one variant."""

    name: str
    """float32, int8 or pruned."""
    serves: bool
    """Whether it is the package's model.onnx."""
    accepted: bool
    validation: float
    """The primary metric on validation clips, when it was made."""
    loss: float
    """By how much that is worse than float32."""
    size_bytes: int
    """Of its ONNX file."""
    value: float = np.nan
    """The primary metric on test clips; NaN, as all below, of one that was refused: the package has it not."""
    multiply_adds: int = 0
    """Of the network, for one window."""
    latency_p50_s: float = np.nan
    """From an audio file in memory to a prediction, as `Cost` has it."""

    @property
    def is_timed(self) -> bool:
        """Whether its answers were timed."""
        return not np.isnan(self.latency_p50_s)

    @property
    def network(self) -> str:
        """Its file in the package."""
        return MODEL if self.serves else f"{self.name}.onnx"

    def measure(self, folder: Path, shape: tuple[int, int], value: float, clips: Sequence[bytes]) -> VariantFigures:
        """Return the figures with what is measured of a packaged one.

        Parameters
        ----------
        folder
            As `Predictor.load` takes it.
        shape
            (bins, frames) of a window.
        value
            The primary metric on test clips.
        clips
            Audio files to time.
        """
        seconds = time_predictions(folder, clips, self.network)
        return replace(
            self,
            value=value,
            multiply_adds=count_multiply_adds(folder / self.network, shape),
            latency_p50_s=float(np.median(seconds)) if seconds else np.nan,
        )


def read_variants(run: Mapping[str, Any]) -> list[VariantFigures]:
    """Return what models/run.json says of variants, float32 first; none where nothing else was made."""
    made = run.get("variants", {})
    return [
        VariantFigures(name, of["serves"], of["accepted"], of["validation"], of["loss"], of["bytes"])
        for name, of in made.items()
    ]


def describe_variants(primary: str, variants: Sequence[VariantFigures]) -> dict[str, dict[str, Any]]:
    """Return the section of metrics.json: what does not hang on the machine, by variant."""
    described = {}
    for variant in variants:
        figures = {"bytes": variant.size_bytes, f"validation_{primary}": variant.validation, "loss": variant.loss}
        if variant.accepted:
            figures |= {"multiply_adds": variant.multiply_adds, primary: variant.value}
        described[variant.name] = figures | {"accepted": variant.accepted, "serves": variant.serves}
    return described
