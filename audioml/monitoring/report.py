"""One day of monitoring as one HTML page: the verdict, what drifted, and what it looks like beside the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audioml.evaluation.plots import INK, LINE, TRAIN, VALIDATION, to_svg
from audioml.evaluation.report import POLICY, format_number, format_percent
from audioml.monitoring.columns import Column, Sample
from audioml.monitoring.drift import Finding
from audioml.monitoring.retest import Retest

BINS = 32
TAIL = 0.005
"""Share of values at either end that may lie outside of a histogram."""
MAX_CLASSES = 12
"""That are shown, those with the largest share on either side."""


@dataclass(frozen=True)
class Watch:
    """All that the page shows."""

    model: str
    version: int
    source: str
    """What was looked at, such as the days of the log."""
    n_rows: int
    left_out: str
    """What was not looked at, and why; empty if that is nothing."""
    findings: Sequence[Finding]
    """Those that drifted first."""
    retested: Retest
    confidence: float
    retest_confidence: float
    max_loss: float

    @property
    def drifted(self) -> list[Finding]:
        """The columns that drifted."""
        return [finding for finding in self.findings if finding.drifted]

    @property
    def tested(self) -> int:
        """How many columns were tested."""
        return sum(not finding.skipped for finding in self.findings)


def render_watch(watch: Watch, samples: Mapping[str, tuple[Sample, Sample]]) -> str:
    """Return the page as HTML. It runs no script and asks nothing of any host."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": format_percent, "number": format_number, "chance": format_chance}
    own = resources.files("audioml.monitoring").joinpath("report.html.j2").read_text(encoding="utf-8")
    style = resources.files("audioml.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    plots = {
        f.column.name: to_svg(draw_sides(f.column, *samples[f.column.name]), f.column.name)
        for f in watch.findings
        if not f.skipped
    }
    return environment.from_string(own).render(watch=watch, plots=plots, style=style, policy=POLICY)


def draw_sides(column: Column, reference: Sample, now: Sample) -> Figure:
    """Return the distribution of a column in the reference, and now, as shares."""
    figure = Figure(figsize=(4.4, 2.1), layout="constrained")
    axes = figure.subplots()
    draw = _draw_numbers if column.kind == "number" else _draw_classes
    draw(axes, reference.values, now.values)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("share", color=INK)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    if column.unit:
        axes.set_xlabel(column.unit, color=INK)
    return figure


def format_chance(p_value: float) -> str:
    """Return a p-value as people read it."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def _draw_numbers(axes: Axes, reference: Any, now: Any) -> None:
    ends = [np.quantile(side, [TAIL, 1 - TAIL]) for side in (reference, now)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if high <= low:
        low, high = low, low + 1.0
    edges = np.linspace(low, high, BINS + 1)
    for values, color, filled in ((reference, TRAIN, True), (now, VALIDATION, False)):
        shares = np.histogram(np.clip(values, low, high), edges)[0] / len(values)
        axes.stairs(shares, edges, color=color, fill=filled, alpha=0.45 if filled else 1.0, linewidth=1.8)


def _draw_classes(axes: Axes, reference: Any, now: Any) -> None:
    counts = [Counter(side.tolist()) for side in (reference, now)]
    shares = {
        name: [count[name] / max(1, count.total()) for count in counts] for name in sorted({*counts[0], *counts[1]})
    }
    shown = sorted(shares, key=lambda name: -max(shares[name]))[:MAX_CLASSES]
    place = np.arange(len(shown))
    for offset, side, color, alpha in ((-0.2, 0, TRAIN, 0.45), (0.2, 1, VALIDATION, 1.0)):
        axes.bar(place + offset, [shares[name][side] for name in shown], 0.38, color=color, alpha=alpha)
    # So that one class alone is no wall.
    axes.set_xlim(-0.6, max(len(shown), 4) - 0.4)
    turned = sum(map(len, shown)) > 40
    axes.set_xticks(place, shown, rotation=35 if turned else 0, ha="right" if turned else "center", fontsize=8)
