"""What a run was made from: the effective params, the commit, the dataset with its DVC digest."""

from __future__ import annotations

import getpass
import hashlib
import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audioml
from audioml.params import Params
from audioml.registry.workspace import Workspace
from audioml.store.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

AUDIO = "data/audio"
SECONDS_PER_HOUR = 3600.0
VERSION_TAG = "audioml.version"
DATASET_TAG = "audioml.dataset_digest"


def effective_params(params: Params) -> dict[str, str]:
    """Return all params, the plug-ins' defaults among them, with dotted keys: ``model.name``, ``training.seed``.

    Augmentations stand under their names, and in order in ``augment``; so does the cleaning chain in ``clean``.
    A plug-in that is there twice stands under its place as well: ``clean.2.trim``. Imports the plug-ins.
    """
    tree: dict[str, Any] = params.model_dump(mode="json", by_alias=True)
    # What is searched for says nothing of a model; how it is exported and judged may change after its run.
    del tree["tune"], tree["export"], tree["registry"]["gates"]
    tree["data"] = params.data_section().model_dump(mode="json")
    if params.ingest.segment is not None:
        tree["ingest"]["segment"] = {
            "name": params.ingest.segment.name,
            **params.segment_section().model_dump(mode="json"),
        }
    for section, kind in (("features", "features"), ("task", "tasks"), ("model", "models")):
        own = params.plugin_section(kind).model_dump(mode="json")
        tree[section] = {"name": getattr(params, section).name, **own}
    lists = {"clean": params.clean_sections(), "augment": params.augment_sections()}
    flat = _flatten({key: value for key, value in tree.items() if key not in lists}, "")
    for key, sections in lists.items():
        names = [name for name, _ in sections]
        flat[key] = json.dumps(names)
        for i, (name, section) in enumerate(sections):
            place = f"{i}.{name}" if names.count(name) > 1 else name
            flat |= _flatten(section.model_dump(mode="json"), f"{key}.{place}.")
    return flat


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def source_tags(ctx: Workspace) -> dict[str, str]:
    """Return the tags of a run: audioml's version, the dataset's digest, the workspace's commit if it has one."""
    tags = {VERSION_TAG: audioml.__version__, "mlflow.source.type": "LOCAL", "mlflow.source.name": "audioml run train"}
    with suppress(KeyError, OSError):  # containers run under numbers that have no name
        tags["mlflow.user"] = getpass.getuser()
    if digest := dataset_digest(ctx):
        tags[DATASET_TAG] = digest
    if commit := _git(ctx.workspace, "rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        changed = _git(ctx.workspace, "status", "--porcelain", "--untracked-files=no", "--", ".")
        tags["mlflow.source.git.dirty"] = "true" if changed else "false"
        if branch := _git(ctx.workspace, "branch", "--show-current"):
            tags["mlflow.source.git.branch"] = branch
    return tags


def _git(workspace: Path, *arguments: str) -> str | None:
    """Return what git answers, or None where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(["git", "-C", str(workspace), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def dataset_digest(ctx: Workspace) -> str | None:
    """Return the MD5 of the manifest, which is the digest that DVC gives it, or None without a manifest.

    It is computed, not read from dvc.lock, which lags behind where a step ran outside of DVC.
    """
    path = ctx.path(MANIFEST)
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def dataset_inputs(ctx: Workspace) -> list[DatasetInput]:
    """Return the dataset as MLflow shows it: the manifest, and the packed audio when dvc.lock knows its digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    from audioml.tasks._clip_labels import count_labels

    digest = dataset_digest(ctx)
    if digest is None:
        return []
    manifest = read_manifest(ctx.path(MANIFEST))
    profile = {
        "clips": len(manifest),
        "hours": round(float(manifest["duration_s"].sum()) / SECONDS_PER_HOUR, 4),
        "classes": count_labels(ctx.params, manifest),
    }
    schema = {"columns": [{"name": str(name), "type": str(kind)} for name, kind in manifest.dtypes.items()]}
    sources = [(ctx.params.name, MANIFEST, digest)]
    if digest == ctx.lock_digest(MANIFEST) and (audio_digest := ctx.lock_digest(AUDIO)):
        sources.append((f"{ctx.params.name}-audio", AUDIO, audio_digest))
    return [
        DatasetInput(
            Dataset(
                name=name,
                digest=source_digest,
                source_type="local",
                source=json.dumps({"uri": source}),
                schema=json.dumps(schema) if source == MANIFEST else None,
                profile=json.dumps(profile),
            ),
            [InputTag("mlflow.data.context", "training")],
        )
        for name, source, source_digest in sources
    ]
