"""params.yaml as text: every key with its default, and above it what it means, taken from the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from audioml.params import Params, PluginSection, parse_params
from audioml.plugins import load_plugin, plugin_names

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
    return "\n".join([HEADER, *render_sections(choices).values()])


def render_sections(choices: dict[str, Any]) -> dict[str, str]:
    """Return the text of each top-level key of params.yaml, as `render_params`."""
    params = parse_params(choices)
    params.load_all_sections()
    parts = {}
    for name, field in type(params).model_fields.items():
        key, value = field.alias or name, getattr(params, name)
        if key == "data":
            parts[key] = _render_section(key, params.data_section())
        elif key == "ingest":
            parts[key] = _render_ingest(params)
        elif key == "clean":
            parts[key] = _render_plugins(key, params.clean_sections(), field.description)
        elif key == "augment":
            parts[key] = _render_plugins(key, params.augment_sections(), field.description)
        elif isinstance(value, PluginSection):
            parts[key] = _render_plugin(key, value.name, params.plugin_section(PLUGIN_KINDS[key]))
        elif isinstance(value, BaseModel):
            parts[key] = _render_section(key, value)
        else:
            parts[key] = "".join(_render_field(key, value, field.description, ""))
    return parts


def replace_sections(text: str, raw: dict[str, Any], changed: dict[str, Any]) -> str:
    """Return params.yaml's text with each top-level key whose value changed written anew; all else as it stands.

    Parameters
    ----------
    text : str
        A params.yaml.
    raw : dict
        What it holds.
    changed : dict
        What it is to hold: complete sections where they differ from `raw`.
    """
    if changed == raw:
        return text
    sections = render_sections(changed)
    fresh = {key: sections[key] for key in changed if key not in raw or changed[key] != raw[key]}
    lines = text.splitlines(keepends=True)
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    keys = {key.value: key.start_mark.line for key, _ in root.value}
    starts = [_above(lines, line, "#\n") for line in keys.values()]
    ends = [*starts[1:], _above(lines, len(lines), "#\n")]
    new = "".join(lines[: starts[0]])
    for (key, line), start, end in zip(keys.items(), starts, ends, strict=True):
        # The comment right above a key is rendered with it; others are somebody's own.
        if key in fresh:
            new += "".join(lines[start : _above(lines, line, "#")]) + fresh.pop(key)
        else:
            new += "".join(lines[start:end])
    new += "".join(lines[ends[-1] :])
    for section in fresh.values():
        new = f"{new.rstrip()}\n\n{section}"
    # Flow style, or an anchor in a section that went: the text cannot be mended in parts.
    return new if _reads_as(new, changed) else HEADER + yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)


def _above(lines: list[str], line: int, kinds: str) -> int:
    """Return where the lines right above a line that start with one of these characters begin."""
    while line > 0 and lines[line - 1][0] in kinds:
        line -= 1
    return line


def _reads_as(text: str, expected: dict[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == expected)
    except yaml.YAMLError:
        return False


def _render_section(key: str, section: BaseModel) -> str:
    return f"{_comment(type(section).__doc__, '')}{key}:\n" + "".join(_render_fields(section, "  "))


def _render_plugin(key: str, name: str, section: BaseModel) -> str:
    summary = (load_plugin(PLUGIN_KINDS[key], name).__doc__ or "").partition("\n")[0]
    return f"{_comment(summary, '')}{key}:\n  name: {name}\n" + "".join(_render_fields(section, "  "))


def _render_ingest(params: Params) -> str:
    """Render the section with the keys of its segment plug-in, where it has one."""
    ingest, segment = params.ingest, params.segment_section()
    if ingest.segment is None:
        return _render_section("ingest", ingest)
    plain = _render_section("ingest", ingest.model_copy(update={"segment": None}))
    fields = f"  segment:\n    name: {ingest.segment.name}\n" + "".join(_render_fields(segment, "    "))
    return plain.replace("  segment: null\n", fields)


def _render_plugins(key: str, sections: list[tuple[str, Any]], description: str | None) -> str:
    text = f"{_comment(description, '')}# There are: {', '.join(plugin_names(key))}.\n{key}:"
    if not sections:
        return text + " []\n"
    items = (f"  - name: {name}\n" + "".join(_render_fields(section, "    ")) for name, section in sections)
    return text + "\n" + "".join(items)


def _render_fields(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        yield from _render_field(field.alias or name, getattr(section, name), field.description, indent)


def _render_field(key: str, value: Any, description: str | None, indent: str) -> Iterator[str]:
    yield _comment(description, indent)
    plain = TypeAdapter(Any).dump_python(list(value) if isinstance(value, tuple) else value)
    text = yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    yield f"{indent}{key}: {text.strip()[1:-1]}\n"


def _comment(description: str | None, indent: str) -> str:
    first = (description or "").strip().partition("\n\n")[0]
    return f"{indent}# {' '.join(first.split())}\n" if first else ""
