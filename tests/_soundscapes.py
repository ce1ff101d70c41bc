"""Recordings with known sounds in them: tones, sweeps and hiss over quiet noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
SOUNDS = ("hiss", "sweep", "tone")


def make_sound(label: str, duration_s: float, generator: np.random.Generator) -> np.ndarray:
    """One sound with edges of 10 ms, float64 `(samples,)`."""
    n = round(duration_s * RATE)
    time_s = np.arange(n) / RATE
    if label == "hiss":
        sound = np.diff(generator.normal(0, 1, n + 1)) / 2
    elif label == "sweep":
        start_hz, slope = generator.uniform(500, 700), 3000 / max(duration_s, 0.3)
        sound = np.sin(2 * np.pi * (start_hz * time_s + slope * time_s**2 / 2))
    else:
        sound = np.sin(2 * np.pi * generator.uniform(900, 1100) * time_s)
    edge = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.01 * RATE), 0, 1)
    return generator.uniform(0.2, 0.4) * edge * sound


def write_recording(
    path: Path, duration_s: float, events: Sequence[tuple[float, float, str]], generator: np.random.Generator
) -> None:
    """Write noise with sounds at (onset_s, offset_s, label)."""
    audio = generator.normal(0, 0.01, round(duration_s * RATE))
    for onset_s, offset_s, label in events:
        start = round(onset_s * RATE)
        sound = make_sound(label, offset_s - onset_s, generator)[: len(audio) - start]
        audio[start : start + len(sound)] += sound
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(audio, -1, 1), RATE, subtype="PCM_16")


def draw_events(duration_s: float, generator: np.random.Generator) -> list[tuple[float, float, str]]:
    """Events that follow each other at half a second to two, of 0.4 to 1 s, to the hundredth."""
    events, at_s = [], generator.uniform(0.2, 1.5)
    while at_s + 1.0 < duration_s:
        length_s = generator.uniform(0.4, 1.0)
        events.append((round(at_s, 2), round(at_s + length_s, 2), str(generator.choice(SOUNDS))))
        at_s += length_s + generator.uniform(0.5, 2.0)
    return events
