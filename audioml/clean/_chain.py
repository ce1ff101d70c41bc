"""The cleaning chain: sections of params to functions, and to the JSON that stands with shards and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from audioml.audio.sound import Sound
from audioml.params import Section, parse_section
from audioml.plugins import load_plugin

KIND = "clean"
Sections = Sequence[tuple[str, Section]]
"""(name, section) of each plug-in, in order, as `Params.clean_sections` returns them."""
Chain = tuple[Callable[[Sound], Sound], ...]


def load_chain(sections: Sections) -> Chain:
    """Return one function a plug-in, in order; imports the plug-ins."""
    return tuple(partial(load_plugin(KIND, name).apply, section) for name, section in sections)


def describe_chain(sections: Sections) -> list[dict[str, Any]]:
    """Return the JSON value of a chain: ``{"name": ..., "params": {...}}`` each, defaults among the params."""
    return [{"name": name, "params": section.model_dump(mode="json")} for name, section in sections]


def parse_chain(described: Sequence[Mapping[str, Any]]) -> list[tuple[str, Section]]:
    """Return the sections that `describe_chain` described.

    Raises
    ------
    ParamsError
        When this version of audioml has not the plug-in, or not the keys.
    """
    return [
        (part["name"], parse_section(load_plugin(KIND, part["name"]).Params, part["params"], f"{KIND}.{i}"))
        for i, part in enumerate(described)
    ]
