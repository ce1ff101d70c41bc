from __future__ import annotations

import numpy as np
import pytest

from audioml.audio.resample import StreamResampler, resample


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48000, 16000), (44100, 16000), (8000, 16000), (16000, 16000)])
@pytest.mark.parametrize("largest", [50, 5000, 100_000])
def test_parts_become_the_samples_of_the_whole(from_rate: int, to_rate: int, largest: int) -> None:
    generator = np.random.default_rng(0)
    audio = generator.normal(0, 0.2, 50_001).astype(np.float32)
    resampler, found, start = StreamResampler(from_rate, to_rate), [], 0
    while start < len(audio):
        size = int(generator.integers(0, largest))
        found.append(resampler.feed(audio[start : start + size]))
        start += size
    found.append(resampler.feed(audio[:0], last=True))
    np.testing.assert_allclose(np.concatenate(found), resample(audio, from_rate, to_rate), atol=1e-6, rtol=0)
