"""Ingest after faults: what is done is kept, what may have mended is tried again, what is lost is made as it was."""

import hashlib
import shutil
from pathlib import Path

import pytest

from audioml.errors import DatasetError, StepError
from audioml.params import IngestParams
from audioml.pipeline.compaction import compact_clips
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, plan_step, run_step, work_item
from audioml.store.clips import FOLDER
from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine

STEP = find_step("ingest")


@pytest.fixture
def ctx(recordings_space):
    """A workspace whose source has two classes of six tones; an item is four recordings."""
    params = recordings_space.params.model_copy(update={"ingest": IngestParams(shard_mb=0.1)})
    return Context(recordings_space.workspace, params)


def run(ctx):
    return run_step(ctx, STEP, jobs=1)


def data_files(ctx):
    files = [path for path in ctx.path("data").rglob("*") if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def paths(ctx):
    return set(read_manifest(ctx.path(MANIFEST))["path"])


def test_recordings_that_could_not_be_opened_are_tried_again(ctx, monkeypatch):
    from audioml.datasets import folder

    def refuse(data, source, record):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "read", refuse)
        with pytest.raises(DatasetError, match="12 unopened"):
            run(ctx)
    assert run(ctx)["clips"] == 12


def test_collecting_again_changes_nothing(ctx):
    for item in plan_step(ctx, STEP):
        work_item(ctx, STEP, item.id)
    first = collect_step(ctx, STEP)
    before = data_files(ctx)
    assert collect_step(ctx, STEP) == first
    assert data_files(ctx) == before


def test_what_a_killed_run_has_read_counts_though_the_source_has_grown(ctx, tone_wav):
    items = plan_step(ctx, STEP)
    for item in items[:2]:
        work_item(ctx, STEP, item.id)
    done = {record[0] for item in items[:2] for record in item.payload["records"]}
    (Path(ctx.source.address) / "high" / "0a.wav").write_bytes(tone_wav(3000))
    planned = {record[0] for item in plan_step(ctx, STEP) for record in item.payload["records"]}
    assert planned == ({r[0] for r in items[2].payload["records"]} | {"high/0a.wav"})
    assert not planned & done
    assert run(ctx)["clips"] == 13


@pytest.mark.parametrize("state_too", [False, True])
def test_a_lost_shard_comes_back_under_its_name(ctx, state_too):
    run(ctx)
    before = data_files(ctx)
    lost = sorted(ctx.path(FOLDER).iterdir())[1]
    lost.unlink()
    if state_too:
        shutil.rmtree(ctx.state)
    (item, *others) = plan_step(ctx, STEP)
    assert state_too or (not others and len(item.payload["records"]) == 4)
    run(ctx)
    if not state_too:
        assert data_files(ctx) == before


def test_a_shard_lost_between_plan_and_collect_is_an_error_that_says_so(ctx):
    run(ctx)
    plan_step(ctx, STEP)
    before = data_files(ctx)
    lost = sorted(ctx.path(FOLDER).iterdir())[1]
    data = lost.read_bytes()
    lost.unlink()
    with pytest.raises(StepError, match=r"4 of 12 recordings, such as .*, lost their packed shards"):
        collect_step(ctx, STEP)
    lost.write_bytes(data)
    assert data_files(ctx) == before


def test_compaction_keeps_what_only_ingest_keeps_in_mind(ctx):
    source = Path(ctx.source.address)
    shutil.copy(source / "low" / "2.wav", source / "high" / "same.wav")
    run(ctx)
    assert set(read_quarantine(ctx.path(QUARANTINE))["reason"]) == {"conflicting_labels"}
    roomy = ctx.params.model_copy(update={"ingest": IngestParams()})
    compact_clips(Context(ctx.workspace, roomy))
    assert plan_step(ctx, STEP) == []
    before = paths(ctx)
    run(ctx)
    assert paths(ctx) == before


def test_compaction_leaves_the_work_of_an_ingest_that_is_not_collected(ctx, tone_wav):
    run(ctx)
    for i in range(3):
        (Path(ctx.source.address) / "low" / f"new{i}.wav").write_bytes(tone_wav(700 + i))
    (item,) = plan_step(ctx, STEP)
    work_item(ctx, STEP, item.id)
    compact_clips(Context(ctx.workspace, ctx.params.model_copy(update={"ingest": IngestParams()})))
    assert collect_step(ctx, STEP)["clips"] == 15


def test_temporary_files_of_a_killed_run_go_and_those_of_a_live_one_stay(ctx):
    from audioml.store.files import write_atomic

    run(ctx)
    left = [ctx.path("data/.manifest.parquet.x.tmp"), ctx.state / "started" / ".ingest.y.tmp"]
    for path in left:
        path.write_bytes(b"half")
    with write_atomic(ctx.path("data/other")) as live:
        run(ctx)
        assert live.exists()
    assert not any(path.exists() for path in left)
