"""What is known of a node, in words: for the tree and for the page."""

from __future__ import annotations

from typing import Any

from audioml.lineage.node import Node

SHORT = 12
"""Digits of a hash that people compare."""
HASHES = ("sha256", "dvc_md5", "package_digest", "git_commit", "run_id", "features")
TIMES = ("time", "trained", "registered")
SECONDS = len("2026-11-22T10:00:00")
UNTOLD = ("prediction", "split", "learned", "commit")
"""What another fact or the name says already."""
MOST_PARAMS = 8
LEADING = ("model.name", "features.name", "task.name", "training.", "seed")
"""Params that say most of a model come first."""
SEPARATOR = " · "


def describe_facts(node: Node) -> str:
    """Return one line about a node: hashes cut short, true facts by their name alone."""
    return SEPARATOR.join(list_facts(node))


def list_facts(node: Node) -> list[str]:
    """Return what is known of a node, an entry a fact."""
    if node.kind == "params":
        return _list_params(node.facts["values"])
    if node.kind == "environment":
        return list(node.facts["libraries"])
    return [text for name, value in node.facts.items() if (text := _describe(name, value))]


def _describe(name: str, value: Any) -> str:
    if name == "withdrawn" and isinstance(value, dict):
        return f"WITHDRAWN: {value['recordings']} ({value['train']} trained on)"
    if name in UNTOLD:
        return ""
    if name in TIMES:
        told = value[:SECONDS].replace("T", " ")
        return told if name == "time" else f"{name} {told}"
    if name == "changed":
        return "with changes that are in no commit"
    words = name.replace("_", " ").replace("dvc cache", "DVC's cache")
    if name in HASHES:
        return f"{words.replace('dvc md5', 'DVC MD5').replace('sha256', 'SHA-256')} {value[:SHORT]}"
    if isinstance(value, bool):
        return words if value else f"not {words}"
    if isinstance(value, list):
        return f"{words} {', '.join(str(v)[:SHORT] if name == 'clips' else str(v) for v in value)}"
    if name in ("role", "note", "said", "audio", "file"):
        return str(value)
    if isinstance(value, float):
        return f"{words} {value:.4g}"
    return f"{words} {value:,}" if isinstance(value, int) else f"{words} {value}"


def _list_params(params: dict[str, str]) -> list[str]:
    first = [key for start in LEADING for key in params if key.startswith(start)]
    shown = list(dict.fromkeys([*first, *params]))[:MOST_PARAMS]
    more = len(params) - len(shown)
    return [f"{key} {params[key]}" for key in shown] + ([f"and {more} more"] if more else [])
