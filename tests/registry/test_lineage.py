from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from audioml.params import parse_params
from audioml.pipeline.context import Context
from audioml.registry.lineage import dataset_digest, dataset_inputs, effective_params, source_tags


def test_effective_params_have_the_plugins_defaults(minimal_params: dict[str, Any]) -> None:
    minimal_params["clean"] = [{"name": "preemphasis"}, {"name": "trim"}, {"name": "trim", "keep_s": 1}]
    minimal_params["augment"] = [{"name": "mixup"}, {"name": "time_shift"}]
    minimal_params["ingest"] = {"segment": {"name": "fixed"}}
    flat = effective_params(parse_params(minimal_params))
    assert (flat["ingest.segment.name"], flat["ingest.segment.length_s"]) == ("fixed", "10.0")
    assert flat["model.name"] == "bcresnet"
    assert flat["features.sample_rate"] == "16000"
    assert flat["task.label_smoothing"] == "0.1"
    assert flat["training.max_epochs"] == "60"
    assert json.loads(flat["augment"]) == ["mixup", "time_shift"]
    assert any(key.startswith("augment.mixup.") for key in flat)
    assert json.loads(flat["clean"]) == ["preemphasis", "trim", "trim"]
    assert flat["clean.preemphasis.coefficient"] == "0.97"
    assert [flat["clean.1.trim.keep_s"], flat["clean.2.trim.keep_s"]] == ["0.05", "1.0"]
    assert all(isinstance(value, str) for value in flat.values())


def test_digest_is_the_one_of_dvc(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("digest")
    content = ctx.path("data/manifest.parquet").read_bytes()
    assert dataset_digest(ctx) == hashlib.md5(content, usedforsecurity=False).hexdigest()
    ctx.path("data/manifest.parquet").unlink()
    assert dataset_digest(ctx) is None
    assert dataset_inputs(ctx) == []


def test_profile_counts_clips_hours_classes(make_workspace: Callable[[str], Context]) -> None:
    (given,) = dataset_inputs(make_workspace("profile"))
    assert json.loads(given.dataset.profile) == {"clips": 3, "hours": 1.0, "classes": 2}
    assert given.dataset.name == "profile"


def test_audio_digest_only_while_the_lock_is_current(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("lock")
    digest = dataset_digest(ctx)
    for manifest, names in ((digest, ["lock", "lock-audio"]), ("0" * 32, ["lock"])):
        outs = [{"path": "data/manifest.parquet", "md5": manifest}, {"path": "data/audio", "md5": f"{'1' * 32}.dir"}]
        ctx.path("dvc.lock").write_text(json.dumps({"stages": {"ingest": {"outs": outs}}}))
        assert [given.dataset.name for given in dataset_inputs(ctx)] == names


def test_commit_of_the_workspace(make_workspace: Callable[[str], Context], tmp_path: Path) -> None:
    ctx = make_workspace("commit")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ctx.workspace, capture_output=True, text=True, check=True)
    tags = source_tags(ctx)
    assert tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert tags["mlflow.source.git.branch"] == "main"
    assert tags["mlflow.source.git.dirty"] == "false"
    ctx.path("params.yaml").write_text("name: other")
    assert source_tags(ctx)["mlflow.source.git.dirty"] == "true"
    elsewhere = replace(ctx, workspace=tmp_path)
    assert "mlflow.source.git.commit" not in source_tags(elsewhere)
