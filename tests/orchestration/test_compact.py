"""`audioml compact`, against real DVC: clips lie in other files, and nothing runs again for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from audioml.orchestration import compact as module
from audioml.orchestration.compact import compact
from audioml.orchestration.dvc import decide, init_dvc, record_step, render_dvc_yaml
from audioml.params import FILE_NAME, parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.clips import FOLDER, read_clips
from audioml.store.features import open_features
from audioml.store.manifest import MANIFEST, read_manifest

RECORDED = ("ingest", "validate", "split", "featurize", "train")
OTHERS = ["evaluate", "register"]
"""They are not recorded: what is not up to date before compaction must not be so after it."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder for the workspace that all tests copy; the first of them fills it."""
    return tmp_path_factory.mktemp("recorded") / "birds"


@pytest.fixture
def ctx(recorded, tmp_path, minimal_params, tone_wav):
    """A workspace whose source grew by one recording a run, and lost one; its steps up to train are recorded."""
    if not recorded.exists():
        record_workspace(recorded, minimal_params, tone_wav)
    shutil.copytree(recorded, tmp_path / "birds", symlinks=True)
    return Context.load(tmp_path / "birds")


def record_workspace(folder: Path, minimal_params, tone_wav):
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    init_dvc(folder)
    (folder / ".dvcignore").write_text("__pycache__\n")
    minimal = {**minimal_params, "data": {"layout": "folder", "source": "recordings"}, "ingest": {"shard_s": 2.0}}
    raw = parse_params(minimal).model_dump(by_alias=True, mode="json")
    (folder / FILE_NAME).write_text(yaml.safe_dump(raw))
    (folder / "dvc.yaml").write_text(render_dvc_yaml(parse_params(raw)))
    for label, base in (("low", 200), ("high", 2000)):
        for i in range(4):
            add_recording(folder, f"{label}/{i}.wav", tone_wav(base + 10 * i))
    for change in (
        lambda: None,
        lambda: add_recording(folder, "low/new0.wav", tone_wav(500)),
        lambda: add_recording(folder, "low/new1.wav", tone_wav(510)),
        lambda: (folder / "recordings/high/2.wav").unlink(),
    ):
        change()
        run_step(Context.load(folder), find_step("ingest"), jobs=1)
    context = Context.load(folder)
    for name in RECORDED:
        make_outputs(context, name)
        record_step(context, find_step(name))


def add_recording(folder, path, data):
    target = folder / "recordings" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def make_outputs(ctx, name):
    """Make a step's outputs, or make them up where compaction does not touch them."""
    if name == "featurize":
        run_step(ctx, find_step(name), jobs=1)
    for output in find_step(name).outputs if name not in ("ingest", "featurize") else ():
        path = ctx.path(output.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text("made")
        else:
            path.mkdir(exist_ok=True)
            (path / "part").write_text("made")


def clips(ctx):
    """The bytes of every clip, and all that the manifest says of it but its place."""
    manifest = read_manifest(ctx.path(MANIFEST))
    packed = {shard: dict(enumerate(read_clips(ctx.path(FOLDER) / shard))) for shard in set(manifest["shard"])}
    bytes_of = {
        path: packed[shard][row]
        for path, shard, row in zip(manifest["path"], manifest["shard"], manifest["row"], strict=True)
    }
    return bytes_of, manifest.drop(columns=["shard", "row"]).to_dict("list")


def features(ctx):
    found = open_features(ctx.path("features"), verify=True)
    return {clip_id: found.take([i]).tobytes() for i, clip_id in enumerate(found.clip_ids)}


def running(ctx):
    """Names of the steps that would run."""
    return [decision.step for decision in decide(ctx) if decision.run]


def test_clips_and_features_stay_and_no_step_runs_again(ctx):
    before = clips(ctx), features(ctx)
    summary = compact(ctx, jobs=1)
    # A full shard stays; two of one recording each, and one that held what is withdrawn, are packed anew.
    assert summary == {"shards_before": 4, "shards_after": 3, "clips_moved": 5, "clips_removed": 1}
    assert len(list(ctx.path(FOLDER).iterdir())) == 3
    assert (clips(ctx), features(ctx)) == before
    assert running(ctx) == OTHERS
    assert not list(ctx.state.glob("compaction*"))


def kill_in(name, monkeypatch, ctx):
    """Compact, but die where `module` would call the function of this name."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{module.__name__}.{name}", die)
        with pytest.raises(KeyboardInterrupt):
            compact(ctx, jobs=1)


def test_killed_before_it_is_recorded_the_next_one_records_it(ctx, monkeypatch):
    before = clips(ctx), features(ctx)
    for name in ("run_step", "dvc.record_step"):
        kill_in(name, monkeypatch, ctx)
        assert clips(ctx) == before[0]
    assert compact(ctx, jobs=1)["clips_moved"] == 0
    assert (clips(ctx), features(ctx)) == before
    assert running(ctx) == OTHERS
    assert not list(ctx.state.glob("compaction*"))


def test_killed_while_the_source_grows_it_hides_no_recording(ctx, monkeypatch, tone_wav):
    kill_in("run_step", monkeypatch, ctx)
    add_recording(ctx.workspace, "low/late.wav", tone_wav(600))
    compact(ctx, jobs=1)
    assert running(ctx)[0] == "ingest"
