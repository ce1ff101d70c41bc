"""The length of one model input."""

from __future__ import annotations

from audioml.params import FeatureParams
from audioml.units import seconds_to_samples


def window_samples(params: FeatureParams) -> int:
    """Return the samples of one window of `duration_s`, as `audioml.audio.prepare` cuts them; at least one."""
    return max(1, seconds_to_samples(params.duration_s, params.sample_rate))
