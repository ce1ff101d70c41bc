import io

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.errors import StepError, StoreError
from audioml.features import logmel
from audioml.params import parse_params
from audioml.pipeline import runner
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.steps import featurize
from audioml.store.clips import Clip, read_clips, write_clips
from audioml.store.files import hash_bytes, read_json
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, read_manifest, write_manifest
from audioml.store.shards import open_features

STEP = find_step("featurize")


def make_clips(count, seed):
    """Make WAV clips of noise, 0.1 to 0.9 s at 8 or 16 kHz, mono or stereo."""
    generator = np.random.default_rng(seed)
    clips = []
    for i in range(count):
        rate = int(generator.choice([8000, 16000]))
        samples = generator.uniform(-0.5, 0.5, (int(generator.integers(rate // 10, rate * 9 // 10)), 1 + i % 2))
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
        data = buffer.getvalue()
        clips.append((Clip(hash_bytes(data), f"{seed}/{i}.wav", data), len(samples) / rate, rate))
    return clips


def add_shard(workspace, count, seed):
    """Pack clips into a new shard and add them to the manifest."""
    clips = make_clips(count, seed)
    shard = write_clips(workspace / "data/audio", [clip for clip, _, _ in clips])
    rows = []
    for row, (clip, duration_s, rate) in enumerate(clips):
        values = dict.fromkeys(MANIFEST_TYPES, 0)
        values |= {"clip_id": clip.clip_id, "path": clip.path, "label": "x", "shard": shard, "row": row}
        values |= {"duration_s": duration_s, "sample_rate": rate, "format": "WAV", "subtype": "PCM_16"}
        rows.append(values)
    new = pd.DataFrame(rows)
    path = workspace / MANIFEST
    write_manifest(path, pd.concat([read_manifest(path), new]) if path.exists() else new)
    return shard


@pytest.fixture
def make_ctx(tmp_path, minimal_params, monkeypatch):
    """Make a workspace with 7 clips in one packed shard; an item is 3 clips of 1 s."""
    monkeypatch.setattr(featurize, "ITEM_AUDIO_S", 3.0)

    def make(name="workspace", **features):
        workspace = tmp_path / name
        workspace.mkdir(exist_ok=True)
        raw = minimal_params | {"features": {"name": "logmel"} | features}
        (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
        if not (workspace / MANIFEST).exists():
            add_shard(workspace, 7, seed=1)
        return Context(workspace, parse_params(raw))

    return make


@pytest.fixture
def ctx(make_ctx):
    return make_ctx()


@pytest.fixture
def worked(monkeypatch):
    """Ids of the items that were worked on."""
    ids = []
    work = featurize.work

    def note(ctx, item):
        result = work(ctx, item)
        ids.append(item.id)
        return result

    monkeypatch.setattr(featurize, "work", note)
    return ids


def contents(ctx):
    return {path.name: path.read_bytes() for path in ctx.path("features").iterdir()}


def run(ctx, jobs=1):
    return runner.run_step(ctx, STEP, jobs=jobs)


def test_every_clip_has_the_features_of_its_audio(ctx):
    summary = run(ctx)
    assert summary == {"clips": 7, "windows": 7, "shards": 3, "shape": [40, 101]}
    features = open_features(ctx.path("features"), verify=True)
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("clip_id")
    assert set(features.clip_ids) == set(manifest.index)
    for i, clip_id in enumerate(features.clip_ids):
        [(_, data)] = read_clips(ctx.path("data/audio") / manifest.shard[clip_id], [manifest.row[clip_id]])
        windows, offsets_s = prepare_audio(*decode(data), logmel.Params())
        np.testing.assert_array_equal(features.take([i]), logmel.extract(logmel.Params(), windows))
        assert features.offsets_s[i] == offsets_s[0]


def test_segments_are_rows_of_their_clip(make_ctx):
    ctx = make_ctx(length="segment", duration_s=0.25, segment_hop_s=0.1)
    summary = run(ctx)
    features = open_features(ctx.path("features"))
    assert summary["windows"] == len(features) > 7 == summary["clips"]
    one = features.clip_ids == features.clip_ids[-1]
    assert (np.diff(features.offsets_s[one]) > 0).all()


def test_the_index_says_what_made_the_features(ctx):
    run(ctx)
    index = read_json(ctx.path("features/index.json"))
    assert index["feature"] == "logmel"
    assert index["params"] == logmel.Params().model_dump()
    assert [shard["clips"] for shard in index["shards"]] == [3, 3, 1]
    assert len(index["code_version"]) == 64


def test_a_second_run_does_nothing(ctx, worked):
    run(ctx)
    before = contents(ctx)
    worked.clear()
    assert featurize.plan(ctx) == []
    run(ctx)
    assert worked == []
    assert contents(ctx) == before


def test_runs_and_job_counts_make_the_same_bytes(make_ctx):
    serial, spread = make_ctx("serial"), make_ctx("spread")
    run(serial)
    run(spread, jobs=2)
    assert contents(serial) == contents(spread)


def test_new_clips_leave_old_shards(ctx, worked):
    run(ctx)
    before = contents(ctx)
    worked.clear()
    add_shard(ctx.workspace, 4, seed=2)
    assert run(ctx)["clips"] == 11
    assert len(worked) == 2
    after = contents(ctx)
    assert {name: after[name] for name in before if name != "index.json"} == {
        name: data for name, data in before.items() if name != "index.json"
    }


def test_after_a_kill_only_the_unfinished_is_done(ctx, make_ctx, worked):
    undisturbed = make_ctx("undisturbed")
    run(undisturbed)
    items = runner.plan_step(ctx, STEP)
    runner.work_item(ctx, STEP, items[0].id)
    # Killed while it wrote the second shard.
    leftover = ctx.path(f"features/.{items[1].id}.arrow.x1y2.tmp")
    leftover.write_bytes(b"half")
    worked.clear()
    run(ctx)
    assert worked == [items[1].id, items[2].id]
    assert not leftover.exists()
    assert contents(ctx) == contents(undisturbed)


def test_a_shard_without_its_recorded_checksum_is_made_again(ctx, worked):
    items = runner.plan_step(ctx, STEP)
    runner.work_item(ctx, STEP, items[0].id)
    (ctx.state / "featurize" / f"{items[0].id}.sha256").unlink()
    worked.clear()
    run(ctx)
    assert len(worked) == 3


def test_features_that_came_without_the_state_folder_are_taken(ctx, worked):
    run(ctx)
    for record in (ctx.state / "featurize").iterdir():
        record.unlink()
    worked.clear()
    run(ctx)
    assert worked == []


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_a_damaged_shard_is_made_again(ctx, worked, damage):
    run(ctx)
    before = contents(ctx)
    path = min(ctx.path("features").glob("*.arrow"))
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    worked.clear()
    run(ctx)
    assert worked == [path.stem]
    assert contents(ctx) == before


def test_a_damaged_index_is_written_again(ctx, worked):
    run(ctx)
    before = contents(ctx)
    ctx.path("features/index.json").write_text('{"shards": [')
    worked.clear()
    run(ctx)
    assert worked == []
    assert contents(ctx) == before


def test_collect_says_what_is_unfinished(ctx):
    items = runner.plan_step(ctx, STEP)
    runner.work_item(ctx, STEP, items[1].id)
    with pytest.raises(StepError, match=f"2 of 3 items are unfinished .first: {items[0].id}"):
        runner.collect_step(ctx, STEP)
    assert not ctx.path("features/index.json").exists()


def test_other_params_make_other_shards_and_old_ones_go(make_ctx, worked):
    run(make_ctx())
    old = set(contents(make_ctx()))
    worked.clear()
    ctx = make_ctx(n_mels=32)
    run(ctx)
    assert len(worked) == 3
    assert set(contents(ctx)) & old == {"index.json"}
    assert len(list((ctx.state / "featurize").iterdir())) == 3


def test_edited_code_makes_other_shards(ctx, worked, monkeypatch):
    run(ctx)
    worked.clear()
    monkeypatch.setattr(featurize, "code_version", lambda *args, **kwargs: "another")
    run(ctx)
    assert len(worked) == 3


def test_an_item_of_an_older_plan_is_refused(ctx, make_ctx):
    items = runner.plan_step(ctx, STEP)
    changed = make_ctx(n_mels=32)
    with pytest.raises(StepError, match="planned with other params"):
        runner.work_item(changed, STEP, items[0].id)


def test_a_missing_packed_shard_is_named(ctx):
    items = runner.plan_step(ctx, STEP)
    next(ctx.path("data/audio").iterdir()).unlink()
    with pytest.raises(StoreError, match="is missing"):
        runner.work_item(ctx, STEP, items[0].id)


def test_a_clip_that_cannot_be_decoded_is_named(ctx, monkeypatch):
    def read_broken(path, rows):
        return [(clip_id, b"not audio") for clip_id, _ in read_clips(path, rows)]

    items = runner.plan_step(ctx, STEP)
    monkeypatch.setattr(featurize, "read_clips", read_broken)
    with pytest.raises(StepError, match="passed ingest but cannot be decoded"):
        runner.work_item(ctx, STEP, items[0].id)


def test_without_a_manifest_it_says_how_to_make_it(ctx):
    ctx.path(MANIFEST).unlink()
    with pytest.raises(StepError, match="audioml run ingest"):
        featurize.plan(ctx)


def test_items_are_bounded_by_audio_and_by_count(ctx, monkeypatch):
    assert [len(item.payload["rows"]) for item in featurize.plan(ctx)] == [3, 3, 1]
    monkeypatch.setattr(featurize, "ITEM_CLIPS", 2)
    items = featurize.plan(ctx)
    assert [len(item.payload["rows"]) for item in items] == [2, 2, 2, 1]
    assert items[0].label == "2 clips, 0.0 min"
    # A clip longer than the bound is an item of its own.
    monkeypatch.setattr(featurize, "ITEM_AUDIO_S", 0.5)
    assert [len(item.payload["rows"]) for item in featurize.plan(ctx)] == [1] * 7
