from pathlib import Path

import pytest

from audioml.pipeline.compaction import compact_clips
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import plan_step, run_step
from audioml.store.clips import FOLDER, read_clips
from audioml.store.features import open_features
from audioml.store.manifest import MANIFEST, read_manifest

INGEST, FEATURIZE = find_step("ingest"), find_step("featurize")


@pytest.fixture
def grown(recordings_space, tone_wav):
    """A workspace whose source grew by one recording a run, three times, and lost one that was there before."""
    ctx = recordings_space
    run_step(ctx, INGEST, jobs=1)
    for i in range(3):
        (Path(ctx.source.address) / "low" / f"new{i}.wav").write_bytes(tone_wav(500 + 10 * i))
        run_step(ctx, INGEST, jobs=1)
    (Path(ctx.source.address) / "high" / "5.wav").unlink()
    run_step(ctx, INGEST, jobs=1)
    return ctx


def clips(ctx):
    manifest = read_manifest(ctx.path(MANIFEST))
    packed = {shard: dict(enumerate(read_clips(ctx.path(FOLDER) / shard))) for shard in set(manifest["shard"])}
    rows = zip(manifest["path"], manifest["shard"], manifest["row"], strict=True)
    return {path: packed[shard][row] for path, shard, row in rows}


def features(ctx):
    run_step(ctx, FEATURIZE, jobs=1)
    found = open_features(ctx.path("features"), verify=True)
    return {clip_id: found.take([i]).tobytes() for i, clip_id in enumerate(found.clip_ids)}


def test_small_shards_become_full_ones_and_withdrawn_clips_go(grown, tone_wav):
    before, features_before = clips(grown), features(grown)
    withdrawn = tone_wav(2050)
    folder = grown.path(FOLDER)
    assert any(withdrawn in path.read_bytes() for path in folder.iterdir())
    summary = compact_clips(grown)
    assert summary == {"shards_before": 6, "shards_after": 4, "clips_moved": 6, "clips_removed": 1}
    assert len(list(folder.iterdir())) == 4
    assert not any(withdrawn in path.read_bytes() for path in folder.iterdir())
    assert clips(grown) == before
    assert features(grown) == features_before


def test_after_it_nothing_is_read_again_and_nothing_left_to_compact(grown):
    compact_clips(grown)
    assert plan_step(grown, INGEST) == []
    run_step(grown, INGEST, jobs=1)
    before = clips(grown)
    assert compact_clips(grown)["clips_moved"] == 0
    assert clips(grown) == before


def test_killed_at_any_step_it_loses_nothing(grown, monkeypatch):
    from audioml.pipeline import compaction

    before = clips(grown)
    for name in ("write_manifest", "move_facts"):
        with monkeypatch.context() as patch:
            patch.setattr(compaction, name, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                compact_clips(grown)
        assert clips(grown) == before
    run_step(grown, INGEST, jobs=1)
    assert clips(grown) == before
    compact_clips(grown)
    assert clips(grown) == before
    assert len(list(grown.path(FOLDER).iterdir())) == 4


def test_enough_shards_stay_to_spread_work_over(recordings_space, monkeypatch):
    from audioml.params import IngestParams
    from audioml.pipeline import compaction

    monkeypatch.setattr(compaction, "SPREAD_FROM_FILES", 12)
    ctx = recordings_space
    run_step(ctx, INGEST, jobs=1)
    roomy = Context(ctx.workspace, ctx.params.model_copy(update={"ingest": IngestParams()}))
    compact_clips(roomy)
    assert len(list(ctx.path(FOLDER).iterdir())) in (3, 4)
    monkeypatch.setattr(compaction, "SPREAD_FROM_FILES", 13)
    compact_clips(roomy)
    assert len(list(ctx.path(FOLDER).iterdir())) == 1
