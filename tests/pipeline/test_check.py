import pytest

from audioml.pipeline.check import check_store
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step

STEPS = ("ingest", "featurize")


@pytest.fixture
def made(recordings_space):
    """A workspace of 12 tones, ingested and featurized, and a function that makes it whole again."""

    def run():
        for step in STEPS:
            run_step(recordings_space, find_step(step), jobs=1)
        return {p: p.read_bytes() for f in ("data", "features") for p in recordings_space.path(f).rglob("*.*")}

    return recordings_space, run


def flip(path, at=None):
    """Change one bit in the middle of a file, and leave size and time as they were."""
    import os

    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_all_is_well(made):
    ctx, run = made
    assert check_store(ctx) == (0, [])
    run()
    assert check_store(ctx) == check_store(ctx, deep=True) == (6, [])


@pytest.mark.parametrize(("folder", "remedy"), [("data/audio", "ingest"), ("features", "featurize")])
def test_silent_damage_is_found_only_by_reading_and_made_again(made, folder, remedy):
    ctx, run = made
    before = run()
    path = min(ctx.path(folder).glob("*.[ap]*"))
    flip(path)
    run()
    assert check_store(ctx)[1] == []
    (finding,) = check_store(ctx, deep=True)[1]
    assert finding.file == f"{folder}/{path.name}"
    assert finding.remedy == f"audioml run {remedy}"
    assert (ctx.state / "damaged" / folder / path.name).exists()
    assert run() == before
    assert check_store(ctx, deep=True)[1] == []


@pytest.mark.parametrize("folder", ["data/audio", "features"])
@pytest.mark.parametrize("damage", ["remove", "cut", "empty"])
def test_missing_and_cut_shards_are_found_without_reading_all(made, folder, damage):
    ctx, run = made
    before = run()
    path = min(ctx.path(folder).glob("*.[ap]*"))
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else 0])
    (finding,) = check_store(ctx)[1]
    assert finding.file == f"{folder}/{path.name}"
    assert run() == before


def test_a_clip_that_is_not_where_the_manifest_says(made):
    from audioml.store.manifest import MANIFEST, read_manifest, write_manifest

    ctx, run = made
    run()
    manifest = read_manifest(ctx.path(MANIFEST))
    first = manifest["shard"] == manifest["shard"].iloc[0]
    manifest.loc[first, "row"] = manifest.loc[first, "row"].to_numpy()[::-1]
    write_manifest(ctx.path(MANIFEST), manifest)
    assert check_store(ctx)[1] == []
    (finding,) = check_store(ctx, deep=True)[1]
    assert "is not the clip that the manifest says" in finding.problem
