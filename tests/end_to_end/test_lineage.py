"""From a prediction of the real server to the files behind it, and from a withdrawn file to every model it touched."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from audioml.registry.server import Server
from audioml.store.clips import read_clips

from ..conftest import write_tones
from .conftest import ENVIRONMENT, change_params, keep_server, run_command, shrink

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace whose files lie in packed shards of a few clips each."""
    source = write_tones(tmp_path / "töne", clips_per_label=12)
    run_command("audioml", "init", str(tmp_path / "tones"), "--data", str(source), cwd=tmp_path)
    shrink(tmp_path / "tones", max_epochs=2)
    change_params(tmp_path / "tones", "ingest", shard_s=6.0)
    change_params(tmp_path / "tones", "serving", log_audio=True)
    return tmp_path / "tones"


@contextmanager
def serve(workspace: Path, server: Server) -> Iterator[str]:
    """Run the server for the block; it writes its log as it ends."""
    command = [sys.executable, "-m", "audioml", "serve", "--port", "0"]
    environment = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": server.url}
    with subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://[0-9.:]+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


def ask(workspace: Path, *arguments: str) -> Any:
    return json.loads(run_command("audioml", *arguments, "--json", cwd=workspace).stdout)


def below(node: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    own = [node] if node["kind"] == kind else []
    return own + [found for child in node.get("children", []) for found in below(child, kind)]


def shards(workspace: Path, folder: str) -> dict[str, tuple[int, str]]:
    files = [path for path in (workspace / folder).iterdir() if path.suffix in (".parquet", ".arrow")]
    return {f.name: (f.stat().st_mtime_ns, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_from_a_prediction_to_the_files_and_from_a_withdrawn_file_to_the_models(workspace: Path) -> None:
    source = workspace.parent / "töne"
    with keep_server(workspace) as server:
        run_command("dvc", "repro", cwd=workspace)
        splits = pd.read_parquet(workspace / "data" / "splits.parquet")
        manifest = pd.read_parquet(workspace / "data" / "manifest.parquet").merge(splits, on="clip_id")
        trained = manifest[manifest["split"] == "train"]
        # The smallest training clip is the package's example: it is in the registry too.
        gone = trained.sort_values(["size_bytes", "path", "start_s"])["path"].iloc[0]
        with serve(workspace, server) as url:
            answer = httpx.post(f"{url}/predict", content=(source / gone).read_bytes(), timeout=60)
            answer.raise_for_status()
            request_id = answer.headers["x-request-id"]

        # There: the exact files, checked against the disk.
        told = ask(workspace, "lineage", request_id)
        assert (told["kind"], told["sha256"]) == ("prediction", sha256(source / gone))
        assert told["prediction"]["label"] == answer.json()["label"]
        (model,) = below(told, "model")
        (run,) = below(told, "run")
        assert (model["name"], run["run_id"]) == (
            "tones/1",
            json.loads((workspace / "models" / "run.json").read_text())["run_id"],
        )
        lists = {node["split"]: node for node in below(told, "recordings")}
        learned = {node["name"]: node["sha256"] for node in lists["train"]["children"]}
        assert learned == {path: sha256(source / path) for path in trained["path"]}
        assert {split: node["files"] for split, node in lists.items()} == manifest["split"].value_counts().to_dict()
        (data,) = below(told, "dataset")
        assert data["dvc_md5"] == hashlib.md5((workspace / "data" / "manifest.parquet").read_bytes()).hexdigest()
        assert data["in_dvc_cache"] is True
        head = run_command("git", "rev-parse", "HEAD", cwd=workspace).stdout.strip()
        assert below(told, "code")[0]["commit"] == head
        assert below(told, "params")[0]["values"]["training.max_epochs"] == "2"
        assert any(library.startswith("onnxruntime==") for library in below(told, "environment")[0]["libraries"])
        used = {node["name"] for node in below(told, "features") if "clips" in node}
        assert used == set(shards(workspace, "features"))

        # Back: the models of a file, by its path, by itself, by its hash.
        page = workspace.parent / "lineage.html"
        by_path = ask(workspace, "lineage", gone, "--html", str(page))
        assert [(node["name"], node["learned"]) for node in below(by_path, "models")[0]["children"]] == [
            ("tones/1", True)
        ]
        assert below(by_path, "prediction")[0]["name"] == f"{request_id} file 0"
        assert by_path == ask(workspace, "lineage", str(source / gone))
        assert by_path == ask(workspace, "lineage", sha256(source / gone)[:12])
        assert "tones/1" in page.read_text()
        assert not re.search(r"(src|href)=.?(https?:)?//", page.read_text())

        # A second model that starts from the first one's weights, and has never met the file itself.
        before = shards(workspace, "data/audio"), shards(workspace, "features")
        forgotten = ask(
            workspace, "forget", str(source / gone), "--by", "ann", "--reason", "consent withdrawn", "--jobs", "1"
        )
        assert [(m["model"], m["version"], m["recordings"]["train"]) for m in forgotten["models"]] == [("tones", 1, 1)]
        assert forgotten["models"][0]["packaged"] == 1
        assert forgotten["audio_removed_from_log"] == 1
        assert forgotten["feature_shards"]["made"] == 1
        check_gone(workspace, source / gone)
        after = shards(workspace, "data/audio"), shards(workspace, "features")
        for old, new in zip(before, after, strict=True):
            assert len(old) > 3
            assert len(old.keys() - new.keys()) == len(new.keys() - old.keys()) == 1
            assert all(old[name] == new[name] for name in old.keys() & new.keys())

        run_command("audioml", "plan", cwd=workspace)
        change_params(workspace, "training", init_from="tones/1")
        run_command("dvc", "repro", cwd=workspace)
        check_gone(workspace, source / gone)
        assert shards(workspace, "features").items() == after[1].items()
        listed = {version["version"]: version for version in ask(workspace, "models", "list")}
        assert listed[1]["withdrawn"]["train"] == 1
        assert listed[1]["withdrawn"]["reason"] == "consent withdrawn"
        assert listed[2]["withdrawn"] is None
        second = below(ask(workspace, "lineage", "tones/2"), "recordings")
        assert gone not in {file["name"] for node in second[:3] for file in node["children"]}
        with serve(workspace, server) as url:
            card = httpx.get(f"{url}/model", timeout=60).json()
            assert (card["version"], card["withdrawn"]["train"]) == (1, 1)

        # The file is at the source still. Renamed it stays out; asked about, it leads to both models.
        shutil.move(source / gone, source / Path(gone).parent / "renamed.wav")
        run_command("dvc", "repro", cwd=workspace)
        check_gone(workspace, source / Path(gone).parent / "renamed.wav")
        touched = below(ask(workspace, "lineage", gone), "models")[0]["children"]
        assert [(node["name"], node["learned"], node.get("via")) for node in touched] == [
            ("tones/1", True, None),
            ("tones/2", True, ["tones/1"]),
        ]
        again = ask(workspace, "forget", gone, "--by", "ann", "--reason", "asked again")
        assert (again["withdrawn"], again["already_withdrawn"]) == ([], 1)
        assert ask(workspace, "models", "list")[0]["withdrawn"]["via"] == ["tones/1"]


def check_gone(workspace: Path, file: Path) -> None:
    """No packed shard, no feature, no log holds it, and the manifest does not name it."""
    packed = [clip_id for path in (workspace / "data" / "audio").iterdir() for clip_id, _ in read_clips(path)]
    manifest = pd.read_parquet(workspace / "data" / "manifest.parquet")
    assert sha256(file) not in packed
    assert set(packed) == set(manifest["clip_id"])
    index = json.loads((workspace / "features" / "index.json").read_text())
    assert index["clips"] == len(manifest)
    log = pd.read_parquet(workspace / ".audioml" / "predictions")
    assert log.loc[log["sha256"] == sha256(file), "audio"].isna().all()
