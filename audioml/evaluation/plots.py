"""Pictures of training and of clips: matplotlib figures, and what the report makes of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from scipy import signal

from audioml.audio.resample import resample
from audioml.tasks import _figures

INK, LINE, TRAIN, VALIDATION = "#1b1f24", "#d8dee4", "#0a5bc4", "#b3440b"
"""Colours of figures in light; in the report's SVG each becomes a variable of its stylesheet."""
_VARIABLES = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    TRAIN: "var(--accent)",
    VALIDATION: "var(--second)",
    _figures.INK: "var(--ink)",
    _figures.GRID: "var(--line)",
}

DYNAMIC_RANGE_DB = 80.0
"""Below the loudest point of a spectrogram by this much is black."""
WINDOW_S = 0.025
SPECTROGRAM_COLUMNS = 400
PLAYED_RATE = 16000
"""Highest sample rate in Hz of the audio in the report: it keeps the page small."""
PLAYED_S = 6.0
"""Longest audio in the report, in seconds."""


def draw_training_curves(history: Sequence[Mapping[str, float | None]], metric: str = "accuracy") -> Figure:
    """Return a figure of the losses and of a metric in validation by epoch.

    Parameters
    ----------
    history
        One mapping per epoch: ``epoch``, ``train_loss``, ``val_loss``, ``val_<metric>``, ``learning_rate``; what is
        missing is not drawn.
    metric
        Name of the primary metric.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_line(left, history, "train_loss", "training", TRAIN, "--")
    _draw_line(left, history, "val_loss", "validation", VALIDATION, "-")
    _draw_line(right, history, f"val_{metric}", "validation", VALIDATION, "-")
    for axes, title in ((left, "Loss"), (right, f"Validation {metric.replace('_', ' ')}")):
        _plain_axes(axes, title)
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left.get_lines():
        left.legend(frameon=False, labelcolor=INK)
    return figure


def _draw_line(
    axes: mpl.axes.Axes, history: Sequence[Mapping[str, float | None]], key: str, label: str, color: str, style: str
) -> None:
    points = [(row["epoch"], value) for row in history if (value := row.get(key)) is not None]
    if points:
        # A line of one point would not be seen.
        marker = "o" if len(points) == 1 else None
        axes.plot(*zip(*points, strict=True), style, color=color, label=label, linewidth=1.8, marker=marker)


def draw_reliability(after: pd.DataFrame, before: pd.DataFrame | None) -> Figure:
    """Return a reliability diagram (accuracy over confidence) and how often each confidence was given.

    A point of the diagram is the larger, the more clips it stands for.

    Parameters
    ----------
    after
        From `tabulate_reliability`, of the probabilities that are served.
    before
        The same without the temperature, drawn for comparison; None where there is none.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    left.plot([0, 1], [0, 1], color=LINE, linewidth=1.6)
    for table, label, color, style in ((before, "before", VALIDATION, "--"), (after, "calibrated", TRAIN, "-")):
        if table is not None:
            filled = table[table["n"] > 0]
            points = (filled["confidence"], filled["accuracy"])
            left.plot(*points, style, color=color, label=label, linewidth=1.2)
            left.scatter(*points, 8 + 120 * filled["n"] / table["n"].sum(), color=color, clip_on=False, zorder=3)
    width = float(after["high"].iloc[0] - after["low"].iloc[0])
    right.bar(after["low"] + width / 2, after["n"] / after["n"].sum(), 0.82 * width, color=TRAIN)
    for axes, title in ((left, "Share right, by confidence"), (right, "Share of clips, by confidence")):
        _plain_axes(axes, title)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("confidence", color=INK)
    if before is not None:
        left.legend(frameon=False, labelcolor=INK, loc="upper left")
    return figure


def draw_robustness(table: pd.DataFrame, metric: str) -> Figure:
    """Return a metric over the signal-to-noise ratio, with its intervals.

    Parameters
    ----------
    table
        ``snr_db`` (NaN for the clips as they are), ``metric``, ``low``, ``high``.
    metric
        Its name.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    ordered = table.sort_values("snr_db", ascending=False, na_position="first")
    places = np.arange(len(ordered))
    names = ["no noise" if np.isnan(snr) else f"{snr:g} dB" for snr in ordered["snr_db"]]
    axes.fill_between(places, ordered["low"], ordered["high"], color=TRAIN, alpha=0.15, linewidth=0)
    axes.plot(places, ordered["metric"], "-o", color=TRAIN, linewidth=1.8, markersize=5)
    _annotate_percent(axes, places, ordered["metric"])
    _plain_axes(axes, f"{metric.replace('_', ' ').capitalize()} by signal-to-noise ratio")
    axes.set_xticks(places, names)
    _share_axis(axes, ordered["high"])
    return figure


def draw_learning_curve(table: pd.DataFrame, metric: str) -> Figure:
    """Return a metric over the number of training clips, on a logarithmic axis, with its intervals.

    Parameters
    ----------
    table
        ``share``, ``train_clips``, ``metric``, ``low``, ``high``, from the fewest clips to all.
    metric
        Its name.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    clips, places = table["train_clips"], range(len(table))
    axes.fill_between(clips, table["low"], table["high"], color=TRAIN, alpha=0.15, linewidth=0)
    axes.plot(clips, table["metric"], "-o", color=TRAIN, linewidth=1.8, markersize=5)
    _annotate_percent(axes, clips, table["metric"])
    _plain_axes(axes, f"{metric.replace('_', ' ').capitalize()} by number of training clips")
    axes.set_xscale("log")
    axes.set_xticks(clips, [f"{clips.iloc[i]:,}\n{table['share'].iloc[i]}" for i in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training clips, and their share of all", color=INK)
    _share_axis(axes, table["high"])
    return figure


def _annotate_percent(axes: mpl.axes.Axes, places: Iterable[float], values: Iterable[float]) -> None:
    for place, value in zip(places, values, strict=True):
        text = f"{100 * value:.1f} %"
        axes.annotate(text, (place, value), (0, 11), textcoords="offset points", ha="center", color=INK, fontsize=9)


def _share_axis(axes: mpl.axes.Axes, high: pd.Series[float]) -> None:
    """Let the axis of a metric begin at 0 and have room for its largest value and what is written above it."""
    axes.set_ylim(0, max(1.12, float(high.max()) * 1.12))
    axes.set_yticks(np.linspace(0, 1, 6))


def _plain_axes(axes: mpl.axes.Axes, title: str) -> None:
    axes.set_title(title, color=INK, loc="left", fontsize=11)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)


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
