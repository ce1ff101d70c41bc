"""ingest with `segment`: recordings become several clips, which say where they start, in the manifest all or none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from audioml.params import parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import plan_step, run_step
from audioml.store.clips import FOLDER, read_clips
from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine

STEP = find_step("ingest")
RATE = 8000
FIXED = {"name": "fixed", "length_s": 1.0, "hop_s": 0.75, "min_s": 0.3}
ACTIVITY = {"name": "activity", "min_silence_s": 0.2, "pad_s": 0.05, "background_s": 2.0}
BURSTS_S = ((1.0, 1.5), (3.0, 3.3), (4.2, 5.0))


def noise(duration_s, seed, level_dbfs=-20.0):
    """16-bit noise as float64 in [-1, 1): no two stretches of it are alike."""
    samples = np.random.default_rng(seed).normal(0, 10 ** (level_dbfs / 20), round(duration_s * RATE))
    return np.round(samples * 2**15).clip(-(2**15), 2**15 - 1) / 2**15


def calls(seed):
    """Six seconds with three bursts in faint noise."""
    audio = noise(6.0, seed, -70.0)
    for start_s, stop_s in BURSTS_S:
        audio[round(start_s * RATE) : round(stop_s * RATE)] += noise(stop_s - start_s, seed + 1)
    return audio


def encode(audio, container="WAV", subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.fixture
def make(tmp_path, minimal_params):
    """A function from keys of `ingest` to the context of a workspace whose source is the folder `src`."""

    def make_context(segment, name="space", data=None, **ingest):
        (tmp_path / name).mkdir(exist_ok=True)
        sections = {
            "data": {"layout": "folder", **(data or {"source": str(tmp_path / "src")})},
            # How silence counts among the unreadable is not what these tests are about.
            "ingest": {"segment": segment, "max_bad_share": 0.6, **ingest},
        }
        return Context(tmp_path / name, parse_params({**minimal_params, **sections}))

    return make_context


@pytest.fixture
def put(tmp_path):
    """A function that writes a recording of the source: its path, and samples or bytes."""

    def write(path, content):
        target = tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else encode(content))

    return write


def run(ctx):
    return run_step(ctx, STEP, jobs=1)


def manifest_of(ctx):
    return read_manifest(ctx.path(MANIFEST))


def quarantine_of(ctx):
    table = read_quarantine(ctx.path(QUARANTINE))
    return list(zip(table["path"], table["reason"], strict=True))


def clips_of(ctx):
    """(path, start in samples, samples) of every clip, in the order of the manifest, from what is packed."""
    found = []
    for clip in manifest_of(ctx).itertuples():
        ((clip_id, data),) = read_clips(ctx.path(FOLDER) / clip.shard, [clip.row])
        assert clip_id == clip.clip_id
        samples, rate = soundfile.read(io.BytesIO(data), always_2d=False)
        assert (rate, len(samples)) == (clip.sample_rate, round(clip.duration_s * rate))
        assert len(data) == clip.size_bytes
        found.append((clip.path, round(clip.start_s * rate), samples))
    return found


def assert_from_source(ctx, sources):
    """Every clip is, sample for sample, what its recording holds from its start on."""
    clips = clips_of(ctx)
    for path, start, samples in clips:
        np.testing.assert_array_equal(samples, sources[path][start : start + len(samples)])
    return [(path, start, len(samples)) for path, start, samples in clips]


def closed_form_windows(n_samples, length, hop, shortest):
    """Starts and lengths of fixed windows, as the docs of the plug-in define them."""
    windows, start = [], 0
    while True:
        windows.append((start, min(length, n_samples - start)))
        if start + length >= n_samples:
            break
        start += hop
    return [window for window in windows if window[1] >= shortest]


def test_fixed_windows_hold_what_the_recording_holds_at_their_start(make, put):
    sources = {"a/1.wav": noise(5.2, 1), "a/2.flac": noise(1.9, 2), "b/3.wav": noise(3.0, 3)}
    for path, audio in sources.items():
        put(path, encode(audio, "FLAC" if path.endswith("flac") else "WAV"))
    ctx = make(FIXED)
    summary = run(ctx)
    expected = [
        (path, *window)
        for path, audio in sources.items()
        for window in closed_form_windows(len(audio), RATE, round(0.75 * RATE), round(0.3 * RATE))
    ]
    assert assert_from_source(ctx, sources) == expected
    assert summary["clips"] == len(expected)
    manifest = manifest_of(ctx)
    assert list(manifest["label"]) == [path[0] for path in manifest["path"]]
    assert manifest["clip_id"].is_unique
    assert quarantine_of(ctx) == []


def test_activity_finds_each_burst_where_it_is(make, put):
    sources = {"a/1.wav": calls(1), "b/2.wav": calls(10)}
    for path, audio in sources.items():
        put(path, audio)
    ctx = make(ACTIVITY)
    run(ctx)
    found = assert_from_source(ctx, sources)
    assert [path for path, _, _ in found] == ["a/1.wav"] * 3 + ["b/2.wav"] * 3
    for (_, start, length), (start_s, stop_s) in zip(found, BURSTS_S * 2, strict=True):
        # A frame is 0.02 s.
        assert start / RATE == pytest.approx(start_s - 0.05, abs=0.0201)
        assert (start + length) / RATE == pytest.approx(stop_s + 0.05, abs=0.0201)
    assert list(manifest_of(ctx)["label"]) == ["a"] * 3 + ["b"] * 3


def test_one_recording_may_fill_several_shards(make, put):
    sources = {"a/1.wav": noise(12.0, 1), "b/2.wav": noise(1.5, 2)}
    for path, audio in sources.items():
        put(path, audio)
    ctx = make({"name": "fixed", "length_s": 1.0}, shard_s=3.0)
    summary = run(ctx)
    assert assert_from_source(ctx, sources) == [
        *(("a/1.wav", i * RATE, RATE) for i in range(12)),
        ("b/2.wav", 0, RATE),
        ("b/2.wav", RATE, RATE // 2),
    ]
    manifest = manifest_of(ctx)
    assert summary["shards"] == manifest["shard"].nunique() == len(list(ctx.path(FOLDER).iterdir())) >= 4
    assert manifest.loc[manifest["path"] == "a/1.wav", "shard"].nunique() >= 4


@pytest.mark.parametrize("audio", [np.zeros(3 * RATE), noise(3.0, 5, -75.0)], ids=["digital", "faint"])
def test_a_recording_without_activity_is_named_in_the_quarantine(make, put, audio):
    put("a/1.wav", calls(1))
    put("a/silent.wav", audio)
    ctx = make(ACTIVITY)
    assert run(ctx)["clips"] == 3
    assert quarantine_of(ctx) == [("a/silent.wav", "silent")]
    assert "activity" in read_quarantine(ctx.path(QUARANTINE))["detail"][0]
    assert plan_step(ctx, STEP) == []
    assert run(ctx)["quarantined"] == {"silent": 1}


def broken():
    """Recordings of sixteen seconds whose fault shows only after the first segments, and the reason each must get."""
    audio = noise(16.0, 7)
    flac = encode(audio, "FLAC")
    not_finite = audio.astype(np.float32)
    not_finite[14 * RATE] = np.nan
    wav = bytearray(encode(audio, subtype="FLOAT"))
    wav[-not_finite.nbytes :] = not_finite.tobytes()
    return {"FLAC cut in the middle": (flac[: len(flac) // 2], None), "NaN near the end": (bytes(wav), "not_finite")}


@pytest.mark.parametrize("fault", broken())
@pytest.mark.parametrize("shard_s", [1.0, 600.0])
def test_a_recording_that_turns_out_bad_is_out_whole_and_the_others_are_not(make, put, fault, shard_s):
    sources = {"a/1.wav": noise(2.5, 1), "a/9.wav": noise(2.0, 2)}
    for path, audio in sources.items():
        put(path, audio)
    without = make({"name": "fixed", "length_s": 1.0}, name="without", shard_s=shard_s)
    run(without)
    data, reason = broken()[fault]
    put("a/5.wav", data)
    ctx = make({"name": "fixed", "length_s": 1.0}, shard_s=shard_s)
    run(ctx)
    ((path, found),) = quarantine_of(ctx)
    assert path == "a/5.wav"
    assert found == reason if reason else found in ("truncated", "unreadable")
    places = ["shard", "row"]
    assert manifest_of(ctx).drop(columns=places).equals(manifest_of(without).drop(columns=places))
    assert_from_source(ctx, sources)
    # Shards that hold nothing but what is out are gone.
    assert {path.name for path in ctx.path(FOLDER).iterdir()} == set(manifest_of(ctx)["shard"])
    assert plan_step(ctx, STEP) == []


def test_only_what_is_new_is_cut(make, put):
    sources = {"a/1.wav": noise(3.0, 1), "b/2.wav": noise(2.0, 2)}
    for path, audio in sources.items():
        put(path, audio)
    ctx = make({"name": "fixed", "length_s": 1.0})
    run(ctx)
    before = manifest_of(ctx)
    assert plan_step(ctx, STEP) == []
    run(ctx)
    assert manifest_of(ctx).equals(before)

    sources["a/new.wav"] = noise(2.0, 3)
    put("a/new.wav", sources["a/new.wav"])
    (item,) = plan_step(ctx, STEP)
    assert [record[0] for record in item.payload["records"]] == ["a/new.wav"]
    run(ctx)
    after = manifest_of(ctx)
    assert assert_from_source(ctx, sources)[3:5] == [("a/new.wav", 0, RATE), ("a/new.wav", RATE, RATE)]
    old = after[after["path"] != "a/new.wav"].reset_index(drop=True)
    assert old.equals(before)


def test_other_lengths_cut_everything_anew(make, put):
    put("a/1.wav", noise(4.0, 1))
    run(make({"name": "fixed", "length_s": 1.0}))
    ctx = make({"name": "fixed", "length_s": 2.0})
    assert len(plan_step(ctx, STEP)) == 1
    run(ctx)
    assert list(manifest_of(ctx)["start_s"]) == [0.0, 2.0]
    assert len(list(ctx.path(FOLDER).iterdir())) == 1


def test_equal_stretches_of_silence_are_duplicates_within_a_label(make, put):
    audio = np.concatenate([noise(1.0, 1), np.zeros(3 * RATE), noise(1.0, 2)])
    put("a/1.wav", audio)
    ctx = make({"name": "fixed", "length_s": 1.0})
    run(ctx)
    assert list(manifest_of(ctx)["start_s"]) == [0.0, 1.0, 4.0]
    assert quarantine_of(ctx) == [("a/1.wav", "duplicate")] * 2
    assert list(read_quarantine(ctx.path(QUARANTINE))["detail"]) == [
        "the same bytes as a/1.wav at 1 s, from 2 s on",
        "the same bytes as a/1.wav at 1 s, from 3 s on",
    ]
    assert_from_source(ctx, {"a/1.wav": audio})


def test_equal_stretches_of_silence_in_two_labels_cost_no_more_than_themselves(make, put):
    sources = {
        path: np.concatenate([noise(1.0, seed), np.zeros(RATE), noise(1.0, seed + 1)])
        for path, seed in (("a/1.wav", 1), ("b/2.wav", 3))
    }
    for path, audio in sources.items():
        put(path, audio)
    ctx = make({"name": "fixed", "length_s": 1.0})
    run(ctx)
    assert quarantine_of(ctx) == [("a/1.wav", "conflicting_labels"), ("b/2.wav", "conflicting_labels")]
    kept = [(path, start, RATE) for path in sources for start in (0, 2 * RATE)]
    assert assert_from_source(ctx, sources) == kept


def test_a_recording_no_longer_than_a_window_keeps_its_bytes(make, put):
    data = encode(noise(1.0, 1), subtype="PCM_24")
    put("a/short.wav", data)
    put("a/long.wav", noise(1.5, 2))
    ctx = make({"name": "fixed", "length_s": 1.0})
    run(ctx)
    short = manifest_of(ctx).set_index("path").loc["a/short.wav"]
    assert (short["start_s"], short["format"], short["subtype"]) == (0.0, "WAV", "PCM_24")
    assert read_clips(ctx.path(FOLDER) / short["shard"], [short["row"]])[0][1] == data


def test_recordings_at_a_url_are_cut_as_those_here(make, put, remote):
    for path, audio in {"a/1.wav": noise(2.5, 1), "b/2.wav": noise(0.8, 2)}.items():
        put(path, audio)
        remote.write(path, encode(audio))
    segment = {"name": "fixed", "length_s": 1.0}
    here = make(segment)
    run(here)
    there = make(segment, name="there", data={"source": remote.url, "storage_options": remote.options})
    run(there)
    assert list(manifest_of(there)["start_s"]) == [0.0, 1.0, 2.0, 0.0]
    assert manifest_of(there).equals(manifest_of(here))
    assert plan_step(Context(there.workspace, there.params), STEP) == []
