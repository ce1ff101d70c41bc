"""Sounds and files that the audio tests share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

CONTAINERS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
LOSSLESS = [c for c in CONTAINERS if c[1] in ("PCM_16", "PCM_24", "FLOAT")]


def make_tone(duration_s: float = 1.0, sample_rate: int = 16000, channels: int = 1, peak: float = 0.5) -> Any:
    """A tone with some noise, float32 (channels, samples)."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    noise = np.random.default_rng(0).standard_normal((channels, len(time_s)))
    return (peak * 0.9 * np.sin(2 * np.pi * 440 * time_s) + peak * 0.02 * noise).astype(np.float32)


def encode(audio: Any, sample_rate: int = 16000, container: str = "WAV", subtype: str | None = None) -> bytes:
    """Audio (channels, samples) to a file's bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.T, sample_rate, format=container, subtype=subtype)
    return buffer.getvalue()
