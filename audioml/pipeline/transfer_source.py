"""What `training.init_from` names: looked up once, when a training or a search is planned, and the same from then on.

Who plans looks it up and writes down what it found; all processes, all folds and `collect` read that. So an alias that
moves meanwhile changes nothing, and the hash of the weights is part of what names a fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audioml.errors import ParamsError, StepError
from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.store.files import hash_file, read_json, write_json

RECORD = "training_source.json"
SUFFIX = ".ckpt"
"""By which the path of a checkpoint is told from the name of a registered model."""


def look_up_source(ctx: Context, folder: Path | None = None) -> None:
    """Find what `training.init_from` names, fetch it, and write down what it is, in a folder of its own for a search.

    Raises
    ------
    ParamsError
        When a path names no file.
    RegistryError
        When the registry has no such version, or it holds no weights.
    """
    reference = ctx.params.training.init_from
    if reference is None:
        return
    if reference.endswith(SUFFIX):
        path = ctx.path(reference)
        if not path.is_file():
            raise ParamsError(f"{FILE_NAME}: training.init_from is {reference!r}, but {path} is no file.")
        found = {"model": reference}
    else:
        from audioml.registry.tracking import tracking
        from audioml.registry.versions import fetch_checkpoint

        with tracking(ctx):
            version, path = fetch_checkpoint(ctx, reference)
        found = {"model": f"{version.name}/{version.version}", "run_id": version.run_id}
    record = {"init_from": reference, **found, "path": str(path), "sha256": hash_file(path)}
    write_json((folder or ctx.state) / RECORD, record)


def read_source(ctx: Context, folder: Path | None = None) -> dict[str, Any] | None:
    """Return what was found: init_from, model (NAME/VERSION, or the path), run_id if known, path, sha256.

    None where training starts from random weights.

    Raises
    ------
    StepError
        When it was not looked up yet.
    """
    reference = ctx.params.training.init_from
    if reference is None:
        return None
    path = (folder or ctx.state) / RECORD
    record: dict[str, Any] = read_json(path) if path.exists() else {}
    if record.get("init_from") != reference:
        command = "audioml run train" if folder is None else "audioml tune"
        raise StepError(f"What training.init_from names ({reference}) was not looked up yet. Run: {command}")
    return record


def source_path(ctx: Context, folder: Path | None = None) -> Path | None:
    """Return the file of the weights to start from, if any.

    Raises
    ------
    StepError
        When it is not what was looked up.
    """
    source = read_source(ctx, folder)
    if source is None:
        return None
    path = Path(source["path"])
    if not path.is_file() or hash_file(path) != source["sha256"]:
        raise StepError(f"{path} has changed since the training began. Start it anew.")
    return path


def describe_source(ctx: Context) -> dict[str, str]:
    """Return what the run's record says of the source; no paths of this machine. Empty without one."""
    source = read_source(ctx)
    return {} if source is None else {k: source[k] for k in ("model", "run_id", "sha256") if k in source}
