"""Settings of one run over params.yaml: ``training.max_epochs=5``, ``model.name=bcresnet``, ``augment.0.share=0.2``.

A setting is a dotted path, ``=``, and a value in YAML. Sections that no setting changes stay as they are, byte for
byte in the file, so that DVC runs nothing else again; those that change come with every key, as the defaults that
made a model belong to it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from audioml.errors import ParamsError
from audioml.orchestration.dvc import render_dvc_yaml
from audioml.orchestration.params_file import render_params, replace_sections
from audioml.params import FILE_NAME, Params, parse_params, read_raw_params
from audioml.plugins import load_plugin

SETTING = r"[A-Za-z_][\w.-]*\s*=.*"
"""Regular expression of a setting; Airflow's page shows it to whom it refuses one."""
_NAMES = {
    r"model\.name": "models",
    r"features\.name": "features",
    r"task\.name": "tasks",
    r"ingest\.segment\.name": "segment",
    r"clean\.\d+\.name": "clean",
    r"augment\.\d+\.name": "augment",
}
"""Paths that name a plug-in, and its kind."""
_OTHER_WORKSPACE = "Another {} is another workspace; make one with: audioml init DIR --data SRC"
_FIXED = {
    "name": _OTHER_WORKSPACE.format("name"),
    "registry.name": "The DAG's assets carry it: change it in params.yaml, for all runs",
    "data.layout": _OTHER_WORKSPACE.format("layout"),
    "data.source": _OTHER_WORKSPACE.format("source"),
    "training.accelerator": "It chooses the pool and the queue when the DAG is built: change it in params.yaml",
    "training.devices": "It chooses the slots of the pool when the DAG is built: change it in params.yaml",
    "monitor": "It is read when what is served is looked at, not by a run: change it in params.yaml",
    "airflow": "It is read when the DAG is built, not when it runs: change it in params.yaml",
}
"""What no run can have for itself, and what to do instead."""


def override_file(path: Path, settings: Sequence[str]) -> str:
    """Return the text of a params.yaml with settings applied, as `apply_overrides` does."""
    raw = read_raw_params(path)
    return replace_sections(path.read_text(encoding="utf-8"), raw, apply_overrides(raw, settings))


def apply_overrides(raw: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return params.yaml's mapping with settings applied, every section checked. Imports the plug-ins in use.

    Another plug-in takes nothing over from the one before, except the keys that both have from a common base, such
    as the rate of all features; so names are set first, whatever the order of the settings.

    Raises
    ------
    ParamsError
        When a setting is not one, or names an unknown key; when a value is not valid; when a run cannot have it for
        itself.
    """
    before = _complete(raw)
    pairs = [parse_setting(setting) for setting in settings]
    names = [pair for pair in pairs if _kind_named_by(pair[0])]
    others = [pair for pair in pairs if not _kind_named_by(pair[0])]
    after = before
    try:
        for group in (names, others):
            tree = copy.deepcopy(after)
            for path, value in group:
                _set(tree, path, value)
            after = _complete(tree)
    except ParamsError as error:
        raise ParamsError(f"The settings of this run: {str(error).replace(f'{FILE_NAME}: ', '')}") from None
    _check_fixed(parse_params(before), parse_params(after))
    return raw | {key: value for key, value in after.items() if value != before[key]}


def parse_setting(text: str) -> tuple[str, Any]:
    """Return path and value of a setting.

    Raises
    ------
    ParamsError
        When it is not ``dotted.path=VALUE`` with a value in YAML.
    """
    text = text.strip()
    if not re.fullmatch(SETTING, text):
        raise ParamsError(f"{text!r} is no setting; write PATH=VALUE, such as training.max_epochs=5")
    path, _, value = text.partition("=")
    try:
        return path.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"{text!r}: the value is not YAML: {' '.join(str(error).split())}") from None


def _complete(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping with every default filled in, all sections checked."""
    complete: dict[str, Any] = yaml.safe_load(render_params(raw))
    return complete


def _kind_named_by(path: str) -> str | None:
    return next((kind for pattern, kind in _NAMES.items() if re.fullmatch(pattern, path)), None)


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    inner: Any = tree
    for depth, part in enumerate(parents):
        inner = _enter(inner, part, ".".join(parents[:depth]))
    if isinstance(inner, list):
        index = _index(inner, last, ".".join(parents))
        inner[index : index + 1] = [value]
        return
    if not isinstance(inner, dict):
        raise _no_section(".".join(parents), inner)
    if (kind := _kind_named_by(path)) and isinstance(value, str) and value != inner.get("name"):
        shared = _shared_keys(kind, inner.get("name"), value)
        kept = {key: inner[key] for key in shared if key in inner}
        inner.clear()
        inner |= kept
    inner[last] = value


def _enter(inner: Any, part: str, where: str) -> Any:
    """Return what lies under one part of a path; an empty section is made where there is none yet."""
    if isinstance(inner, list):
        index = _index(inner, part, where)
        inner.extend([{}] * (index == len(inner)))
        return inner[index]
    if not isinstance(inner, dict):
        raise _no_section(where, inner)
    if inner.get(part) is None:
        inner[part] = {}
    return inner[part]


def _index(items: list[Any], part: str, where: str) -> int:
    if not part.isdecimal() or int(part) > len(items):
        raise ParamsError(f"'{where}' is a list of {len(items)}: write 0 to {len(items)}, not {part!r}")
    return int(part)


def _no_section(where: str, value: Any) -> ParamsError:
    return ParamsError(f"'{where}' is {value!r}, a value without keys of its own")


def _shared_keys(kind: str, old: str | None, new: str) -> list[str]:
    """Return the keys that two plug-ins' params inherit from the same classes."""
    if old is None:
        return []
    classes = set(load_plugin(kind, old).Params.__mro__) & set(load_plugin(kind, new).Params.__mro__)
    return [key for base in classes for key in getattr(base, "model_fields", {})]


def _check_fixed(before: Params, after: Params) -> None:
    for path, remedy in _FIXED.items():
        old, new = before, after
        for part in path.split("."):
            old, new = getattr(old, part), getattr(new, part)
        if old != new:
            raise ParamsError(f"The settings of this run: '{path}' is the same for all runs. {remedy}.")
    if render_dvc_yaml(before) != render_dvc_yaml(after):
        raise ParamsError(
            "The settings of this run would change dvc.yaml, so `dvc repro` could not reproduce it. Change params.yaml "
            "instead, for all runs, then: audioml render"
        )
