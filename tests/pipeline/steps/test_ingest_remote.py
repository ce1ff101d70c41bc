"""ingest from S3 and from the web: the same manifest as from here, and only what is new is read again."""

import pytest

from audioml.datasets._source.remote import RemoteSource
from audioml.params import parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine


@pytest.fixture
def make(tmp_path, minimal_params):
    """A function from a name and keys of `data` to the context of a workspace."""

    def make_context(name, **data):
        (tmp_path / name).mkdir()
        return Context(tmp_path / name, parse_params({**minimal_params, "data": data}))

    return make_context


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read from URLs."""
    paths = []

    def read(self, path=""):
        paths.append(path)
        return original(self, path)

    original = RemoteSource.read
    monkeypatch.setattr(RemoteSource, "read", read)
    return paths


def ingest(ctx):
    result = run_step(Context(ctx.workspace, ctx.params), find_step("ingest"), jobs=1)
    return result, read_manifest(ctx.path(MANIFEST)), read_quarantine(ctx.path(QUARANTINE))


@pytest.mark.parametrize(
    ("remote", "layout", "pattern"),
    [("s3", "folder", None), ("web", "filename", r"^(?P<label>\w+)/(?P<take>\d)$")],
    indirect=["remote"],
    ids=["s3-folder", "web-filename"],
)
def test_only_what_is_new_or_changed_is_read_again(make, remote, reads, tone_wav, tmp_path, layout, pattern):
    tones = {
        f"{label}/{i}.wav": tone_wav(base + 20 * i) for label, base in (("low", 200), ("high", 2000)) for i in range(4)
    }
    for path, data in tones.items():
        remote.write(path, data)
        (tmp_path / "local" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / path).write_bytes(data)
    common = {"layout": layout, "pattern": pattern}
    ctx = make("there", source=remote.url, storage_options=remote.options, **common)
    result, manifest, quarantine = ingest(ctx)
    assert (result["clips"], len(quarantine), sorted(reads)) == (8, 0, sorted(tones))
    _, here, _ = ingest(make("here", source=str(tmp_path / "local"), **common))
    assert manifest.drop(columns="shard").equals(here.drop(columns="shard"))

    reads.clear()
    assert ingest(ctx)[1].equals(manifest)
    assert reads == []

    remote.write("low/0.wav", tone_wav(210) + b"\0")
    remote.write("low/9.wav", tone_wav(290))
    remote.remove("high/3.wav")
    _, after, _ = ingest(ctx)
    assert sorted(reads) == ["low/0.wav", "low/9.wav"]
    assert sorted(after["path"]) == sorted({*tones, "low/9.wav"} - {"high/3.wav"})
    kept = sorted(tones.keys() - {"low/0.wav", "high/3.wav"})
    columns = ["clip_id", "shard", "row"]
    assert after.set_index("path").loc[kept, columns].equals(manifest.set_index("path").loc[kept, columns])


def test_an_object_that_fails_is_quarantined(make, remote, tone_wav, monkeypatch):
    for i in range(12):
        remote.write(f"low/{i:02d}.wav", tone_wav(200 + 20 * i))
    original = RemoteSource.read
    monkeypatch.setattr(RemoteSource, "read", lambda self, path: original(self, path.replace("05", "gone")))
    _, manifest, quarantine = ingest(make("space", layout="folder", source=remote.url, storage_options=remote.options))
    assert len(manifest) == 11
    assert quarantine[["path", "reason"]].values.tolist() == [["low/05.wav", "missing"]]
