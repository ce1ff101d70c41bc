"""The length of one model input, and the shape of its features."""

from __future__ import annotations

from types import ModuleType

from audioml.params import FeatureParams
from audioml.plugins import features_are_audio
from audioml.units import seconds_to_samples


def window_samples(params: FeatureParams) -> int:
    """Return the samples of one window of `duration_s`, as `audioml.audio.prepare` cuts them; at least one."""
    return max(1, seconds_to_samples(params.duration_s, params.sample_rate))


def stores_audio(name: str, params: FeatureParams) -> bool:
    """Tell whether windows are stored with their samples: where that is asked for, unless the features are these."""
    return params.keep_audio and not features_are_audio(name)


def stored_shape(plugin: ModuleType, params: FeatureParams) -> tuple[int, int | None]:
    """Return (bins, frames) of the windows that a feature plug-in makes; frames is None where each has its own."""
    bins, frames = plugin.feature_shape(params)
    return bins, None if params.length == "whole" else frames
