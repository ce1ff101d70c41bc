"""What lineage is told in: a tree of nodes, which is printed, written as JSON, or drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One thing, and what it comes from; or, seen from a recording, what came of it."""

    kind: str
    """prediction, model, run, params, code, environment, dataset, features, recordings, recording, models, predictions
    or withdrawal."""
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values; what is not known is not there."""
    children: tuple[Node, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, with all its children."""
        children = [child.as_dict() for child in self.children]
        return {"kind": self.kind, "name": self.name, **self.facts, **({"children": children} if children else {})}


def make_node(kind: str, name: str, /, *children: Node | None, **facts: Any) -> Node:
    """Return a node without the facts and children that are not known (None, or an empty string)."""
    known = {key: value for key, value in facts.items() if value is not None and value != ""}
    return Node(kind, name, known, tuple(child for child in children if child is not None))


LISTS = ("recordings", "features", "models", "predictions")
"""Kinds of nodes whose children are entries of one list, which may be long."""


def summarize(node: Node, most: int) -> Node:
    """Return a copy in which long lists name the first `most` entries, and count the others."""
    shown = [summarize(child, most) for child in (node.children[:most] if node.kind in LISTS else node.children)]
    if hidden := len(node.children) - len(shown):
        shown.append(Node("more", f"and {hidden:,} more"))
    return Node(node.kind, node.name, node.facts, tuple(shown))
