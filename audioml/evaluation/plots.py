"""Pictures of training and of clips: matplotlib figures, and what the report makes of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from scipy import signal

from audioml.audio.resample import resample

INK, LINE, TRAIN, VALIDATION = "#1b1f24", "#d8dee4", "#0a5bc4", "#b3440b"
"""Colours of figures in light; in the report's SVG each becomes a variable of its stylesheet."""
_VARIABLES = {INK: "var(--ink)", LINE: "var(--line)", TRAIN: "var(--accent)", VALIDATION: "var(--second)"}

DYNAMIC_RANGE_DB = 80.0
"""Below the loudest point of a spectrogram by this much is black."""
WINDOW_S = 0.025
SPECTROGRAM_COLUMNS = 400
PLAYED_RATE = 16000
"""Highest sample rate in Hz of the audio in the report: it keeps the page small."""
PLAYED_S = 6.0
"""Longest audio in the report, in seconds."""


def draw_training_curves(history: Sequence[Mapping[str, float | None]]) -> Figure:
    """Return a figure of the losses and the validation accuracy by epoch.

    Parameters
    ----------
    history
        One mapping per epoch: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``, ``learning_rate``; what is
        missing is not drawn.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_line(left, history, "train_loss", "training", TRAIN, "--")
    _draw_line(left, history, "val_loss", "validation", VALIDATION, "-")
    _draw_line(right, history, "val_accuracy", "validation", VALIDATION, "-")
    for axes, title in ((left, "Loss"), (right, "Validation accuracy")):
        axes.set_title(title, color=INK, loc="left", fontsize=11)
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=LINE, linewidth=0.8)
        axes.tick_params(colors=INK, length=0)
        axes.spines[:].set_visible(False)
    if left.get_lines():
        left.legend(frameon=False, labelcolor=INK)
    return figure


def _draw_line(
    axes: mpl.axes.Axes, history: Sequence[Mapping[str, float | None]], key: str, label: str, color: str, style: str
) -> None:
    points = [(row["epoch"], value) for row in history if (value := row.get(key)) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), style, color=color, label=label, linewidth=1.8)


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG to stand in the report: text as text, colours from the page's stylesheet.

    `name` makes the identifiers inside unique to the page, and the same for the same figure.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        buffer = io.StringIO()
        # Without a date the same figure is the same text.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg


def cut_for_report(audio: npt.NDArray[np.float32], sample_rate: int) -> tuple[npt.NDArray[np.float32], int]:
    """Return the first `PLAYED_S` of mono audio at no more than `PLAYED_RATE`, and its rate in Hz."""
    rate = min(sample_rate, PLAYED_RATE)
    return resample(audio[: round(PLAYED_S * sample_rate)], sample_rate, rate), rate


def draw_spectrogram(audio: npt.NDArray[np.float32], sample_rate: int) -> bytes:
    """Return a PNG of a clip's spectrogram: time to the right, 0 Hz to half the sample rate upward, in dB.

    Parameters
    ----------
    audio
        Mono, shape ``(samples,)``, of `PLAYED_S` at most; shorter than one window it is padded with zeros.
    sample_rate
        In Hz.
    """
    n_fft = max(64, 1 << round(np.log2(WINDOW_S * sample_rate)))
    padded = np.pad(audio, (0, max(0, n_fft - len(audio))))
    hop = min(max(8, len(padded) // SPECTROGRAM_COLUMNS), n_fft)
    _, _, power = signal.spectrogram(padded, sample_rate, "hann", n_fft, n_fft - hop, scaling="spectrum")
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    scaled = np.clip((decibels - decibels.max()) / DYNAMIC_RANGE_DB + 1, 0, 1)
    buffer = io.BytesIO()
    imsave(buffer, scaled[::-1], cmap="magma", vmin=0, vmax=1, format="png")
    return buffer.getvalue()


def encode_wav(audio: npt.NDArray[np.float32], sample_rate: int) -> bytes:
    """Return mono audio as a 16-bit WAV file, which any browser plays."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def to_data_uri(data: bytes, media_type: str) -> str:
    """Return bytes as a ``data:`` address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
