from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from audioml.errors import RegistryError, StoreError
from audioml.lineage.node import Node
from audioml.lineage.trace import trace
from audioml.pipeline.context import Context
from audioml.store.manifest import MANIFEST, read_manifest


def below(node: Node, kind: str) -> list[Node]:
    return [node] * (node.kind == kind) + [found for child in node.children for found in below(child, kind)]


def test_a_model_back_to_its_files(ctx: Context, tmp_path: Path) -> None:
    node = trace(ctx, f"{ctx.model_name}@champion")
    assert (node.kind, node.name) == ("model", f"{ctx.model_name}/1")
    lists = {child.facts["split"]: child for child in below(node, "recordings")}
    assert [(split, lists[split].facts["files"]) for split in ("train", "validation", "test")] == [
        ("train", 10),
        ("validation", 1),
        ("test", 1),
    ]
    files = {file.name: file.facts["sha256"] for child in lists.values() for file in child.children}
    assert files == {
        path.relative_to(tmp_path / "recordings").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "recordings").rglob("*.wav")
    }
    (dataset,) = below(node, "dataset")
    assert dataset.facts["dvc_md5"] == hashlib.md5(ctx.path(MANIFEST).read_bytes()).hexdigest()
    assert dataset.facts["in_dvc_cache"] is False
    assert below(node, "params")[0].facts["values"]["model.name"] == "bcresnet"
    (shard,) = (child for child in below(node, "features") if "clips" in child.facts)
    assert shard.facts == {"clips": 12, "here": False}
    assert json.loads(json.dumps(node.as_dict())) == node.as_dict()


def test_a_request_names_its_model_once_in_full(ctx: Context) -> None:
    node = trace(ctx, "r1")
    assert [child.facts["said"] for child in node.children] == ["low", "low"]
    assert len(below(node, "run")) == 1
    assert len(below(node, "model")) == 2
    (gone,) = below(trace(ctx, "r2"), "model")
    assert "not in the registry any more" in gone.facts["note"]


def test_a_recording_on_to_its_models(ctx: Context, tmp_path: Path) -> None:
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("path")
    node = trace(ctx, "low/0.wav")
    (model,) = below(node, "models")[0].children
    assert (model.name, model.facts["role"], model.facts["learned"]) == (f"{ctx.model_name}/1", "trained on it", True)
    assert [answer.name for answer in below(node, "prediction")] == ["r1 file 0", "r1 file 1"]
    clip_id = str(manifest.loc["low/0.wav", "clip_id"])
    assert trace(ctx, str(tmp_path / "recordings/low/0.wav")) == trace(ctx, clip_id) == trace(ctx, clip_id[:9]) == node
    tested = trace(ctx, "high/0.wav")
    (model,) = below(tested, "models")[0].children
    assert (model.facts["role"], model.facts["learned"]) == ("tested on it", False)
    assert model.facts["audio_in_package"] is True


def test_the_registry_knows_a_file_that_the_workspace_has_no_more(ctx: Context) -> None:
    ctx.path(MANIFEST).unlink()
    node = trace(ctx, "low/1.wav")
    assert node.facts["in_manifest"] is False
    assert len(below(node, "models")[0].children) == 1


def test_a_file_that_nobody_met(ctx: Context, tmp_path: Path, tone_wav: Any) -> None:
    (tmp_path / "new.wav").write_bytes(tone_wav(999.0))
    node = trace(ctx, str(tmp_path / "new.wav"))
    assert below(node, "models")[0].name == "0 model versions met it"
    assert not below(node, "prediction")


def test_what_nothing_is_called(ctx: Context) -> None:
    with pytest.raises(RegistryError, match=r"no request in the log.*no recording.*No model is called 'nothing'"):
        trace(ctx, "nothing")
    with pytest.raises(StoreError, match="No clip or recording has the SHA-256"):
        trace(ctx, "0" * 64)
