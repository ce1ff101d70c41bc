"""params.yaml as text: every key with its default, and above it what it means, taken from the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from audioml.params import PluginSection, parse_params
from audioml.plugins import load_plugin

HEADER = (
    "# What audioml does in this workspace. Every key is checked; `audioml plan` says what a change makes run again.\n"
)
PLUGIN_KINDS = {"features": "features", "task": "tasks", "model": "models"}


def render_params(choices: dict[str, Any]) -> str:
    """Return the text of params.yaml: the choices, every other key at its default, and comments.

    Raises
    ------
    ParamsError
        When a choice is not valid.
    """
    params = parse_params(choices)
    params.load_all_sections()
    parts = [HEADER]
    for name, field in type(params).model_fields.items():
        key, value = field.alias or name, getattr(params, name)
        if key == "data":
            parts.append(_render_section(key, params.data_section()))
        elif key == "augment":
            parts.append(_render_augment(params.augment_sections()))
        elif isinstance(value, PluginSection):
            parts.append(_render_plugin(key, value.name, params.plugin_section(PLUGIN_KINDS[key])))
        elif isinstance(value, BaseModel):
            parts.append(_render_section(key, value))
        else:
            parts.append("".join(_render_field(key, value, field.description, "")))
    return "\n".join(parts)


def _render_section(key: str, section: BaseModel) -> str:
    return f"{_comment(type(section).__doc__, '')}{key}:\n" + "".join(_render_fields(section, "  "))


def _render_plugin(key: str, name: str, section: BaseModel) -> str:
    summary = (load_plugin(PLUGIN_KINDS[key], name).__doc__ or "").partition("\n")[0]
    return f"{_comment(summary, '')}{key}:\n  name: {name}\n" + "".join(_render_fields(section, "  "))


def _render_augment(sections: list[tuple[str, Any]]) -> str:
    text = "# Changes to training clips, in this order; [] for none.\naugment:"
    if not sections:
        return text + " []\n"
    return (
        text
        + "\n"
        + "".join(f"  - name: {name}\n" + "".join(_render_fields(section, "    ")) for name, section in sections)
    )


def _render_fields(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        yield from _render_field(field.alias or name, getattr(section, name), field.description, indent)


def _render_field(key: str, value: Any, description: str | None, indent: str) -> Iterator[str]:
    yield _comment(description, indent)
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    yield f"{indent}{key}: {text.strip()[1:-1]}\n"


def _comment(description: str | None, indent: str) -> str:
    first = (description or "").strip().partition("\n\n")[0]
    return f"{indent}# {' '.join(first.split())}\n" if first else ""
