import subprocess
import sys

import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.prepare import mix_to_mono
from audioml.audio.resample import resample
from audioml.audio.sound import Sound
from audioml.clean import remove_dc
from audioml.errors import ParamsError
from audioml.features import _stft, logmel
from audioml.features._mel import hz_to_mel, mel_filters, mel_to_hz
from audioml.params import parse_section

from ._tolerance import assert_levels_agree

SETTINGS = [
    {},
    {"n_fft": 1024, "win_length": 1024, "hop_length": 512, "n_mels": 64, "fmin": 0.0},
    {"sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 23, "fmax": 3800.0},
    {"sample_rate": 44100, "n_fft": 2048, "win_length": 1103, "hop_length": 441, "n_mels": 128, "top_db": 80.0},
]


def librosa_log_mel(params, audio):
    """In double precision: librosa's own float32 results are as far from it as ours."""
    mel = librosa.feature.melspectrogram(
        y=audio.astype(np.float64),
        sr=params.sample_rate,
        n_fft=params.n_fft,
        win_length=params.win_length,
        hop_length=params.hop_length,
        pad_mode="constant",
        n_mels=params.n_mels,
        fmin=params.fmin,
        fmax=params.fmax,
    )
    return librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=params.top_db)


def load(path, sample_rate):
    audio, rate = decode(path.read_bytes())
    sound = Sound(resample(mix_to_mono(audio), rate, sample_rate), sample_rate)
    return remove_dc.apply(remove_dc.Params(), sound).samples


@pytest.mark.parametrize("keys", SETTINGS)
def test_spoken_digits_agree_with_librosa(fsdd_dir, keys):
    params = logmel.Params(**keys)
    for path in sorted(fsdd_dir.glob("*.wav"))[::200]:
        audio = load(path, params.sample_rate)
        ours = logmel.extract(params, audio[None])[0]
        assert ours.dtype == np.float32
        assert_levels_agree(ours, librosa_log_mel(params, audio))


@pytest.mark.parametrize("keys", SETTINGS[:2])
def test_environmental_sounds_agree_with_librosa(esc10_dir, keys):
    params = logmel.Params(**keys)
    for path in sorted(esc10_dir.glob("*/*.ogg"))[::50]:
        audio = load(path, params.sample_rate)
        assert_levels_agree(logmel.extract(params, audio[None])[0], librosa_log_mel(params, audio))


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large for input signal")
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 9000),
    level_dbfs=st.floats(-90, 0),
    tone_hz=st.floats(0, 8000),
    half_n_fft=st.integers(100, 600),
    window_share=st.floats(0.3, 1),
    hop_length=st.integers(20, 700),
)
def test_random_signals_agree_with_librosa(seed, samples, level_dbfs, tone_hz, half_n_fft, window_share, hop_length):
    n_fft = 2 * half_n_fft
    params = logmel.Params(
        n_fft=n_fft, win_length=max(2, int(window_share * n_fft)), hop_length=hop_length, n_mels=8, fmin=0.0
    )
    noise = np.random.default_rng(seed).standard_normal(samples) * 10 ** (level_dbfs / 20)
    tone = 0.5 * np.sin(2 * np.pi * tone_hz / 16000 * np.arange(samples))
    audio = (noise + tone).astype(np.float32)
    ours = logmel.extract(params, audio[None])[0]
    # Lengths with large prime factors are transformed in more steps, which round more.
    assert_levels_agree(ours, librosa_log_mel(params, audio), noise_db=125)


def test_a_clip_gives_the_same_bytes_in_any_batch():
    params = logmel.Params()
    audio = np.random.default_rng(0).standard_normal((9, 16000)).astype(np.float32)
    batch = logmel.extract(params, audio)
    alone = np.concatenate([logmel.extract(params, clip[None]) for clip in audio])
    assert batch.tobytes() == alone.tobytes()
    assert logmel.extract(params, audio[2:7]).tobytes() == batch[2:7].tobytes()


def test_block_length_does_not_change_the_result(monkeypatch):
    params = logmel.Params()
    audio = np.random.default_rng(0).standard_normal((3, 20001)).astype(np.float32)
    whole = logmel.extract(params, audio)
    for frames in (1, 7, 130, 10000):
        monkeypatch.setattr(_stft, "BLOCK_SAMPLES", frames * params.n_fft)
        assert logmel.extract(params, audio).tobytes() == whole.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    sound=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=5),
    win_length=st.integers(2, 128),
    hop_length=st.integers(1, 200),
    top_db=st.sampled_from([None, 60.0]),
)
def test_leaving_out_frames_without_sound_does_not_show(sound, win_length, hop_length, top_db):
    params = logmel.Params(n_fft=128, win_length=win_length, hop_length=hop_length, n_mels=4, top_db=top_db)
    generator = np.random.default_rng(0)
    windows = [
        np.concatenate([np.zeros(before), generator.standard_normal(n), np.zeros(after)]).astype(np.float32)
        for before, n, after in sound
    ]
    left_out = extract_all(params, windows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_stft, "_sounding_frames", lambda samples, _, hop: (0, 1 + len(samples) // hop))
        complete = extract_all(params, windows)
    for one, other in zip(left_out, complete, strict=True):
        assert one.tobytes() == other.tobytes()


def extract_all(params, windows):
    out = [np.full(logmel.shape_of(params, len(samples)), np.nan, np.float32) for samples in windows]
    logmel.extract_into(params, windows, out)
    return out


def test_windows_of_any_lengths_go_together(esc10_dir):
    params = logmel.Params(top_db=80.0)
    whole = load(min(esc10_dir.glob("*/*.ogg")), params.sample_rate)
    windows = [whole[start : start + n] for start, n in [(0, 16000), (500, 1), (900, 70000), (3000, 160), (0, 159)]]
    for samples, features in zip(windows, extract_all(params, windows), strict=True):
        assert features.tobytes() == logmel.extract(params, samples[None])[0].tobytes()


@pytest.mark.parametrize("keys", SETTINGS)
def test_torch_agrees_on_real_recordings(fsdd_dir, esc10_dir, keys):
    torch = pytest.importorskip("torch")
    params = logmel.Params(**keys)
    paths = [*sorted(fsdd_dir.glob("*.wav"))[::500], *sorted(esc10_dir.glob("*/*.ogg"))[::150]]
    for path in paths:
        audio = load(path, params.sample_rate)[None]
        theirs = logmel.extract_torch(params, torch.from_numpy(audio))
        assert theirs.dtype == torch.float32
        assert_levels_agree(logmel.extract(params, audio), theirs.numpy())


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 4), samples=st.integers(1, 3000), hop_length=st.integers(20, 700)
)
def test_torch_agrees_on_random_signals(seed, n, samples, hop_length):
    torch = pytest.importorskip("torch")
    params = logmel.Params(hop_length=hop_length, top_db=70.0)
    audio = np.random.default_rng(seed).standard_normal((n, samples)).astype(np.float32)
    theirs = logmel.extract_torch(params, torch.from_numpy(audio)).numpy()
    np.testing.assert_allclose(logmel.extract(params, audio), theirs, rtol=0, atol=1e-3)


def test_torch_takes_a_large_batch_in_parts(monkeypatch):
    torch = pytest.importorskip("torch")
    from audioml.features import _torch

    params = logmel.Params()
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 8000)).astype(np.float32))
    whole = logmel.extract_torch(params, audio)
    monkeypatch.setattr(_torch, "SPECTRA_BYTES", 2 * 16 * 257 * 51)
    torch.testing.assert_close(logmel.extract_torch(params, audio), whole, rtol=0, atol=1e-6)


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(logmel.extract(logmel.Params(), np.zeros((2, 800), np.float32)), -100, atol=1e-4)


def test_no_clips_give_no_features():
    assert logmel.extract(logmel.Params(), np.zeros((0, 16000), np.float32)).shape == (0, 40, 101)


@pytest.mark.parametrize("keys", [*SETTINGS, {"duration_s": 0.0123, "hop_length": 77}])
def test_shape_is_what_extract_gives(keys):
    params = logmel.Params(**keys)
    samples = round(params.duration_s * params.sample_rate)
    audio = np.zeros((1, samples), np.float32)
    assert logmel.extract(params, audio).shape == (1, *logmel.feature_shape(params))


@pytest.mark.parametrize(("sample_rate", "n_fft", "n_mels"), [(16000, 512, 40), (8000, 256, 23), (44100, 2048, 128)])
@pytest.mark.parametrize("fmin", [0.0, 20.0, 1200.0])
def test_filters_are_librosas(sample_rate, n_fft, n_mels, fmin):
    fmax = sample_rate * 0.45
    theirs = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(mel_filters(sample_rate, n_fft, n_mels, fmin, fmax), theirs, rtol=1e-6, atol=1e-9)


def test_the_mel_scale_is_librosas():
    hz = np.array([0.0, 440.0, 999.9, 1000.0, 1000.1, 8000.0, 22050.0])
    np.testing.assert_allclose(hz_to_mel(hz), librosa.hz_to_mel(hz), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, rtol=1e-12)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"fmax": 8001.0}, "above half the sample rate, 8000 Hz"),
        ({"fmin": 8000.0}, "fmin 8000 Hz is not below fmax, 8000 Hz"),
        ({"n_mels": 256}, "bands without a frequency"),
        ({"n_fft": 256}, "win_length 400 is longer than n_fft 256"),
        ({"n_fft": 511}, "'features.n_fft' is 511"),
        ({"n_mel": 40}, "Did you mean 'n_mels'?"),
    ],
)
def test_impossible_params_are_errors(keys, says):
    with pytest.raises(ParamsError) as error:
        parse_section(logmel.Params, keys, "features")
    assert says in str(error.value)


def test_features_import_neither_torch_nor_librosa():
    code = (
        "import sys; from audioml.features import logmel, mfcc, waveform; "
        "print(*{'torch', 'librosa', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_without_its_mean_a_band_is_the_same_at_any_level_and_through_any_filter():
    torch = pytest.importorskip("torch")
    plain, params = logmel.Params(top_db=80.0), logmel.Params(top_db=80.0, subtract_mean=True)
    generator = np.random.default_rng(0)
    # Noise whose level changes every 2,000 samples, so that there is something left in each band.
    audio = (generator.standard_normal(32000) * np.repeat(generator.uniform(0.01, 0.1, 16), 2000)).astype(np.float32)
    centred = logmel.extract(params, audio[None])[0]
    levels = logmel.extract(plain, audio[None])[0]
    above = (levels - levels.min(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(centred, levels - (levels * above).sum(axis=1, keepdims=True) / above.sum(), atol=1e-3)
    np.testing.assert_allclose(logmel.extract(params, 0.1 * audio[None])[0], centred, atol=1e-3)
    coloured = scipy.signal.lfilter([1.0, -0.9], [1.0], audio).astype(np.float32)[None]
    assert np.abs(logmel.extract(plain, coloured)[0] - levels).mean() > 5
    assert np.abs(logmel.extract(params, coloured)[0] - centred).mean() < 0.2
    np.testing.assert_allclose(logmel.extract_torch(params, torch.from_numpy(audio[None]))[0], centred, atol=1e-3)
    short, long = extract_all(params, [audio[:4000], audio])
    assert long.tobytes() == centred.tobytes()
    assert short.tobytes() == logmel.extract(params, audio[None, :4000])[0].tobytes()


def test_silence_around_a_clip_does_not_move_its_mean():
    torch = pytest.importorskip("torch")
    params = logmel.Params(top_db=45.0, subtract_mean=True)
    audio = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    between = np.concatenate([np.zeros(16000, np.float32), audio, np.zeros(16000, np.float32)])
    alone, padded = logmel.extract(params, audio[None])[0], logmel.extract(params, between[None])[0]
    frames = 16000 // params.hop_length
    inner = slice(5, alone.shape[1] - 5)
    np.testing.assert_allclose(padded[:, frames : frames + alone.shape[1]][:, inner], alone[:, inner], atol=1.5)
    np.testing.assert_allclose(logmel.extract_torch(params, torch.from_numpy(between[None]))[0], padded, atol=1e-3)


def test_silence_without_its_mean_is_nothing():
    torch = pytest.importorskip("torch")
    params = logmel.Params(top_db=45.0, subtract_mean=True)
    assert not logmel.extract(params, np.zeros((1, 8000), np.float32)).any()
    assert not logmel.extract_torch(params, torch.zeros(2, 8000)).any()
