"""A search as one picture and one page: trials, the values that they had, and which key matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audioml.evaluation.plots import INK, LINE, TRAIN, VALIDATION, to_svg
from audioml.evaluation.report import POLICY, format_number
from audioml.params import SpaceParams

Rows = Sequence[Mapping[str, Any]]
"""A trial each: number, state (complete, pruned, fail), value, values (by path)."""
COLORS = "viridis"


def draw_search(
    trials: Rows, maximize: bool, metric: str, space: Mapping[str, SpaceParams], importances: Mapping[str, float]
) -> Figure:
    """Return the figure of a search.

    Trials in their order with the best so far, their values side by side, and the share of the differences that each
    key explains.

    Parameters
    ----------
    trials
        All that were started.
    maximize
        Whether a larger value is better.
    metric
        Name of the value.
    space
        What was searched, by path.
    importances
        By path; empty if that is not known.
    """
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    course, parallel, bars = figure.subplots(1, 3, width_ratios=[1, 1.5, 0.8])
    _draw_course(course, trials, maximize, metric)
    _draw_parallel(figure, parallel, trials, metric, space)
    _draw_importances(bars, space, importances)
    for axes in (course, parallel, bars):
        axes.tick_params(colors=INK, length=0)
        axes.spines[:].set_visible(False)
    return figure


def render_search(name: str, trials: Rows, best: int, metric: str, figure: Figure, settings: Sequence[str]) -> str:
    """Return the page as HTML; it runs no script and asks nothing of any host."""
    own = resources.files("audioml.evaluation")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    template = environment.from_string(own.joinpath("tuning.html.j2").read_text(encoding="utf-8"))
    return template.render(
        name=name,
        trials=trials,
        best=best,
        metric=metric,
        plot=to_svg(figure, "search"),
        settings=settings,
        style=own.joinpath("report.css").read_text(encoding="utf-8"),
        policy=POLICY,
    )


def _draw_course(axes: Axes, trials: Rows, maximize: bool, metric: str) -> None:
    for state, marker, color in (("complete", "o", VALIDATION), ("pruned", "x", INK)):
        points = [(t["number"], t["value"]) for t in trials if t["state"] == state and t["value"] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=color, markersize=5, label=state, linestyle="none")
    done = [(t["number"], t["value"]) for t in trials if t["state"] == "complete"]
    if done:
        numbers, values = np.array(done).T
        best = (np.maximum if maximize else np.minimum).accumulate(values)
        axes.step(numbers, best, where="post", color=TRAIN, linewidth=1.8, label="best so far")
        axes.legend(frameon=False, labelcolor=INK)
    axes.set_title("Trials", color=INK, loc="left", fontsize=11)
    axes.set_xlabel("trial", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(metric.replace("_", " "), color=INK)
    axes.grid(color=LINE, linewidth=0.8)


def _draw_parallel(figure: Figure, axes: Axes, trials: Rows, metric: str, space: Mapping[str, SpaceParams]) -> None:
    done = [t for t in trials if t["state"] == "complete"]
    axes.set_title("Values", color=INK, loc="left", fontsize=11)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xticks(range(len(space)), [path.replace(".", ".\n", 1) for path in space], fontsize=8)
    axes.set_yticks([])
    for column, section in enumerate(space.values()):
        axes.axvline(column, color=LINE, linewidth=1)
        for value in section.choices or [section.low, section.high]:
            text = f"{value:g}" if _is_number(value) else str(value)
            axes.text(column + 0.03, _place(section, value), text, color=INK, fontsize=7)
    if not done:
        return
    values = np.array([t["value"] for t in done])
    norm, colors = Normalize(values.min(), values.max()), mpl.colormaps[COLORS]
    for trial in done:
        heights = [_place(section, trial["values"][path]) for path, section in space.items()]
        axes.plot(range(len(space)), heights, "o-", color=colors(norm(trial["value"])), linewidth=1.4, markersize=3)
    figure.colorbar(mpl.cm.ScalarMappable(norm, colors), ax=axes, label=metric.replace("_", " "))


def _draw_importances(axes: Axes, space: Mapping[str, SpaceParams], importances: Mapping[str, float]) -> None:
    paths = list(space)[::-1]
    axes.set_title("Importance", color=INK, loc="left", fontsize=11)
    if not importances:
        axes.text(0.5, 0.5, "too few finished trials", ha="center", va="center", color=INK, transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.barh(range(len(paths)), [importances.get(path, 0.0) for path in paths], color=TRAIN, height=0.6)
    axes.set_yticks(range(len(paths)), [path.replace(".", ".\n", 1) for path in paths], fontsize=8)
    axes.set_xlim(0, 1)


def _place(section: SpaceParams, value: Any) -> float:
    """Return where a value stands between the least, 0, and the greatest, 1."""
    if section.choices is not None:
        return section.choices.index(value) / max(1, len(section.choices) - 1)
    assert section.low is not None
    assert section.high is not None
    low, high, here = (np.log(v) if section.log else float(v) for v in (section.low, section.high, value))
    return float((here - low) / (high - low))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
