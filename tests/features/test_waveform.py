import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.features import waveform


def test_features_are_the_samples(fsdd_dir):
    params = waveform.Params(sample_rate=8000)
    path = min(fsdd_dir.glob("*.wav"))
    windows, _ = prepare_audio(*decode(path.read_bytes()), params, ())
    features = waveform.extract(params, windows)
    assert features.dtype == np.float32
    assert features.shape == (1, *waveform.feature_shape(params)) == (1, 1, 8000)
    np.testing.assert_array_equal(features[0, 0], windows[0])
    out = np.empty_like(features[0])
    waveform.extract_into(params, list(windows), [out])
    np.testing.assert_array_equal(out, features[0])


def test_torch_gives_the_samples_too():
    torch = pytest.importorskip("torch")
    audio = torch.ones(3, 50)
    assert waveform.extract_torch(waveform.Params(), audio).shape == (3, 1, 50)


@given(
    sample_rate=st.integers(1000, 192000),
    duration_s=st.floats(1e-6, 2.0),
    length=st.sampled_from(["pad", "segment"]),
)
def test_shape_is_that_of_prepared_windows(sample_rate, duration_s, length):
    params = waveform.Params(sample_rate=sample_rate, duration_s=duration_s, length=length)
    windows, _ = prepare_audio(np.zeros((1, 100), np.float32), sample_rate, params, ())
    assert waveform.extract(params, windows).shape == (len(windows), *waveform.feature_shape(params))
