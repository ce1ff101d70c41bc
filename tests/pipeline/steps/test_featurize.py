import io
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.clean._chain import describe_chain, load_chain
from audioml.errors import DatasetError, StepError, StoreError
from audioml.features import logmel
from audioml.inference.predictor import Predictor
from audioml.params import IngestParams, parse_params
from audioml.pipeline import runner
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.steps import featurize
from audioml.plugins import plugin_names
from audioml.store.clips import Clip, read_clips, write_clips
from audioml.store.features import open_features
from audioml.store.files import hash_bytes, read_json, write_json
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, read_manifest, write_manifest

STEP = find_step("featurize")
CHAIN = [
    {"name": "remove_dc"},
    {"name": "resample", "sample_rate": 12000},
    {"name": "denoise"},
    {"name": "trim", "threshold_db": 6, "keep_s": 0},
    {"name": "loudness"},
    {"name": "preemphasis"},
]


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
def make_ctx(tmp_path, minimal_params):
    """Make a workspace with packed shards of 3, 3 and 1 clips."""

    def make(name="workspace", clean=None, **features):
        workspace = tmp_path / name
        workspace.mkdir(exist_ok=True)
        raw = minimal_params | {"features": {"name": "logmel"} | features}
        raw |= {"clean": clean} if clean is not None else {}
        (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
        if not (workspace / MANIFEST).exists():
            for seed, count in enumerate((3, 3, 1)):
                add_shard(workspace, count, seed)
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
    assert summary == {"clips": 7, "windows": 7, "shards": 3, "shape": [40, 101], "quarantined": 0}
    features = open_features(ctx.path("features"), verify=True)
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("clip_id")
    chain = load_chain(ctx.params.clean_sections())
    assert set(features.clip_ids) == set(manifest.index)
    for i, clip_id in enumerate(features.clip_ids):
        [(_, data)] = read_clips(ctx.path("data/audio") / manifest.shard[clip_id], [manifest.row[clip_id]])
        windows, offsets_s = prepare_audio(*decode(data), logmel.Params(), chain)
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
    assert index["clean"] == [{"name": "remove_dc", "params": {}}]
    assert sorted(shard["clips"] for shard in index["shards"]) == [1, 3, 3]
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
    add_shard(ctx.workspace, 4, seed=5)
    assert run(ctx)["clips"] == 11
    assert len(worked) == 1
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
    (ctx.state / "featurize" / f"{items[0].id}.json").unlink()
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


def test_another_chain_makes_other_shards(make_ctx):
    chains = ([], CHAIN, [*CHAIN[1:], CHAIN[0]], [*CHAIN[:-1], {"name": "preemphasis", "coefficient": 0.9}])
    planned = [frozenset(item.id for item in featurize.plan(make_ctx(clean=clean))) for clean in chains]
    assert len(frozenset.union(*planned)) == 3 * len(chains)


def test_serving_makes_the_same_features_by_the_whole_chain(make_ctx, tone_model, tmp_path):
    assert {part["name"] for part in CHAIN} == set(plugin_names("clean"))
    keys = {"sample_rate": 8000, "duration_s": 0.5, "length": "segment", "segment_hop_s": 0.1}
    ctx = make_ctx(clean=CHAIN, **keys)
    run(ctx)
    index = read_json(ctx.path("features/index.json"))
    assert index["clean"] == describe_chain(ctx.params.clean_sections())
    made_with = {"clean": index["clean"], "features": {"name": index["feature"], "params": index["params"]}}
    shutil.copyfile(tone_model[0], tmp_path / "model.onnx")
    write_json(tmp_path / "model.json", {**tone_model[1], **made_with})
    predictor = Predictor.load(tmp_path)
    features = open_features(ctx.path("features"))
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("clip_id")
    for clip_id, clip in manifest.iterrows():
        [(_, data)] = read_clips(ctx.path("data/audio") / clip["shard"], [clip["row"]])
        stored = features.take(np.flatnonzero(features.clip_ids == clip_id))
        np.testing.assert_array_equal(predictor.extract(data), stored)


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
    (ctx.path("data/audio") / items[0].payload["shard"]).unlink()
    with pytest.raises(StoreError, match="is missing"):
        runner.work_item(ctx, STEP, items[0].id)


def spoil(monkeypatch, bad):
    """Let all packed clips whose place in reading order is in `bad` come out as no audio."""
    count = iter(range(100))
    iter_clips = featurize.iter_clips

    def read(path, rows):
        return ((clip_id, b"not audio" if next(count) in bad else data) for clip_id, data in iter_clips(path, rows))

    monkeypatch.setattr(featurize, "iter_clips", read)


def test_a_clip_without_features_is_quarantined_and_the_rest_of_its_shard_done(make_ctx, minimal_params, monkeypatch):
    ctx = make_ctx()
    ctx = Context(ctx.workspace, ctx.params.model_copy(update={"ingest": IngestParams(max_bad_share=0.2)}))
    spoil(monkeypatch, {1})
    assert run(ctx) == {"clips": 6, "windows": 6, "shards": 3, "shape": [40, 101], "quarantined": 1}
    (entry,) = read_json(ctx.path("features/index.json"))["quarantine"]
    assert entry["reason"] == "unreadable"
    features = open_features(ctx.path("features"), verify=True)
    assert set(features.quarantined) == set(read_manifest(ctx.path(MANIFEST))["clip_id"]) - set(features.clip_ids)
    # What is known of it survives the loss of the state folder.
    shutil.rmtree(ctx.state)
    assert featurize.plan(ctx) == []
    assert run(ctx)["quarantined"] == 1


def test_failures_of_another_recipe_are_not_taken_over(ctx):
    run(ctx)
    path = ctx.path("features/index.json")
    index = read_json(path)
    first = open_features(ctx.path("features")).clip_ids[0]
    write_json(path, {**index, "quarantine": [{"clip_id": first, "reason": "not_finite", "detail": "of other params"}]})
    for shard in ctx.path("features").glob("*.arrow"):
        shard.touch()
    assert run(ctx)["quarantined"] == 0


def test_too_many_clips_without_features_stop_the_run(ctx, monkeypatch):
    spoil(monkeypatch, {1, 4})
    with pytest.raises(DatasetError, match=r"2 of 7 clips give no features, but ingest.max_bad_share is 0\.1"):
        run(ctx)


def test_a_withdrawn_clip_touches_the_shard_that_held_it_only(ctx, worked):
    run(ctx)
    before = contents(ctx)
    manifest = read_manifest(ctx.path(MANIFEST))
    shard = manifest["shard"].value_counts().index[0]
    gone = manifest.index[manifest["shard"] == shard][0]
    write_manifest(ctx.path(MANIFEST), manifest.drop(index=gone))
    worked.clear()
    assert run(ctx)["clips"] == 6
    assert len(worked) == 1
    assert len(set(before.items()) & set(contents(ctx).items())) == 2


def test_an_item_that_another_process_has_just_done_is_left(ctx, monkeypatch):
    item = runner.plan_step(ctx, STEP)[0]
    first = runner.work_item(ctx, STEP, item.id)
    monkeypatch.setattr(featurize, "ShardWriter", None)
    assert runner.work_item(ctx, STEP, item.id) == first


def test_without_a_manifest_it_says_how_to_make_it(ctx):
    ctx.path(MANIFEST).unlink()
    with pytest.raises(StepError, match="audioml run ingest"):
        featurize.plan(ctx)


def test_an_item_is_a_packed_shard(ctx):
    items = featurize.plan(ctx)
    assert sorted(len(item.payload["rows"]) for item in items) == [1, 3, 3]
    assert {item.payload["shard"] for item in items} == {path.name for path in ctx.path("data/audio").iterdir()}
    assert items[0].label.startswith(f"{len(items[0].payload['rows'])} clips, 0.0 min")


@pytest.mark.parametrize("length", ["pad", "segment", "whole"])
def test_audio_that_is_kept_is_what_the_features_are_made_of(make_ctx, length):
    keys = {"length": length, "duration_s": 0.3}
    plain, kept = make_ctx("plain", **keys), make_ctx("kept", **keys, keep_audio=True)
    run(plain)
    run(kept)
    features = open_features(kept.path("features"), verify=True)
    params = logmel.Params(**keys)
    for row in range(len(features)):
        np.testing.assert_array_equal(logmel.extract(params, features.take_audio([row])), features.take([row]))
    if length == "pad":
        assert set(features.samples) == {4800}
    # The features are the same; their shards are others, and what a model is described by is not.
    np.testing.assert_array_equal(
        features.take(np.arange(len(features))), open_features(plain.path("features")).take(np.arange(len(features)))
    )
    assert {*contents(plain)} & {*contents(kept)} == {"index.json"}
    assert read_json(kept.path("features/index.json"))["params"] == params.model_dump()
    assert "keep_audio" not in params.model_dump()


def test_features_that_are_audio_are_not_stored_twice(make_ctx, minimal_params):
    workspace, made = make_ctx().workspace, []
    for keep_audio in (False, True):
        features = {"name": "waveform", "duration_s": 0.3, "keep_audio": keep_audio}
        ctx = Context(workspace, parse_params(minimal_params | {"features": features}))
        run(ctx)
        made.append(contents(ctx))
    assert made[0] == made[1]
    assert not open_features(ctx.path("features")).samples.any()


def test_a_clip_without_features_leaves_no_audio(make_ctx, monkeypatch):
    ctx = make_ctx(keep_audio=True)
    make_finite = logmel.extract_into

    def spoil_second(params, windows, out):
        make_finite(params, windows, out)
        if len(out) > 2:
            out[1][0, 0] = np.nan

    monkeypatch.setattr(logmel, "extract_into", spoil_second)
    ctx = Context(ctx.workspace, ctx.params.model_copy(update={"ingest": IngestParams(max_bad_share=0.5)}))
    assert run(ctx)["quarantined"] == 2
    monkeypatch.undo()
    features = open_features(ctx.path("features"))
    audio = features.take_audio(np.arange(len(features)))
    np.testing.assert_array_equal(logmel.extract(logmel.Params(), audio), features.take(np.arange(len(features))))
