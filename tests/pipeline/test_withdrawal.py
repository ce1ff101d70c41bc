from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from audioml.pipeline.compaction import compact_clips
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import plan_step, run_step
from audioml.pipeline.steps.ingest import leave_out
from audioml.store.clips import FOLDER, read_clip_ids, read_clips
from audioml.store.features import read_index
from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine
from audioml.store.withdrawn import WITHDRAWN, Withdrawal, Withdrawn, read_withdrawn, write_withdrawn

INGEST, FEATURIZE = find_step("ingest"), find_step("featurize")


@pytest.fixture
def ctx(recordings_space: Context) -> Context:
    run_step(recordings_space, INGEST, jobs=1)
    return recordings_space


def withdraw(ctx: Context, *files: bytes) -> None:
    hashes = [hashlib.sha256(data).hexdigest() for data in files]
    entries = [Withdrawal("x", h, (h,), "2026-11-22T10:00:00+00:00", "ann", "consent") for h in hashes]
    write_withdrawn(ctx.path(WITHDRAWN), read_withdrawn(ctx.path(WITHDRAWN)).add(entries))


def outputs(ctx: Context) -> dict[str, str]:
    files = sorted(path for path in ctx.path("data").rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def paths(ctx: Context) -> set[str]:
    return set(read_manifest(ctx.path(MANIFEST))["path"])


def quarantine(ctx: Context) -> dict[str, tuple[str, str]]:
    table = read_quarantine(ctx.path(QUARANTINE))
    return {path: (reason, detail) for path, reason, detail in table.itertuples(index=False)}


def holds(ctx: Context, data: bytes) -> bool:
    return any(data in path.read_bytes() for path in ctx.path(FOLDER).iterdir())


def check_places(ctx: Context) -> None:
    for shard, clips in read_manifest(ctx.path(MANIFEST)).groupby("shard"):
        packed = read_clips(ctx.path(FOLDER) / str(shard), clips["row"].tolist())
        assert [clip_id for clip_id, _ in packed] == clips["clip_id"].tolist()


def test_leaves_the_data_set_and_its_shard_and_no_other(ctx: Context, tone_wav: Any) -> None:
    withdrawn, before = tone_wav(2020), outputs(ctx)
    shards = {path.name for path in ctx.path(FOLDER).iterdir()}
    assert holds(ctx, withdrawn)
    withdraw(ctx, withdrawn)
    summary = leave_out(ctx)
    assert summary is not None
    assert (summary["clips"], summary["quarantined"]) == (11, {"withdrawn": 1})
    assert not holds(ctx, withdrawn)
    assert quarantine(ctx) == {"high/2.wav": ("withdrawn", "withdrawn by ann on 2026-11-22: consent")}
    after = {path.name for path in ctx.path(FOLDER).iterdir()}
    assert (len(shards - after), len(after - shards)) == (1, 1)
    assert {name: digest for name, digest in before.items() if name in after}.items() <= outputs(ctx).items()
    check_places(ctx)


def test_the_next_ingest_makes_the_same_and_reads_nothing(ctx: Context, tone_wav: Any) -> None:
    withdraw(ctx, tone_wav(2020), tone_wav(200))
    leave_out(ctx)
    made = outputs(ctx)
    assert plan_step(ctx, INGEST) == []
    run_step(ctx, INGEST, jobs=1)
    assert outputs(ctx) == made
    assert leave_out(ctx)
    assert outputs(ctx) == made


def test_ingest_alone_does_it_too_also_in_a_fresh_clone(ctx: Context, tone_wav: Any) -> None:
    by_leaving_out = Context(ctx.workspace.with_name("twin"), ctx.params)
    shutil.copytree(ctx.workspace, by_leaving_out.workspace, symlinks=True)
    for workspace in (ctx, by_leaving_out):
        withdraw(workspace, tone_wav(2020))
    leave_out(by_leaving_out)
    # What git and DVC bring: the list and the outputs, but nothing of what ingest knows.
    shutil.rmtree(ctx.state / "ingest")
    assert leave_out(ctx) is None
    run_step(ctx, INGEST, jobs=1)
    assert not holds(ctx, tone_wav(2020))
    assert outputs(ctx) == outputs(by_leaving_out)


def test_it_stays_out_under_another_name_and_the_name_is_free_for_others(ctx: Context, tone_wav: Any) -> None:
    source = Path(ctx.source.address)  # type: ignore[union-attr]
    withdraw(ctx, tone_wav(2020))
    leave_out(ctx)
    (source / "high" / "2.wav").rename(source / "low" / "again.wav")
    (source / "high" / "2.wav").write_bytes(tone_wav(2555))
    run_step(ctx, INGEST, jobs=1)
    assert quarantine(ctx)["low/again.wav"][0] == "withdrawn"
    assert "high/2.wav" in paths(ctx)
    assert not holds(ctx, tone_wav(2020))


def test_taken_from_the_list_it_is_read_again(ctx: Context, tone_wav: Any) -> None:
    before = paths(ctx)
    withdraw(ctx, tone_wav(2020))
    leave_out(ctx)
    write_withdrawn(ctx.path(WITHDRAWN), Withdrawn())
    run_step(ctx, INGEST, jobs=1)
    assert paths(ctx) == before
    assert holds(ctx, tone_wav(2020))
    check_places(ctx)


def test_only_features_of_its_shard_are_made_anew(ctx: Context, tone_wav: Any) -> None:
    run_step(ctx, FEATURIZE, jobs=1)
    features = {entry["file"]: entry["sha256"] for entry in read_index(ctx.path("features"))["shards"]}
    written = {name: (ctx.path("features") / name).stat().st_mtime_ns for name in features}
    withdraw(ctx, tone_wav(2020))
    leave_out(ctx)
    assert len(plan_step(ctx, FEATURIZE)) == 1
    run_step(ctx, FEATURIZE, jobs=1)
    after = {entry["file"]: entry["sha256"] for entry in read_index(ctx.path("features"))["shards"]}
    kept = features.items() & after.items()
    assert (len(features), len(after), len(kept)) == (3, 3, 2)
    assert all((ctx.path("features") / name).stat().st_mtime_ns == written[name] for name, _ in kept)


def test_a_shard_of_withdrawn_clips_alone_goes(ctx: Context, tone_wav: Any) -> None:
    shard = next(ctx.path(FOLDER).iterdir())
    clips = [data for _, data in read_clips(shard)]
    withdraw(ctx, *clips)
    summary = leave_out(ctx)
    assert summary
    assert summary["shards"] == 2
    assert not shard.exists()


def test_of_two_with_the_same_bytes_both_go(ctx: Context, tone_wav: Any) -> None:
    source = Path(ctx.source.address)  # type: ignore[union-attr]
    shutil.copy(source / "low" / "1.wav", source / "low" / "twin.wav")
    run_step(ctx, INGEST, jobs=1)
    withdraw(ctx, tone_wav(210))
    leave_out(ctx)
    assert {path for path, (reason, _) in quarantine(ctx).items() if reason == "withdrawn"} == {
        "low/1.wav",
        "low/twin.wav",
    }


def test_killed_in_between_the_next_one_ends_it(ctx: Context, tone_wav: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from audioml.pipeline.steps import ingest

    withdraw(ctx, tone_wav(2020))
    for name in ("write_manifest", "write_facts"):
        with monkeypatch.context() as patch:
            patch.setattr(ingest, name, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                leave_out(ctx)
        check_places(ctx)
    run_step(ctx, INGEST, jobs=1)
    assert not holds(ctx, tone_wav(2020))
    assert len(paths(ctx)) == 11


def test_compaction_finds_nothing_of_it(ctx: Context, tone_wav: Any) -> None:
    withdraw(ctx, tone_wav(2020))
    leave_out(ctx)
    assert compact_clips(ctx)["clips_removed"] == 0


def test_a_clip_that_another_recording_has_too_stays(ctx: Context) -> None:
    from audioml.pipeline.withdrawal import mark_withdrawn
    from audioml.store.recordings import build_facts

    def fact(path: str, clip_id: str, row: int) -> dict[str, Any]:
        return {"path": path, "clip_id": clip_id, "shard": "s", "row": row, "version": "1"}

    facts = build_facts([fact("a", "silence", 0), fact("a", "voice", 1), fact("b", "silence", 0), fact("b", "song", 2)])
    entry = Withdrawal("a", "file", ("silence", "voice"), "2026-11-22T10:00:00+00:00", "ann", "consent")
    marked = mark_withdrawn(facts, Withdrawn((entry,))).to_pylist()
    assert [(row["path"], row["reason"], row["clip_id"]) for row in marked] == [
        ("b", None, "silence"),
        ("b", None, "song"),
        ("a", "withdrawn", "file"),
    ]


def test_ids_of_a_shard(ctx: Context) -> None:
    shard = next(ctx.path(FOLDER).iterdir())
    assert read_clip_ids(shard) == [clip_id for clip_id, _ in read_clips(shard)]
