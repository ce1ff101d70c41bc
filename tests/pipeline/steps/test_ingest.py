from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import audioml.store.clips
from audioml.errors import AudiomlError, DatasetError, StepError
from audioml.params import parse_params
from audioml.pipeline import ingest_job
from audioml.pipeline.context import Context
from audioml.pipeline.examination import Examiner
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, plan_step, run_step, work_item
from audioml.store.clips import read_clips
from audioml.store.files import hash_bytes
from audioml.store.manifest import read_manifest, read_quarantine

STEP = find_step("ingest")
FSDD = r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)"


@pytest.fixture
def make(tmp_path, minimal_params):
    """A function from keys of `data` and `ingest` to the context of a workspace."""

    def make_context(source="src", name="space", ingest=None, **data):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        place = {} if source is None else {"source": str(tmp_path / source)}
        sections = {"data": {"layout": "folder", **place, **data}, "ingest": ingest or {}}
        return Context(folder, parse_params({**minimal_params, **sections}))

    return make_context


@pytest.fixture
def source(tmp_path, tone_wav):
    """Two classes of six tones each, in `src`."""
    for i in range(6):
        for label, base in (("low", 200), ("high", 2000)):
            path = tmp_path / "src" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(base + 10 * i))
    return tmp_path / "src"


def run(ctx):
    return run_step(ctx, STEP, jobs=1)


def outputs(ctx):
    """Every output by name, as a hash of its bytes."""
    files = sorted(p for p in ctx.path("data").rglob("*") if p.is_file())
    return {p.relative_to(ctx.workspace).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def manifest_of(ctx):
    return read_manifest(ctx.path("data/manifest.parquet"))


def quarantine_of(ctx):
    table = read_quarantine(ctx.path("data/quarantine.parquet"))
    return dict(zip(table["path"], table["reason"], strict=True))


def check_places(ctx):
    """Every clip is where the manifest says, byte for byte."""
    for shard, clips in manifest_of(ctx).groupby("shard"):
        packed = read_clips(ctx.path("data/audio") / shard, list(clips["row"]))
        assert [clip_id for clip_id, _ in packed] == list(clips["clip_id"])
        assert all(hash_bytes(data) == clip_id for clip_id, data in packed)


def test_the_manifest_says_what_the_recordings_are(make, source):
    ctx = make()
    summary = run(ctx)
    assert summary == {"clips": 12, "labels": 2, "hours": round(12 * 0.5 / 3600, 4), "shards": 1, "quarantined": {}}
    manifest = manifest_of(ctx)
    assert list(manifest["path"]) == [f"{label}/{i}.wav" for label in ("high", "low") for i in range(6)]
    first = manifest.iloc[0]
    assert first["clip_id"] == hash_bytes((source / "high/0.wav").read_bytes())
    assert (first["label"], first["format"], first["subtype"]) == ("high", "WAV", "PCM_16")
    assert (first["duration_s"], first["sample_rate"], first["channels"], first["size_bytes"]) == (0.5, 8000, 1, 8044)
    assert first["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    assert first["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert quarantine_of(ctx) == {}
    check_places(ctx)


def test_a_second_run_reads_and_packs_nothing(make, source, monkeypatch):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    monkeypatch.setattr(Examiner, "examine", None)
    assert plan_step(ctx, STEP) == []
    run(ctx)
    assert outputs(ctx) == before


def test_new_files_make_new_shards_and_old_ones_stay(make, source, tone_wav):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    (source / "low" / "0a.wav").write_bytes(tone_wav(555))
    (item,) = plan_step(ctx, STEP)
    assert len(item.payload["records"]) == 1
    assert run(ctx)["clips"] == 13
    after = outputs(ctx)
    old_shards = {name: digest for name, digest in before.items() if name.startswith("data/audio")}
    assert old_shards.items() <= after.items()
    assert len(after) == len(before) + 1
    check_places(ctx)


def test_removed_and_changed_files(make, source, tone_wav):
    ctx = make()
    run(ctx)
    (source / "low" / "0.wav").unlink()
    (source / "high" / "0.wav").write_bytes(tone_wav(3333))
    run(ctx)
    manifest = manifest_of(ctx)
    assert "low/0.wav" not in set(manifest["path"])
    assert manifest.loc[0, "clip_id"] == hash_bytes(tone_wav(3333))
    check_places(ctx)


def test_a_shard_that_nothing_refers_to_is_removed(make, source, tone_wav):
    ctx = make()
    run(ctx)
    new = source / "low" / "new.wav"
    new.write_bytes(tone_wav(777))
    run(ctx)
    assert len(list(ctx.path("data/audio").iterdir())) == 2
    new.unlink()
    run(ctx)
    assert len(list(ctx.path("data/audio").iterdir())) == 1


def test_without_its_state_it_hashes_and_packs_nothing_again(make, source, monkeypatch):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    shutil.rmtree(ctx.state)
    monkeypatch.setattr(audioml.store.clips, "write_clips", None)
    assert sum(len(item.payload["records"]) for item in plan_step(ctx, STEP)) == 12
    run(ctx)
    assert outputs(ctx) == before


def test_a_lost_shard_is_packed_again(make, source):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    shutil.rmtree(ctx.path("data/audio"))
    run(ctx)
    assert outputs(ctx) == before


def test_a_new_pattern_changes_columns_but_packs_nothing(make, source, monkeypatch):
    run(make())
    monkeypatch.setattr(Examiner, "examine", None)
    ctx = make(pattern=r"/(?P<take>\d)")
    run(ctx)
    assert list(manifest_of(ctx)["take"]) == [0, 1, 2, 3, 4, 5] * 2


def test_a_change_of_code_measures_again_but_packs_nothing(make, source, monkeypatch):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    monkeypatch.setattr(ingest_job, "code_version", lambda modules, within: "other")
    monkeypatch.setattr(audioml.store.clips, "write_clips", None)
    assert len(plan_step(ctx, STEP)) == 1
    run(ctx)
    assert outputs(ctx) == before
    assert len(list((ctx.state / "ingest").iterdir())) == 1


def test_a_fresh_run_elsewhere_is_equal_byte_for_byte(make, source, tmp_path):
    one = make()
    run(one)
    shutil.copytree(source, tmp_path / "copy")
    for path in sorted((tmp_path / "copy").rglob("*.wav")):
        os.utime(path, (1, 1))
    other = make(source="copy", name="elsewhere")
    run(other)
    assert outputs(one) == outputs(other)


def test_many_processes_make_what_one_makes(make, fsdd_dir):
    one = make(source=fsdd_dir, layout="filename", pattern=FSDD)
    many = make(source=fsdd_dir, layout="filename", pattern=FSDD, name="many")
    run(one)
    many.path("params.yaml").write_text(_as_yaml(many))
    summary = run_step(Context.load(many.workspace), STEP, jobs=2)
    assert outputs(one) == outputs(many)
    assert (summary["clips"], summary["labels"], summary["shards"]) == (3000, 10, 4)
    check_places(one)


def _as_yaml(ctx):
    import yaml

    keys = ("name", "data", "features", "task", "model")
    return yaml.safe_dump({key: value for key, value in ctx.params.model_dump(mode="json").items() if key in keys})


def test_items_are_even_and_cut_by_the_listing(make, source):
    # 12 recordings of 8 kB, which count as 24 kB each.
    for shard_mb, counts in ((1.0, [12]), (0.1, [4, 4, 4]), (0.15, [6, 6]), (0.001, [1] * 12)):
        items = plan_step(make(ingest={"shard_mb": shard_mb}), STEP)
        assert [len(item.payload["records"]) for item in items] == counts


def test_shards_are_even_by_seconds_of_audio(make, source):
    # 6 s of audio.
    ctx = make(ingest={"shard_s": 4.0})
    run(ctx)
    assert manifest_of(ctx)["shard"].value_counts().tolist() == [6, 6]
    check_places(ctx)


def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(make, source):
    undisturbed = make(name="undisturbed", ingest={"shard_mb": 0.1})
    run(undisturbed)
    ctx = make(ingest={"shard_mb": 0.1})
    items = plan_step(ctx, STEP)
    work_item(ctx, STEP, items[1].id)
    assert [item.id for item in plan_step(ctx, STEP)] == [items[0].id, items[2].id]
    run(ctx)
    assert outputs(ctx) == outputs(undisturbed)


def test_collect_before_the_items_are_done(make, source):
    ctx = make()
    plan_step(ctx, STEP)
    with pytest.raises(StepError, match=r"1 of 1 items are not done.*run again"):
        collect_step(ctx, STEP)


def test_files_that_come_while_it_runs_wait_for_the_next_run(make, source, tone_wav):
    ctx = make()
    (item,) = plan_step(ctx, STEP)
    (source / "low" / "late.wav").write_bytes(tone_wav(999))
    work_item(ctx, STEP, item.id)
    assert collect_step(ctx, STEP)["clips"] == 12
    assert run(ctx)["clips"] == 13


def bad_files(fsdd_dir, esc10_dir):
    """Every kind of bad file, from real recordings, by name and the reason it must get."""
    wav = sorted(fsdd_dir.glob("*.wav"))[100].read_bytes()
    ogg = sorted(esc10_dir.rglob("*.ogg"))[100].read_bytes()
    nan = np.full(1000, np.nan, np.float32).tobytes()
    float_header = b"RIFF" + (36 + len(nan)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    float_header += (3).to_bytes(2, "little") + (1).to_bytes(2, "little") + (8000).to_bytes(4, "little")
    float_header += (32000).to_bytes(4, "little") + (4).to_bytes(2, "little") + (32).to_bytes(2, "little")
    return {
        "empty.wav": (b"", "empty"),
        "no samples.wav": (wav[:40] + bytes(4), "empty"),
        "cut.wav": (wav[: len(wav) // 2], "truncated"),
        "cut.ogg": (ogg[: len(ogg) // 2], "truncated"),
        "nan.wav": (float_header + b"data" + len(nan).to_bytes(4, "little") + nan, "not_finite"),
        "random.wav": (np.random.default_rng(0).bytes(5000), "unreadable"),
        "text.mp3": (b"not audio\n" * 100, "unreadable"),
    }


@pytest.fixture
def real_source(tmp_path, fsdd_dir, esc10_dir):
    """Two classes of real recordings with odd names, mixed formats and rates, in `src`."""
    for folder, paths in {
        "ein zwei": sorted(fsdd_dir.glob("0_*.wav"))[:20],
        "Tür & Täfelchen": sorted(esc10_dir.rglob("*.ogg"))[:20],
    }.items():
        (tmp_path / "src" / folder).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, tmp_path / "src" / folder / path.name.replace("_", " ö "))
    return tmp_path / "src"


def test_bad_files_land_in_the_quarantine_and_stop_nothing(make, real_source, fsdd_dir, esc10_dir):
    bad = bad_files(fsdd_dir, esc10_dir)
    for name, (data, _) in bad.items():
        (real_source / "ein zwei" / name).write_bytes(data)
    ctx = make(ingest={"max_bad_share": 0.5})
    summary = run(ctx)
    assert summary["clips"] == 40
    assert quarantine_of(ctx) == {f"ein zwei/{name}": reason for name, (_, reason) in bad.items()}
    assert set(manifest_of(ctx)["format"]) == {"WAV", "OGG"}
    check_places(ctx)
    table = read_quarantine(ctx.path("data/quarantine.parquet"))
    assert table["detail"].str.len().min() > 10


def test_unchanged_bad_files_are_not_read_again(make, real_source, monkeypatch):
    (real_source / "ein zwei" / "bad.wav").write_bytes(b"")
    ctx = make()
    run(ctx)
    monkeypatch.setattr(Examiner, "examine", None)
    assert plan_step(ctx, STEP) == []
    run(ctx)
    assert quarantine_of(ctx) == {"ein zwei/bad.wav": "empty"}


def test_wrong_extensions_and_links_work(make, real_source, tmp_path):
    folder = real_source / "ein zwei"
    wav, other = sorted(folder.glob("*.wav"))[:2]
    wav.rename(folder / "really a wav.mp3")
    shutil.move(other, tmp_path / "outside")
    (folder / "link without extension").symlink_to(tmp_path / "outside")
    (folder / "dangling.wav").symlink_to(tmp_path / "nothing")
    ctx = make()
    assert run(ctx)["clips"] == 40
    assert quarantine_of(ctx) == {"ein zwei/dangling.wav": "missing"}
    formats = manifest_of(ctx).set_index("path")["format"]
    assert formats["ein zwei/really a wav.mp3"] == formats["ein zwei/link without extension"] == "WAV"


def test_a_file_without_read_permission(make, source, monkeypatch):
    from audioml.datasets import folder

    def refuse(data, place, record):
        if record.path == "low/3.wav":
            raise PermissionError(13, "Permission denied")
        return place.read(record.path)

    monkeypatch.setattr(folder, "read", refuse)
    ctx = make()
    run(ctx)
    assert quarantine_of(ctx) == {"low/3.wav": "unopened"}


def test_too_many_bad_files_stop_the_run_and_harm_nothing(make, source):
    ctx = make()
    run(ctx)
    before = outputs(ctx)
    for i in range(3):
        (source / "low" / f"bad{i}.wav").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        run(ctx)
    message = str(caught.value)
    assert "3 of 15 recordings cannot be read (3 empty), a share of 20.0%" in message
    assert "low/bad0.wav: empty" in message
    assert "ingest.max_bad_share" in message
    assert outputs(ctx) == before
    assert run(make(ingest={"max_bad_share": 0.2}))["clips"] == 12


def test_no_good_clip_at_all(make, tmp_path):
    (tmp_path / "src" / "a").mkdir(parents=True)
    (tmp_path / "src" / "a" / "1.wav").write_bytes(b"")
    with pytest.raises(DatasetError, match="None of 1 recordings can be used"):
        run(make(ingest={"max_bad_share": 1.0}))


def test_exact_duplicates_keep_the_first_path(make, source):
    shutil.copy(source / "low" / "2.wav", source / "low" / "0 copy.wav")
    ctx = make()
    run(ctx)
    assert quarantine_of(ctx) == {"low/2.wav": "duplicate"}
    assert "low/0 copy.wav" in set(manifest_of(ctx)["path"])
    assert manifest_of(ctx)["clip_id"].is_unique
    check_places(ctx)


def test_a_duplicate_that_comes_later_is_not_packed(make, source):
    ctx = make()
    run(ctx)
    shutil.copy(source / "low" / "2.wav", source / "low" / "0 copy.wav")
    before = outputs(ctx)
    run(ctx)
    assert quarantine_of(ctx) == {"low/2.wav": "duplicate"}
    assert len(outputs(ctx)) == len(before)
    check_places(ctx)


def test_conflicting_labels_are_all_quarantined(make, source):
    shutil.copy(source / "low" / "2.wav", source / "high" / "same.wav")
    ctx = make()
    assert run(ctx)["clips"] == 11
    assert quarantine_of(ctx) == {"low/2.wav": "conflicting_labels", "high/same.wav": "conflicting_labels"}
    detail = read_quarantine(ctx.path("data/quarantine.parquet"))["detail"][0]
    assert "high, low" in detail
    assert plan_step(ctx, STEP) == []


def test_missing_files_of_a_table(make, source, tmp_path):
    rows = [f"{label}/{i}.wav,{label}" for label in ("low", "high") for i in range(6)]
    (source / "t.csv").write_text("path,label\n" + "\n".join([*rows, "low/gone.wav,low"]))
    ctx = make(source="src/t.csv", layout="table")
    assert run(ctx)["clips"] == 12
    assert quarantine_of(ctx) == {"low/gone.wav": "missing"}


def test_columns_of_the_source_follow_audiomls_own(make, esc10_dir):
    ctx = make(source=esc10_dir, pattern=r"(?P<fold>\d)-(?P<source>\d+)-[A-Z]")
    assert run(ctx)["hours"] == pytest.approx(0.5565, abs=1e-3)
    manifest = manifest_of(ctx)
    assert list(manifest.columns[-2:]) == ["fold", "source"]
    assert manifest["fold"].value_counts().to_dict() == dict.fromkeys(range(1, 6), 80)


def test_spoken_commands_need_no_source(make):
    words = {"words": ["yes", "no"], "voices": ["en-us+f1", "en-us+m1"], "takes": 3}
    ctx = make(source=None, layout="spoken_commands", **words)
    assert run(ctx)["clips"] == 12
    before = outputs(ctx)
    run(make(source=None, layout="spoken_commands", **{**words, "takes": 4}))
    assert len(manifest_of(ctx)) == 16
    audio = {name: digest for name, digest in before.items() if "audio" in name}
    assert audio.items() <= outputs(ctx).items()
    run(make(source=None, layout="spoken_commands", **words, seed=7))
    assert not audio.items() & outputs(ctx).items()


def test_no_path_of_the_machine_is_in_the_outputs(make, source, tmp_path):
    ctx = make()
    run(ctx)
    for path in ctx.path("data").rglob("*.parquet"):
        assert str(tmp_path).encode() not in path.read_bytes()
        assert b"pandas" not in (pq.read_schema(path).metadata or {})


def test_a_missing_source_is_no_traceback(make):
    with pytest.raises(AudiomlError, match="does not exist"):
        run(make(source="nowhere"))
