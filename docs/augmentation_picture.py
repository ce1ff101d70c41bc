"""Draw what each augmentation does to one word, as a model sees it: `python docs/augmentation_picture.py`.

The words are spoken by espeak-ng; writes docs/images/augmentation.png.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from audioml.audio.resample import resample
from audioml.audio.segment import fit_length
from audioml.audio.synthesize import SAMPLE_RATE, synthesize
from audioml.features import logmel
from audioml.params import parse_section
from audioml.plugins import load_plugin

PICTURE = Path(__file__).parent / "images" / "augmentation.png"
RATE = 16000
SEED = 216
"""One that mixes both words in about equal parts."""
COLUMNS, COLOURS = 5, 256
QUIETEST_DB, LOUDEST_DB = -75.0, 15.0
FEATURES = logmel.Params(n_mels=64, hop_length=80)
ON_AUDIO = (
    ("gain: 15 dB quieter", "gain", {"min_db": -15, "max_db": -15}),
    ("filter_response", "filter_response", {"max_db": 20}),
    ("noise: pink, SNR 5 dB", "noise", {"kinds": ["pink"], "min_snr_db": 5, "max_snr_db": 5}),
    ("noise: babble, SNR 5 dB", "noise", {"kinds": ["babble"], "min_snr_db": 5, "max_snr_db": 5}),
    ("room: decay of 0.5 s", "room", {"rooms": 1, "min_rt60_s": 0.5}),
    ("speed: 1.3", "speed", {"min_factor": 1.3, "max_factor": 1.3}),
    ("stretch: 1.3", "stretch", {"min_rate": 1.3, "max_rate": 1.3}),
    ("pitch: 5 semitones up", "pitch", {"min_semitones": 5, "max_semitones": 5}),
    ("between_class", "between_class", {}),
)
ON_FEATURES = (
    ("time_shift", "time_shift", {"max_shift_share": 0.3}),
    ("specaugment", "specaugment", {}),
    ("mixup", "mixup", {"share": 1, "alpha": 20}),
)


def speak(word: str, voice: str) -> np.ndarray:
    """Speak a word into a window of one second."""
    samples = resample(synthesize(word, voice).astype(np.float32) / 32768, SAMPLE_RATE, RATE)
    return fit_length(samples * (0.5 / np.abs(samples).max()), RATE)[0][0]


def extract(audio: Tensor) -> Tensor:
    """Return log-mel levels of one clip."""
    return torch.from_numpy(logmel.extract(FEATURES, audio.numpy()))


def make_panels(audio: Tensor) -> list[tuple[str, Tensor]]:
    """Return titles and features: the two words, then the first one changed by each augmentation."""
    features = extract(audio)
    panels = [("as recorded", features[0]), ("another clip of the batch", features[1])]
    for title, name, keys in ON_AUDIO:
        plugin = load_plugin("augment", name)
        params = parse_section(plugin.Params, {"share": 1, **keys}, name)
        changed, _ = plugin.apply_audio(params, audio, torch.eye(2), torch.Generator().manual_seed(SEED), RATE)
        panels.append((title, extract(changed)[0]))
    for title, name, keys in ON_FEATURES:
        plugin = load_plugin("augment", name)
        params = parse_section(plugin.Params, keys, name)
        changed, _ = plugin.apply(params, features, torch.eye(2), torch.Generator().manual_seed(SEED))
        panels.append((title, changed[0]))
    return panels


def draw(panels: list[tuple[str, Tensor]], path: Path) -> None:
    """Draw one spectrogram a panel."""
    n_rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(
        n_rows, COLUMNS, figsize=(12, 2.1 * n_rows), sharex=True, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, levels) in zip(axes.flat, panels, strict=False):
        image = axis.imshow(
            levels, origin="lower", aspect="auto", extent=(0, 1, 0, 64), vmin=QUIETEST_DB, vmax=LOUDEST_DB, cmap="magma"
        )
        axis.set_title(title, loc="left", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("s")
    for axis in axes[:, 0]:
        axis.set_ylabel("mel band")
    figure.colorbar(image, ax=axes, label="dB", pad=0.01, aspect=40)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    # Noise does not compress; few colours do.
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Draw the picture."""
    words = np.stack([speak("seven", "en-us+Annie"), speak("stop", "en-gb-scotland+Andy")])
    draw(make_panels(torch.from_numpy(words)), PICTURE)


if __name__ == "__main__":
    main()
