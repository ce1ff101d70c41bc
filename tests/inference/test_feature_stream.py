from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from audioml.errors import DecodeError
from audioml.features import logmel, mfcc, waveform
from audioml.inference.extraction import Extractor
from audioml.inference.feature_stream import FeatureStream

CASES = {
    "logmel": ("logmel", logmel.Params()),
    "logmel, long hops": ("logmel", logmel.Params(n_fft=512, win_length=511, hop_length=300)),
    "logmel, short hops": ("logmel", logmel.Params(n_fft=1024, win_length=1024, hop_length=64)),
    "mfcc": ("mfcc", mfcc.Params(top_db=None)),
    "mfcc, no deltas": ("mfcc", mfcc.Params(top_db=None, deltas=0)),
    "waveform": ("waveform", waveform.Params()),
}
LENGTHS = (1, 159, 160, 1000, 4001, 16000)
EXACT_DB = 1e-4
"""Absolute, in dB, also of coefficients and deltas."""


def cut(samples: np.ndarray, largest: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Parts of drawn sizes, some of them empty."""
    generator, start = np.random.default_rng(seed), 0
    while start < len(samples):
        size = int(generator.integers(0, largest + 1))
        yield samples[start : start + size]
        start += size


def make_noise(n_samples: int) -> np.ndarray:
    """Noise with a gap of silence, as silent frames are made in another way."""
    samples = np.random.default_rng(1).normal(0, 0.1, n_samples).astype(np.float32)
    samples[n_samples // 3 : n_samples // 2] = 0
    return samples


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("largest", [37, 700, 5000])
def test_frames_are_those_of_the_whole(case: str, largest: int) -> None:
    name, params = CASES[case]
    extractor = Extractor(name, params)
    hop = getattr(params, "hop_length", 1)
    for n_samples in LENGTHS:
        samples = make_noise(n_samples)
        stream = FeatureStream(extractor, hop)
        parts = [stream.feed(part) for part in cut(samples, largest)]
        found = np.concatenate([*parts, stream.finish()], axis=1)
        expected = extractor.plugin.extract(params, samples[np.newaxis])[0]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=EXACT_DB, rtol=0)
        assert stream.n_frames == expected.shape[1]


@pytest.mark.parametrize("case", CASES)
def test_frames_come_as_soon_as_they_are_certain(case: str) -> None:
    """What they reach to is not far, and no more is held than that."""
    name, params = CASES[case]
    hop = getattr(params, "hop_length", 1)
    extractor = Extractor(name, params)
    reach = extractor.plugin.frame_reach(params)
    stream = FeatureStream(extractor, hop)
    for second in range(1, 4):
        stream.feed(make_noise(16000))
        assert stream.n_frames == extractor.plugin.shape_of(params, 16000 * second)[1] - reach
        assert len(stream._held) < (2 * reach + 1) * hop + 1


def test_a_stream_without_samples_is_empty() -> None:
    stream = FeatureStream(Extractor("logmel", logmel.Params()), 160)
    stream.feed(np.empty(0, np.float32))
    with pytest.raises(DecodeError, match="before its first sample"):
        stream.finish()


def test_samples_that_are_too_large_are_named() -> None:
    stream = FeatureStream(Extractor("logmel", logmel.Params()), 160)
    with pytest.raises(DecodeError, match="not_finite"):
        stream.feed(np.full(16000, 1e30, np.float32) * np.sin(np.arange(16000), dtype=np.float32))
