import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.errors import ParamsError
from audioml.features import mfcc
from audioml.params import parse_section


def librosa_mfcc(params, audio):
    """Return librosa's coefficients in double precision: its own float32 results are off by up to 1e-4."""
    if params.top_db == 80.0:
        coefficients = librosa.feature.mfcc(
            y=audio.astype(np.float64), n_mfcc=params.n_mfcc, **_mel_keys(params)
        )  # 80 dB is its own default
    else:
        mel = librosa.feature.melspectrogram(y=audio.astype(np.float64), **_mel_keys(params))
        levels = librosa.power_to_db(mel, top_db=params.top_db)
        coefficients = librosa.feature.mfcc(S=levels, n_mfcc=params.n_mfcc)
    deltas = [librosa.feature.delta(coefficients, order=order) for order in range(1, params.deltas + 1)]
    return np.concatenate([coefficients, *deltas])


def _mel_keys(params):
    same = ("n_fft", "win_length", "hop_length", "n_mels", "fmin", "fmax")
    return {"sr": params.sample_rate, "pad_mode": "constant", **{key: getattr(params, key) for key in same}}


def tolerance(params):
    """Without `top_db`, bands 100 dB below the loudest count, which float32 moves by up to 0.02 dB."""
    return 1e-2 if params.top_db is None else 1e-3


def windows(path, params):
    return prepare_audio(*decode(path.read_bytes()), params, ())[0]


@pytest.mark.parametrize("keys", [{}, {"n_mfcc": 13, "deltas": 0, "top_db": None}, {"n_mels": 26, "deltas": 1}])
def test_spoken_digits_agree_with_librosa(fsdd_dir, keys):
    params = mfcc.Params(**keys)
    for path in sorted(fsdd_dir.glob("*.wav"))[::200]:
        audio = windows(path, params)
        ours = mfcc.extract(params, audio)[0]
        np.testing.assert_allclose(ours, librosa_mfcc(params, audio[0]), rtol=0, atol=tolerance(params))


def test_environmental_sounds_agree_with_librosa(esc10_dir):
    params = mfcc.Params(duration_s=2.0, length="segment", segment_hop_s=1.5)
    for path in sorted(esc10_dir.glob("*/*.ogg"))[::50]:
        audio = windows(path, params)
        assert len(audio) > 1
        for ours, window in zip(mfcc.extract(params, audio), audio, strict=True):
            np.testing.assert_allclose(ours, librosa_mfcc(params, window), rtol=0, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(9, 60), order=st.sampled_from([1, 2]))
def test_deltas_are_librosas(seed, frames, order):
    values = np.random.default_rng(seed).standard_normal((5, frames))
    np.testing.assert_allclose(mfcc.delta(values, order), librosa.feature.delta(values, order=order), atol=1e-12)


@pytest.mark.parametrize("frames", [3, 4, 5, 6, 7, 8])
def test_deltas_of_short_clips_are_fitted_over_what_there_is(frames):
    values = np.random.default_rng(0).standard_normal((2, frames))
    width = frames if frames % 2 else frames - 1
    for order in (1, 2):
        theirs = librosa.feature.delta(values, width=width, order=order)
        np.testing.assert_allclose(mfcc.delta(values, order), theirs, atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2])
def test_deltas_of_one_or_two_frames_are_zero(frames):
    assert not mfcc.delta(np.ones((3, frames)), 1).any()


def test_delta_of_a_line_is_its_slope_and_of_a_parabola_its_curvature():
    at = np.arange(30.0)
    np.testing.assert_allclose(mfcc.delta(3 * at + 1, 1), 3, atol=1e-12)
    np.testing.assert_allclose(mfcc.delta(0.5 * at**2 - at, 2), 1, atol=1e-11)


def test_a_clip_gives_the_same_bytes_in_any_batch():
    params = mfcc.Params()
    audio = np.random.default_rng(0).standard_normal((5, 16000)).astype(np.float32)
    audio[0] *= 1e-3
    batch = mfcc.extract(params, audio)
    assert batch.shape == (5, *mfcc.feature_shape(params)) == (5, 60, 101)
    assert batch.dtype == np.float32
    assert batch.tobytes() == b"".join(mfcc.extract(params, clip[None]).tobytes() for clip in audio)


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(st.integers(1, 4000), min_size=1, max_size=6), deltas=st.integers(0, 2))
def test_windows_of_any_lengths_go_together(samples, deltas):
    params = mfcc.Params(deltas=deltas, hop_length=200)
    generator = np.random.default_rng(0)
    windows = [generator.standard_normal(n).astype(np.float32) for n in samples]
    out = [np.empty(mfcc.shape_of(params, n), np.float32) for n in samples]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mfcc, "GROUP_FRAMES", 30)
        mfcc.extract_into(params, windows, out)
    for window, features in zip(windows, out, strict=True):
        assert features.tobytes() == mfcc.extract(params, window[None])[0].tobytes()


@pytest.mark.parametrize("keys", [{}, {"deltas": 0, "top_db": None}])
def test_torch_agrees_on_real_recordings(fsdd_dir, keys):
    torch = pytest.importorskip("torch")
    params = mfcc.Params(**keys)
    for path in sorted(fsdd_dir.glob("*.wav"))[::300]:
        audio = windows(path, params)
        theirs = mfcc.extract_torch(params, torch.from_numpy(audio))
        assert theirs.dtype == torch.float32
        np.testing.assert_allclose(mfcc.extract(params, audio), theirs.numpy(), rtol=0, atol=tolerance(params))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 3000), deltas=st.integers(0, 2))
def test_torch_agrees_on_random_signals(seed, samples, deltas):
    torch = pytest.importorskip("torch")
    params = mfcc.Params(deltas=deltas)
    audio = np.random.default_rng(seed).standard_normal((2, samples)).astype(np.float32)
    theirs = mfcc.extract_torch(params, torch.from_numpy(audio)).numpy()
    np.testing.assert_allclose(mfcc.extract(params, audio), theirs, rtol=0, atol=1e-3)


def test_more_coefficients_than_bands_are_an_error():
    with pytest.raises(ParamsError, match="n_mfcc 50 is more than n_mels 40"):
        parse_section(mfcc.Params, {"n_mfcc": 50}, "features")


def test_without_the_mean_of_levels_coefficients_have_none():
    audio = np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
    plain, centred = (mfcc.extract(mfcc.Params(deltas=1, subtract_mean=flag), audio)[0] for flag in (False, True))
    subtracted = plain[:20] - centred[:20]
    np.testing.assert_allclose(subtracted, np.broadcast_to(subtracted[:, :1], subtracted.shape), atol=1e-3)
    np.testing.assert_allclose(subtracted[:, 0], plain[:20].mean(axis=1), atol=0.5)
    np.testing.assert_allclose(centred[20:], plain[20:], atol=1e-3)
