"""Figures that tasks share. Each is drawn without pyplot, so that no global state is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, GRID, ACCENT, WEAK = "#1f2933", "#e4e7eb", "#2a6f97", "#c8553d"
BLUES = LinearSegmentedColormap.from_list("audioml", ["#ffffff", "#a9cfe4", ACCENT, "#0b3550"])
HEARD = 0.3
"""Units that are never more probable than this are not drawn."""
MAX_LABELS_WITH_COUNTS = 30
"""Cells of larger matrices are too small for numbers."""

Words = Sequence[Mapping[str, Any]]
"""With `word`, `onset_s` and `offset_s` each."""


def draw_confusion(counts: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Return a confusion matrix: colour is the share of a row's clips, the number their count.

    Parameters
    ----------
    counts
        int64 (labels, labels): rows are actual labels, columns predicted ones.
    """
    n = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(1.8 + 0.5 * n, 4.2, 16.0))
    figure = Figure(figsize=(side + 1.2, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=BLUES, vmin=0.0, vmax=1.0)
    if n <= MAX_LABELS_WITH_COUNTS:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    turn = max(map(len, labels)) > 3
    axes.set_xticks(range(n), labels, rotation=45 if turn else 0, ha="right" if turn else "center")
    axes.set_yticks(range(n), labels)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.8)
    axes.tick_params(which="both", length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("actual", color=INK)
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{right} of {total} clips right", loc="left", color=INK, fontsize=11, fontweight="bold")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("share of the actual label", color=INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, colors=INK)
    return figure


def draw_bars(
    values: NDArray[np.float64],
    labels: Sequence[str],
    support: NDArray[np.int64],
    name: str,
    counted: str = "clips",
    of: str = "label",
) -> Figure:
    """Return horizontal bars of a metric in [0, 1], one a label, lowest on top; labels give their clips, or events."""
    order = np.argsort(-values, kind="stable")
    figure = Figure(figsize=(7.0, float(np.clip(1.2 + 0.32 * len(labels), 2.4, 24.0))), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    mean = float(values.mean())
    colours = [WEAK if values[i] < mean - 0.1 else ACCENT for i in order]
    bars = axes.barh(range(len(labels)), values[order], color=colours, height=0.72)
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.bar_label(bars, [f"{values[i]:.3f}" for i in order], padding=4, color=INK, fontsize=9, bbox=clear)
    axes.axvline(mean, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(labels)), [f"{labels[i]}  ({support[i]})" for i in order])
    axes.set_xlim(0.0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(
        f"{name} per {of} ({counted}), mean {mean:.3f}", loc="left", color=INK, fontsize=11, fontweight="bold"
    )
    return figure


def draw_precision_recall(truth: NDArray[np.bool_], outputs: NDArray[np.float32], labels: Sequence[str]) -> Figure:
    """Return precision over recall, a line a label; of more than a colour map tells apart, the labels share colours.

    Parameters
    ----------
    truth, outputs
        ``(clips, labels)``; each label is that of one clip at least.
    """
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(7.0, 4.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for i, label in enumerate(labels):
        precision, recall, _ = precision_recall_curve(truth[:, i], outputs[:, i])
        axes.step(recall, precision, where="post", linewidth=1.4, label=label)
    axes.set_xlim(0.0, 1.02)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("recall", color=INK)
    axes.set_ylabel("precision", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.set_title("Precision and recall by threshold", loc="left", color=INK, fontsize=11, fontweight="bold")
    if len(labels) <= MAX_LABELS_WITH_COUNTS:
        figure.legend(frameon=False, labelcolor=INK, fontsize=8, loc="outside right upper")
    return figure


def draw_timelines(
    clips: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], float]], labels: Sequence[str]
) -> Figure:
    """Return a row of time a clip: for each label what is there above, what was found below.

    Parameters
    ----------
    clips
        Events that are there and events found, `(events, 3 or more)` each: position of the label, onset and offset in
        seconds; and the clip's length in seconds.
    labels
        Of which those are drawn that some event has.
    """
    used = sorted({int(label) for there, found, _ in clips for label in [*there[:, 0], *found[:, 0]]})
    height = len(clips) * (0.7 + 0.3 * len(used))
    figure = Figure(figsize=(9.0, float(np.clip(height, 2.0, 40.0))), dpi=120, layout="constrained")
    rows = figure.subplots(max(len(clips), 1), 1, squeeze=False)[:, 0]
    for axes, (there, found, duration_s) in zip(rows, clips, strict=False):
        for events, shift, colour in ((there, 0.02, ACCENT), (found, -0.36, WEAK)):
            for label, onset_s, offset_s in events[:, :3]:
                axes.broken_barh([(onset_s, offset_s - onset_s)], (used.index(int(label)) + shift, 0.34), color=colour)
        axes.set_xlim(0.0, duration_s)
        axes.set_ylim(-0.6, max(len(used), 1) - 0.4)
        axes.set_yticks(range(len(used)), [labels[i] for i in used])
        axes.tick_params(length=0, colors=INK)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    rows[-1].set_xlabel("seconds", color=INK)
    rows[0].set_title(
        "Worst clips: what is there (blue) and what was found (orange)", loc="left", color=INK, fontsize=11
    )
    return figure


def draw_alignments(clips: Sequence[tuple[str, str, Words, NDArray[np.float32]]], units: Sequence[str]) -> Figure:
    """Return a picture a clip: how probable each unit is over time, and where the words that were found lie.

    Parameters
    ----------
    clips
        The text that was said, the text found, its words with their times, and the output `(2 + units, frames)` of
        the task ctc.
    units
        Of which those are drawn that are heard somewhere in the clip.
    """
    figure = Figure(figsize=(9.0, 2.6 * max(len(clips), 1)), dpi=120, layout="constrained")
    rows = figure.subplots(max(len(clips), 1), 1, squeeze=False)[:, 0]
    for axes, (said, found, words, output) in zip(rows, clips, strict=False):
        probabilities, ends_s = np.exp(output[1:-1]), output[-1]
        heard = np.flatnonzero(probabilities.max(axis=1) > HEARD)
        extent = (0.0, float(ends_s[-1]), len(heard) - 0.5, -0.5)
        if len(heard):
            axes.imshow(probabilities[heard], cmap=BLUES, vmin=0, vmax=1, aspect="auto", extent=extent)
        axes.set_yticks(range(len(heard)), [units[int(i)].replace(" ", "␣") for i in heard], fontsize=8)
        for word in words:
            axes.axvspan(word["onset_s"], word["offset_s"], color=WEAK, alpha=0.12, linewidth=0)
            middle = (word["onset_s"] + word["offset_s"]) / 2
            axes.text(middle, -0.75, word["word"], ha="center", va="bottom", color=WEAK, fontsize=8, clip_on=False)
        axes.set_title(f"said: {said}\nfound: {found}", loc="left", color=INK, fontsize=9, pad=16)
        axes.tick_params(length=0, colors=INK)
        axes.spines[:].set_visible(False)
    rows[-1].set_xlabel("seconds", color=INK)
    return figure


def draw_error_rates(
    thresholds: NDArray[np.float64],
    rejects: NDArray[np.float64],
    accepts: NDArray[np.float64],
    chosen: float | None = None,
) -> Figure:
    """Return the shares of pairs that are rejected and accepted wrongly, over the threshold of similarity.

    Parameters
    ----------
    thresholds, rejects, accepts
        ``(thresholds,)``.
    chosen
        A threshold to mark.
    """
    figure = Figure(figsize=(7.0, 3.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for rates, colour, name in ((rejects, ACCENT, "rejected, of one speaker"), (accepts, WEAK, "accepted, of two")):
        axes.step(thresholds, rates, where="post", color=colour, linewidth=1.6, label=name)
    if chosen is not None:
        axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label=f"threshold {chosen:.3f}")
    axes.set_xlim(-1.0, 1.0)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("threshold of similarity", color=INK)
    axes.set_ylabel("share of pairs", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.set_title("Pairs judged wrongly", loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def draw_similarities(same: NDArray[np.float64], different: NDArray[np.float64], chosen: float | None = None) -> Figure:
    """Return histograms of the similarity of pairs of one speaker and of two, each kind with an area of 1."""
    figure = Figure(figsize=(7.0, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for values, colour, name in ((same, ACCENT, "one speaker"), (different, WEAK, "two speakers")):
        if len(values):
            axes.hist(
                values,
                np.linspace(-1, 1, 81).tolist(),
                density=True,
                color=colour,
                alpha=0.6,
                label=f"{name} ({len(values):,} pairs)",
            )
    if chosen is not None:
        axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlim(-1.0, 1.0)
    axes.set_yticks([])
    axes.set_xlabel("similarity", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_title("Similarity of pairs of clips", loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure
