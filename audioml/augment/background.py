"""Add recordings of noise, cut from the files of a folder, at a drawn signal-to-noise ratio.

What the machine will hear behind its clips is a better teacher than any noise that is made: Ko et al., "A study on data
augmentation of reverberant speech for robust speech recognition", ICASSP 2017, section 2.3.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.audio.decode import decode
from audioml.audio.prepare import mix_to_mono
from audioml.audio.recordings import list_recordings
from audioml.audio.resample import resample
from audioml.augment._clips import ClipShare, add_noise, change_clips, check_order, choose_clips, draw_uniform
from audioml.errors import DecodeError, ParamsError
from audioml.params import FILE_NAME, Section

KEY = "augment.background.folder"


class Params(Section):
    """Which recordings, and how loud."""

    folder: str
    """Where the recordings are, in it and in folders below; a path relative to the workspace, or an absolute one.
    Name another folder when what it holds has changed: training is not repeated for that."""
    min_snr_db: float = 0.0
    """Smallest ratio of a clip's level, its digital silence left out, to that of the noise, in dB."""
    max_snr_db: float = 30.0
    """Largest ratio; each clip draws its own, uniformly in dB."""
    stretches: Annotated[int, Field(ge=1)] = 512
    """Recordings that are kept in memory, drawn evenly where the folder has more; of each what `stretch_s` takes."""
    stretch_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds from the start of a recording that are kept. A clip's noise begins anywhere in it, and goes round."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_snr_db", "max_snr_db")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip with its noise; targets stay.

    Raises
    ------
    ParamsError
        When the folder has no recordings, or one that cannot be read.
    """
    chosen = choose_clips(len(audio), params.share, generator)
    snr_db = draw_uniform(len(chosen), params.min_snr_db, params.max_snr_db, generator).unsqueeze(1).to(audio)
    bank = load_bank(params.folder, params.stretches, params.stretch_s, sample_rate)
    which = torch.randint(len(bank), (len(chosen),), generator=generator).tolist()
    where = torch.rand(len(chosen), generator=generator).tolist()
    cuts = [_cut(bank[i], start, audio.shape[1]) for i, start in zip(which, where, strict=True)]
    noise = torch.stack(cuts).to(audio) if cuts else audio[:0]
    return change_clips(audio, chosen, lambda clips: add_noise(clips, noise, snr_db)), targets


def _cut(recording: Tensor, start: float, n_samples: int) -> Tensor:
    """Return float32 (n_samples,) from a share `start` of the recording on, going round at its end."""
    first = int(start * len(recording))
    return recording.repeat(1 + (first + n_samples) // len(recording))[first : first + n_samples]


@lru_cache(maxsize=2)
def load_bank(folder: str, stretches: int, stretch_s: float, sample_rate: int) -> tuple[Tensor, ...]:
    """Return the start of each recording that is kept, float32 (samples,), mono, at a rate in Hz; raises as above."""
    files = list_recordings(Path(folder), KEY)
    chosen = np.unique(np.linspace(0, len(files) - 1, stretches).astype(int))
    return tuple(_load(files[i], stretch_s, sample_rate) for i in chosen)


def _load(path: Path, stretch_s: float, sample_rate: int) -> Tensor:
    try:
        audio, rate = decode(path.read_bytes())
    except DecodeError as error:
        raise ParamsError(f"{FILE_NAME}: {KEY!r}: {path} cannot be read as audio: {error}. Take it away.") from None
    return torch.from_numpy(resample(mix_to_mono(audio[:, : round(stretch_s * rate)]), rate, sample_rate))
