"""Ingest by partition: each alone, in any order, against one ingest of the whole source."""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from audioml.datasets._source.local import LocalSource
from audioml.datasets._source.remote import RemoteSource
from audioml.errors import DatasetError, ParamsError, SourceError, StepError
from audioml.params import parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.examination import Examiner
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, plan_step, run_step, work_item
from audioml.store.clips import read_clips
from audioml.store.files import hash_bytes
from audioml.store.manifest import read_manifest, read_quarantine

STEP = find_step("ingest")
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


@pytest.fixture
def make(tmp_path, minimal_params):
    """A function from a workspace's name to its context on the landing zone `src`."""

    def make_context(name="space", ingest=None, **data):
        (tmp_path / name).mkdir(exist_ok=True)
        data = {"layout": "folder", "source": str(tmp_path / "src"), "partition": "%Y-%m-%d", **data}
        return Context(tmp_path / name, parse_params({**minimal_params, "data": data, "ingest": ingest or {}}))

    return make_context


@pytest.fixture
def zone(tmp_path, tone_wav):
    """Three days: a duplicate and a conflict across days, a broken file, one without a label, a speaker in the name."""
    files = {f"{day}/{label}/ann-{d}.wav": tone_wav(200 * (1 + d) + base)
             for d, day in enumerate(DAYS) for label, base in (("low", 0), ("high", 2000))}  # fmt: skip
    files |= {f"{DAYS[1]}/low/00.wav": tone_wav(200), f"{DAYS[0]}/low/zz.wav": tone_wav(3000)}
    files |= {f"{DAYS[2]}/high/zz.wav": tone_wav(3000), f"{DAYS[1]}/low/broken.wav": b"RIFF no more"}
    files |= {f"{DAYS[2]}/beside.wav": tone_wav(3100)}
    for path, data in files.items():
        (tmp_path / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / path).write_bytes(data)
    return tmp_path / "src"


LENIENT = {"max_bad_share": 0.5}


def run(ctx, partition=None):
    return run_step(replace(ctx, partition=partition), STEP, jobs=1)


def tables(ctx):
    """All that the manifest and the quarantine say, but where clips lie."""
    manifest = read_manifest(ctx.path("data/manifest.parquet")).drop(columns=["shard", "row"])
    return manifest, read_quarantine(ctx.path("data/quarantine.parquet"))


def outputs(ctx):
    files = sorted(p for p in ctx.path("data").rglob("*") if p.is_file())
    return {p.relative_to(ctx.workspace).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def check_same(one, other):
    for left, right in zip(tables(one), tables(other), strict=True):
        pd.testing.assert_frame_equal(left, right)


def check_places(ctx):
    for shard, clips in read_manifest(ctx.path("data/manifest.parquet")).groupby("shard"):
        packed = read_clips(ctx.path("data/audio") / shard, list(clips["row"]))
        assert [clip_id for clip_id, _ in packed] == list(clips["clip_id"])
        assert all(hash_bytes(data) == clip_id for clip_id, data in packed)


def paths(ctx):
    return list(read_manifest(ctx.path("data/manifest.parquet"))["path"])


def test_partitions_in_any_order_make_what_one_ingest_makes(make, zone):
    whole = make("whole", LENIENT)
    run(whole)
    manifest, quarantine = tables(whole)
    assert set(manifest["partition"]) == set(DAYS)
    assert sorted(quarantine["reason"]) == ["conflicting_labels"] * 2 + ["duplicate", "unlabelled", "unreadable"]
    for order in (DAYS[::-1], (DAYS[1], DAYS[0], DAYS[2])):
        parts = make("-".join(order), LENIENT)
        for day in order:
            run(parts, day)
        check_same(parts, whole)
        check_places(parts)
        run(parts)
        check_same(parts, whole)


def test_columns_are_those_of_all_partitions(make, zone, tone_wav):
    """Numbers in one partition and names in another are text in both, as in one listing."""
    pattern = {"pattern": r"/(?P<speaker>\w+)[-.\w]*$"}
    for day, speaker in zip(DAYS, ("1", "2", "x"), strict=True):
        (zone / day / "low" / f"{speaker}-a.wav").write_bytes(tone_wav(4000 + ord(speaker)))
    whole, parts = make("whole", LENIENT, **pattern), make("parts", LENIENT, **pattern)
    run(whole)
    for day in DAYS:
        run(parts, day)
    check_same(parts, whole)
    assert {"1", "2", "x"} <= set(tables(parts)[0]["speaker"])


def test_a_partition_again_changes_no_byte(make, zone, monkeypatch):
    ctx = make(ingest=LENIENT)
    for day in DAYS:
        run(ctx, day)
    before = outputs(ctx)
    monkeypatch.setattr(Examiner, "examine", None)
    for day in DAYS:
        run(ctx, day)
    run(ctx)
    assert outputs(ctx) == before


def test_only_the_partition_is_listed_and_others_stay(make, zone, tone_wav, monkeypatch):
    ctx = make(ingest=LENIENT)
    run(ctx)
    before, quarantine = tables(ctx)
    shutil.rmtree(zone / DAYS[0])
    (zone / DAYS[1] / "high" / "ann-1.wav").unlink()
    (zone / DAYS[1] / "high" / "new.wav").write_bytes(tone_wav(3300))
    listed = []
    list_files = LocalSource.list_files
    monkeypatch.setattr(
        LocalSource, "list_files", lambda self, below="": listed.append(below) or list_files(self, below)
    )
    summary = run(ctx, DAYS[1])
    assert listed == [DAYS[1]]
    assert summary["partition"] == DAYS[1]
    after, quarantined = tables(ctx)
    assert set(before["path"]) - set(after["path"]) == {f"{DAYS[1]}/high/ann-1.wav"}
    assert set(after["path"]) - set(before["path"]) == {f"{DAYS[1]}/high/new.wav"}
    pd.testing.assert_frame_equal(quarantined, quarantine)
    kept = after["path"].isin(before["path"])
    assert after[kept]["clip_id"].tolist() == before[before["path"].isin(after["path"])]["clip_id"].tolist()
    check_places(ctx)
    run(ctx)
    assert not any(path.startswith(DAYS[0]) for path in paths(ctx))


def test_a_day_without_a_folder_changes_nothing(make, zone, caplog):
    ctx = make(ingest=LENIENT)
    run(ctx, DAYS[0])
    before = outputs(ctx)
    with caplog.at_level(logging.WARNING):
        run(ctx, "2026-01-09")
    assert "2026-01-09 has no folder" in caplog.text
    assert outputs(ctx) == before
    shutil.move(zone / DAYS[0], zone / "elsewhere")
    run(ctx, DAYS[0])
    assert outputs(ctx) == before


def test_a_first_day_without_a_folder_makes_empty_tables(make, zone):
    ctx, later = make(ingest=LENIENT), make("later", LENIENT)
    assert run(ctx, "2025-12-31")["clips"] == 0
    manifest, quarantine = tables(ctx)
    assert (len(manifest), len(quarantine)) == (0, 0)
    assert ctx.path("data/audio").is_dir()
    run(ctx, DAYS[0])
    run(later, DAYS[0])
    check_same(ctx, later)


def test_the_share_of_bad_files_is_that_of_the_partition(make, zone):
    ctx = make(ingest={"max_bad_share": 0.2})
    run(ctx, DAYS[0])
    before = paths(ctx)
    with pytest.raises(DatasetError, match=r"1 of 4 recordings cannot be read .*25.0%"):
        run(ctx, DAYS[1])
    assert paths(ctx) == before
    # The failed partition is none of the next one's business.
    run(ctx, DAYS[2])
    assert not [path for path in paths(ctx) if path.startswith(DAYS[1])]
    with pytest.raises(DatasetError, match="1 of 4"):
        run(ctx, DAYS[1])


def test_the_parts_of_a_run(make, zone):
    ctx = replace(make(ingest=LENIENT), partition=DAYS[0])
    run(make("whole", LENIENT), DAYS[0])
    for item in plan_step(ctx, STEP):
        # Work needs no word of the partition.
        work_item(replace(ctx, partition=None), STEP, item.id)
    with pytest.raises(StepError, match=rf"planned for the partition {DAYS[0]}, not for the partition {DAYS[1]}"):
        collect_step(replace(ctx, partition=DAYS[1]), STEP)
    collect_step(ctx, STEP)
    collect_step(ctx, STEP)
    check_same(ctx, make("whole", LENIENT))


def test_a_killed_collection_loses_no_partition(make, zone, monkeypatch):
    ctx = make(ingest=LENIENT)
    run(ctx, DAYS[0])
    monkeypatch.setattr(
        "audioml.pipeline.steps.ingest.write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        run(ctx, DAYS[1])
    monkeypatch.undo()
    run(ctx, DAYS[2])
    run(make("whole", LENIENT))
    check_same(ctx, make("whole", LENIENT))
    check_places(ctx)


def test_without_its_state_the_whole_source_is_listed(make, zone, caplog):
    ctx = make(ingest=LENIENT)
    run(ctx)
    before = tables(ctx)
    shutil.rmtree(ctx.state)
    with caplog.at_level(logging.WARNING):
        run(ctx, DAYS[0])
    assert "the whole source is listed" in caplog.text
    for table, old in zip(tables(ctx), before, strict=True):
        pd.testing.assert_frame_equal(table, old)


def test_files_in_no_partition_are_reported(make, zone, tone_wav):
    (zone / "notes").mkdir()
    (zone / "notes" / "memo.wav").write_bytes(tone_wav(3456))
    ctx = make(ingest=LENIENT)
    run(ctx)
    run(ctx, DAYS[0])
    table = tables(ctx)[1].set_index("path")
    assert table.loc["notes/memo.wav", "reason"] == "unpartitioned"
    assert "%Y-%m-%d" in table.loc["notes/memo.wav", "detail"]
    shutil.rmtree(zone / "notes")
    run(ctx)
    assert "notes/memo.wav" not in set(tables(ctx)[1]["path"])


def test_releases(make, tmp_path, tone_wav):
    for number, name in enumerate(("v1", "v2")):
        (tmp_path / "src" / name / "low").mkdir(parents=True)
        (tmp_path / "src" / name / "low" / "a.wav").write_bytes(tone_wav(200 + number))
    ctx = make(partition="*")
    run(ctx, "v2")
    assert paths(ctx) == ["v2/low/a.wav"]
    with pytest.raises(SourceError, match=r"no partition 'v3'\. Did you mean 'v"):
        run(ctx, "v3")
    with pytest.raises(ParamsError, match="is no partition"):
        run(ctx, "../src")
    run(ctx, "v1")
    assert paths(ctx) == ["v1/low/a.wav", "v2/low/a.wav"]


def test_what_is_wrong_is_named(make, zone):
    with pytest.raises(ParamsError, match=r"data\.partition is not set"):
        run(make(partition=None), DAYS[0])
    with pytest.raises(ParamsError, match=r"'2026-1-1' is no partition"):
        run(make(), "2026-1-1")
    shutil.rmtree(zone)
    with pytest.raises(SourceError, match="does not exist"):
        run(make(), DAYS[0])


def test_labels_in_file_names(make, tmp_path, tone_wav):
    for number, day in enumerate(DAYS):
        (tmp_path / "src" / day).mkdir(parents=True)
        (tmp_path / "src" / day / f"low_{number}.wav").write_bytes(tone_wav(200 + number))
    keys = {"layout": "filename", "pattern": r"(?P<label>[a-z]+)_(?P<take>\d)"}
    whole, parts = make("whole", **keys), make("parts", **keys)
    run(whole)
    for day in reversed(DAYS):
        run(parts, day)
    check_same(parts, whole)
    assert tables(parts)[0][["take", "partition"]].values.tolist() == [[i, day] for i, day in enumerate(DAYS)]


def test_a_partition_at_a_url(remote, make, tone_wav, monkeypatch):
    for number, day in enumerate(DAYS):
        remote.write(f"{day}/low/a {number}.wav", tone_wav(200 + number))
    at = {"source": remote.url, "storage_options": remote.options}
    whole, parts = make("whole", **at), make("parts", **at)
    run(whole)
    listed = []
    make_record = "audioml.datasets._source.{}.make_record".format(
        "http" if remote.url.startswith("http") else "remote"
    )
    original = __import__("audioml.datasets._source.remote", fromlist=["make_record"]).make_record
    monkeypatch.setattr(make_record, lambda path, info: listed.append(path) or original(path, info))
    for number, day in enumerate(DAYS):
        listed.clear()
        run(parts, day)
        assert listed == [f"{day}/low/a {number}.wav"]
    check_same(parts, whole)
    before = outputs(parts)
    run(parts, "2026-01-09")
    assert outputs(parts) == before
    assert isinstance(parts.source, RemoteSource)


def test_what_came_while_the_source_had_no_partitions_stays(make, zone, tone_wav):
    with_days, without = make(ingest=LENIENT), make(ingest=LENIENT, partition=None)
    run(with_days)
    for day in DAYS:
        (zone / day / "low" / "late.wav").write_bytes(tone_wav(5000 + int(day[-1])))
    run(without)
    n_clips = len(paths(without))
    (zone / DAYS[0] / "low" / "later.wav").write_bytes(tone_wav(6000))
    run(with_days, DAYS[0])
    assert len(paths(with_days)) == n_clips + 1
