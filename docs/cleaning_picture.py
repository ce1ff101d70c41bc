"""Draw what each part of a cleaning chain does to one noisy word: `python docs/cleaning_picture.py`.

The word is spoken by espeak-ng, the noise is made; writes docs/images/cleaning.png.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from audioml.audio.loudness import measure_loudness
from audioml.audio.noise import make_noise, scale_to_snr
from audioml.audio.resample import resample
from audioml.audio.sound import Sound
from audioml.audio.synthesize import SAMPLE_RATE, synthesize
from audioml.clean import denoise, loudness, preemphasis, remove_dc, trim
from audioml.clean._chain import load_chain

PICTURE = Path(__file__).parent / "images" / "cleaning.png"
RATE = 16000
SILENCE_S = 0.5
COLOURS = 128
CHAIN = (
    ("remove_dc", remove_dc.Params()),
    ("denoise", denoise.Params()),
    ("trim", trim.Params(threshold_db=20)),
    ("loudness", loudness.Params()),
    ("preemphasis", preemphasis.Params()),
)


def make_recording() -> Sound:
    """Make a quiet "seven" between silences, in pink noise 15 dB below it, with a constant offset."""
    word = resample(synthesize("seven", "en-us+Annie").astype(np.float32) / 32768, SAMPLE_RATE, RATE)
    word *= 0.06 / np.abs(word).max()
    clean = np.pad(word, round(SILENCE_S * RATE))
    rms = float(np.sqrt(np.mean(word**2)))
    noise = scale_to_snr(make_noise(clean.size, "pink", np.random.default_rng(0)), rms, snr_db=15)
    return Sound(clean + noise + np.float32(0.02), RATE)


def draw(stages: list[tuple[str, Sound]], path: Path) -> None:
    """One row a stage: waveform and spectrogram over the clip's own time."""
    figure, rows = plt.subplots(len(stages), 2, figsize=(11, 1.5 * len(stages)), sharex=True, layout="constrained")
    duration_s = stages[0][1].samples.size / RATE
    for (title, sound), (wave, spectrum) in zip(stages, rows, strict=True):
        time_s = sound.start_s + np.arange(sound.samples.size) / sound.sample_rate
        wave.plot(time_s, sound.samples, linewidth=0.4, color="#1f4e79")
        wave.axhline(0, linewidth=0.5, color="black")
        wave.set(ylim=(-0.4, 0.4), xlim=(0, duration_s))
        level = f"{measure_loudness(sound.samples, sound.sample_rate):.1f} LUFS"
        wave.set_title(f"{title}: {level}", loc="left", fontsize=9)
        end_s = sound.start_s + sound.samples.size / sound.sample_rate
        spectrum.specgram(
            sound.samples,
            NFFT=512,
            noverlap=384,
            Fs=sound.sample_rate,
            xextent=(sound.start_s, end_s),
            vmin=-125,
            vmax=-45,
            cmap="magma",
        )
        spectrum.set_facecolor("black")
        spectrum.set(ylabel="Hz", xlim=(0, duration_s))
    for column in rows[-1]:
        column.set_xlabel("seconds in the clip")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    # Noise does not compress; few colours do.
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Apply the chain part by part and draw each stage."""
    stages = [("as recorded", make_recording())]
    for (name, _), clean in zip(CHAIN, load_chain(CHAIN), strict=True):
        stages.append((name, clean(stages[-1][1])))
    draw(stages, PICTURE)


if __name__ == "__main__":
    main()
