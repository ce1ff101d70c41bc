"""Figures that tasks share. Each is drawn without pyplot, so that no global state is touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, GRID, ACCENT, WEAK = "#1f2933", "#e4e7eb", "#2a6f97", "#c8553d"
BLUES = LinearSegmentedColormap.from_list("audioml", ["#ffffff", "#a9cfe4", ACCENT, "#0b3550"])
MAX_LABELS_WITH_COUNTS = 30
"""Cells of larger matrices are too small for numbers."""


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


def draw_bars(values: NDArray[np.float64], labels: Sequence[str], support: NDArray[np.int64], name: str) -> Figure:
    """Return horizontal bars of a metric in [0, 1], one a label, lowest on top; labels give their clips."""
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
    axes.set_title(f"{name} per label (clips), mean {mean:.3f}", loc="left", color=INK, fontsize=11, fontweight="bold")
    return figure
