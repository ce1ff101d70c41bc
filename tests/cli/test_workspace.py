import json
import os

import pytest
import yaml
from typer.testing import CliRunner

from audioml.cli import app
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step


@pytest.fixture
def featurized(tmp_path, minimal_params, tone_wav):
    """A workspace of one packed shard and one feature shard."""
    for label, frequency_hz in (("low", 200), ("high", 2000)):
        (tmp_path / "recordings" / label).mkdir(parents=True)
        (tmp_path / "recordings" / label / "1.wav").write_bytes(tone_wav(frequency_hz))
    data = {"layout": "folder", "source": "recordings"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params | {"data": data}))
    for step in ("ingest", "featurize"):
        run_step(Context.load(tmp_path), find_step(step), jobs=1)
    return tmp_path


def check(workspace, *options):
    """Run `audioml check`; return its exit code and what it printed, in one line."""
    result = CliRunner().invoke(app, ["check", "--workspace", str(workspace), *options])
    return result.exit_code, " ".join(result.output.split())


def damage(path):
    """Change a bit in the middle and leave size and time as they were."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


def test_a_check_of_what_is_whole_ends_well(featurized):
    assert check(featurized) == (0, "2 files are there and whole.")
    assert check(featurized, "--deep") == (0, "2 files are what their checksums say.")
    code, output = check(featurized, "--deep", "--json")
    assert (code, json.loads(output)) == (0, {"files": 2, "findings": []})


def test_a_check_that_finds_damage_fails_and_says_what_to_run(featurized):
    (packed,) = map(damage, featurized.glob("data/audio/*.parquet"))
    (features,) = map(damage, featurized.glob("features/*.arrow"))
    assert check(featurized)[0] == 0
    code, output = check(featurized, "--deep")
    assert code == 1
    assert "2 of 2 files are bad. Make them again with: audioml run ingest && audioml run featurize" in output
    assert not packed.exists()
    assert not features.exists()
    # Moved aside, they are missing: still bad, until they are made.
    code, output = check(featurized, "--json")
    found = json.loads(output)
    assert (code, found["files"]) == (1, 2)
    assert [(f["file"], f["remedy"]) for f in found["findings"]] == [
        (str(packed.relative_to(featurized)), "audioml run ingest"),
        (str(features.relative_to(featurized)), "audioml run featurize"),
    ]
    assert all(f["problem"] for f in found["findings"])
    for step in ("ingest", "featurize"):
        run_step(Context.load(featurized), find_step(step), jobs=1)
    assert check(featurized, "--deep")[0] == 0
