"""What a run of a step started from, to compare with when its outputs are recorded.

A step may run for hours beside an editor: outputs of the old params must not be recorded as those of the new.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from audioml.params import Params
from audioml.pipeline.context import Context
from audioml.pipeline.step import Step
from audioml.store.files import hash_file, hash_json, write_text

PACKAGE = Path(__file__).resolve().parents[1]


def note_start(ctx: Context, step: Step) -> None:
    """Keep the fingerprint of a step that starts."""
    write_text(_path(ctx, step), fingerprint(ctx, step))


def is_unchanged(ctx: Context, step: Step) -> bool:
    """Tell whether a step's params and code are still those of its last start; True if it never started here."""
    path = _path(ctx, step)
    return not path.exists() or path.read_text(encoding="utf-8") == fingerprint(ctx, step)


def fingerprint(ctx: Context, step: Step) -> str:
    """Return the SHA-256 of a step's params, as the context has them, and of its code's files, as they are now."""
    raw = ctx.params.model_dump(mode="json", by_alias=True)
    files = [file for path in step_code(ctx.params, step) for file in _files(PACKAGE / path)]
    hashes = {file.relative_to(PACKAGE).as_posix(): hash_file(file) for file in files}
    return hash_json({"params": {key: _look_up(raw, key) for key in step.params}, "code": hashes})


def step_code(params: Params, step: Step) -> list[str]:
    """Return the files and folders of the package that a step watches, names of plug-ins filled in."""
    raw = params.model_dump(mode="json", by_alias=True)
    return [re.sub(r"\$\{([\w.]+)\}", lambda match: str(_look_up(raw, match[1])), path) for path in step.code]


def _path(ctx: Context, step: Step) -> Path:
    return ctx.state / "started" / step.name


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _look_up(raw: dict[str, Any], key: str) -> Any:
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
