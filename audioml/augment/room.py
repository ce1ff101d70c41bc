"""Put clips into rooms: their walls' reflections, by the image-source model (Allen and Berkley, JASA 65(4), 1979).

Rooms are drawn once and their responses kept; a clip keeps its energy and does not move in time. For training: Ko et
al., "A study on data augmentation of reverberant speech for robust speech recognition", ICASSP 2017.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.audio.rooms import SPEED_OF_SOUND, draw_room, room_response
from audioml.augment._clips import ClipShare, change_clips, check_order, choose_clips, fast_length, transform_back
from audioml.params import Section

MIN_ENERGY = 1e-20


class Params(Section):
    """Which rooms."""

    rooms: Annotated[int, Field(ge=1)] = 64
    """Rooms that are made; each clip draws one."""
    min_size_m: Annotated[float, Field(ge=1.5)] = 3.0
    """Shortest wall."""
    max_size_m: Annotated[float, Field(le=50)] = 10.0
    """Longest wall."""
    min_rt60_s: Annotated[float, Field(gt=0)] = 0.1
    """Shortest time of decay by 60 dB; walls absorb what it takes."""
    max_rt60_s: Annotated[float, Field(le=2)] = 0.5
    """Longest time of decay; making responses takes longer by its cube."""
    rooms_seed: Annotated[int, Field(ge=0)] = 0
    """Of the rooms: they are the same in every training, whatever its seed."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        check_order(self, "min_size_m", "max_size_m")
        return check_order(self, "min_rt60_s", "max_rt60_s")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip as it sounds in its room; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    rooms = torch.randint(params.rooms, (len(chosen),), generator=generator)
    responses = make_bank(params, sample_rate)[rooms].to(audio.device)
    return change_clips(audio, chosen, lambda clips: _convolve(clips, responses)), targets


def _convolve(clips: Tensor, responses: Tensor) -> Tensor:
    """Return clips (m, samples), each with its response (m, taps), as long and with as much energy as before."""
    length = fast_length(clips.shape[1] + responses.shape[1])
    spectrum = torch.fft.rfft(clips, length) * torch.fft.rfft(responses, length)
    wet = transform_back(spectrum, length, clips.shape[1])
    energy, wet_energy = (sound.square().sum(dim=1, keepdim=True) for sound in (clips, wet))
    return wet * (energy / wet_energy.clamp_min(MIN_ENERGY)).sqrt()


@lru_cache(maxsize=4)
def make_bank(params: Params, sample_rate: int) -> Tensor:
    """Return the rooms' responses, float32 (rooms, samples), from their direct sound on, followed by zeros."""
    generator = np.random.default_rng(params.rooms_seed)
    responses = []
    for _ in range(params.rooms):
        room = draw_room(generator, (params.min_size_m, params.max_size_m), (params.min_rt60_s, params.max_rt60_s))
        direct = int(room.distance_m / SPEED_OF_SOUND * sample_rate)
        responses.append(torch.from_numpy(room_response(room, sample_rate)[direct:].copy()))
    return torch.nn.utils.rnn.pad_sequence(responses, batch_first=True)
