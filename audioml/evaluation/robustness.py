"""How the model does in noise: clips mixed with it at signal-to-noise ratios, through the path from audio bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioml.audio.decode import decode
from audioml.audio.encode import encode_wav
from audioml.audio.noise import COLOURS, make_noise, scale_to_snr
from audioml.audio.prepare import mix_to_mono
from audioml.audio.recordings import list_recordings
from audioml.audio.resample import resample
from audioml.errors import DecodeError, ParamsError
from audioml.inference.predictor import Predictor
from audioml.params import FILE_NAME
from audioml.tasks._outputs import join
from audioml.training.seeds import derive_seed

Floats = npt.NDArray[np.float32]
NoiseMaker = Callable[[int, int, np.random.Generator], Floats]
"""From a number of samples, a rate in Hz and a generator to mono noise of unit RMS."""


def load_noise(noise: str, workspace: Path) -> NoiseMaker:
    """Return what makes noise: of a colour, or cut from the recordings of a folder.

    Parameters
    ----------
    noise
        A word of `COLOURS`, or a folder, relative to the workspace or not; its audio files are drawn from.
    workspace
        The workspace.

    Raises
    ------
    ParamsError
        When it is neither, or the folder has no audio files.
    """
    if noise in COLOURS:
        return lambda n_samples, sample_rate, generator: make_noise(n_samples, noise, generator)
    files = list_recordings(workspace / noise, "evaluate.noise", COLOURS)
    return lambda n_samples, sample_rate, generator: _cut_noise(files, n_samples, sample_rate, generator)


def _cut_noise(files: Sequence[Path], n_samples: int, sample_rate: int, generator: np.random.Generator) -> Floats:
    """Return a stretch from a random place of a random file, repeated where the file is shorter."""
    path = files[int(generator.integers(len(files)))]
    try:
        audio, rate = decode(path.read_bytes())
    except DecodeError as error:
        raise ParamsError(f"{FILE_NAME}: 'evaluate.noise': {path} cannot be read as audio: {error}") from None
    mono = resample(mix_to_mono(audio), rate, sample_rate)
    stretch = np.take(mono, int(generator.integers(len(mono))) + np.arange(n_samples), mode="wrap").astype(np.float64)
    return (stretch / max(float(np.sqrt(np.mean(stretch**2))), 1e-30)).astype(np.float32)


def predict_in_noise(
    predictor: Predictor,
    clips: Iterable[tuple[str, bytes]],
    snrs_db: Sequence[float],
    make: NoiseMaker,
    seed: int,
) -> list[npt.NDArray[Any]]:
    """Return the model's outputs for clips in noise, one array ``(clips, ...)`` for each ratio.

    Where clips' outputs differ in shape they are objects, an array each.

    The ratio is that of the mean powers over the whole clip, pauses included. Noise is added at the clip's own rate,
    the same in all channels, before anything else happens to it. A clip has the same noise at every ratio, drawn by
    the seed and its name, so that a curve over ratios shows nothing but the ratio. A silent clip stays silent.

    Parameters
    ----------
    predictor
        The model.
    clips
        Name and audio file of each clip; one is held at a time.
    snrs_db
        Power of the clip over that of the noise, in dB.
    make
        From `load_noise`.
    seed
        Of all draws.
    """
    outputs: list[list[npt.NDArray[Any]]] = [[] for _ in snrs_db]
    for name, data in clips:
        audio, sample_rate = decode(data)
        rms = float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))
        noise = make(audio.shape[1], sample_rate, np.random.default_rng(derive_seed(seed, "noise", name)))
        for i, snr_db in enumerate(snrs_db):
            noisy = encode_wav(audio + scale_to_snr(noise, rms, snr_db), sample_rate)
            outputs[i].append(predictor.predict_outputs([noisy]))
    return [join(of_ratio) for of_ratio in outputs]
