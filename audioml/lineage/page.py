"""Lineage as a page: a graph drawn as SVG and, below it, all facts. It runs no script and asks nothing of any host."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from itertools import count
from typing import Any

import jinja2

from audioml.lineage.node import Node, summarize
from audioml.lineage.words import list_facts

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
BOX_PX, GAP_PX = 244, 40
"""Width of a box, and from one column to the next."""
LINE_PX, PADDING_PX, ROW_GAP_PX = 15, 9, 10
MARGIN_PX = 12
MOST_LINES = 5
"""Facts in a box; all of them stand below the graph."""
MOST_LETTERS, MOST_BOLD = 34, 28
"""Of one line in a box, and of the name above it."""


@dataclass(frozen=True)
class Box:
    """A node as it is drawn."""

    node: Node
    anchor: str
    x: int
    y: int
    height: int
    title: str
    lines: tuple[str, ...]
    children: tuple[Box, ...]

    @property
    def middle(self) -> int:
        """Where its edges end, from the top."""
        return self.y + self.height // 2

    def walk(self) -> list[Box]:
        """Return it and all that is behind it."""
        return [self, *(box for child in self.children for box in child.walk())]

    def edges(self) -> list[str]:
        """Return the paths of the curves from it, and from all that is behind it."""
        here, half = self.middle, GAP_PX // 2
        own = [
            f"M{c.x - GAP_PX},{here} C{c.x - half},{here} {c.x - half},{c.middle} {c.x},{c.middle}"
            for c in self.children
        ]
        return own + [edge for child in self.children for edge in child.edges()]


def render_page(node: Node, most: int) -> str:
    """Return the page of a lineage as HTML.

    Parameters
    ----------
    node
        From `audioml.lineage.trace.trace`.
    most
        Entries that a long list shows; the others are counted.
    """
    shown = summarize(node, most)
    root = place(shown)
    boxes = root.walk()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tell"] = _tell
    own = resources.files("audioml.lineage")
    template = environment.from_string(own.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        root=shown,
        policy=POLICY,
        boxes=boxes,
        edges=root.edges(),
        box_width=BOX_PX,
        line_height=LINE_PX,
        padding=PADDING_PX,
        width=max(box.x for box in boxes) + BOX_PX + MARGIN_PX,
        height=max(box.y + box.height for box in boxes) + MARGIN_PX,
        forward=node.kind == "recording",
    )


def place(root: Node) -> Box:
    """Return the boxes of a tree: a column a generation, children below each other, parents beside their first one."""
    numbers = count()
    next_free: list[int] = []

    def put(node: Node, depth: int) -> Box:
        title = _cut(node.name, MOST_BOLD)
        lines = () if node.kind == "more" else tuple(_cut(line) for line in list_facts(node)[:MOST_LINES])
        height = 2 * PADDING_PX + LINE_PX * (2 + len(lines)) if node.kind != "more" else 2 * PADDING_PX + LINE_PX
        anchor = f"n{next(numbers)}"
        while len(next_free) <= depth:
            next_free.append(MARGIN_PX)
        if node.children:
            # No child may be higher up than its parent's column has room for.
            for deeper in range(depth + 1, len(next_free)):
                next_free[deeper] = max(next_free[deeper], next_free[depth])
        children = tuple(put(child, depth + 1) for child in node.children)
        y = max(next_free[depth], children[0].y if children else 0)
        next_free[depth] = y + height + ROW_GAP_PX
        return Box(node, anchor, MARGIN_PX + depth * (BOX_PX + GAP_PX), y, height, title, lines, children)

    return put(root, 0)


def _tell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_tell(inner)}" for key, inner in value.items() if inner != [])
    if isinstance(value, list):
        return ", ".join(map(_tell, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _cut(text: str, most: int = MOST_LETTERS) -> str:
    """Cut a line in its middle: the ends of paths tell more than what lies between."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
