"""Recordings that end the process which reads them. The crash is real (a signal); only its cause is arranged."""

import os
import signal
import subprocess
import sys

import pytest
import yaml

from audioml.store.manifest import read_manifest, read_quarantine

HARMFUL = """
import os, pathlib, signal
import audioml.audio.decode as module

decode = module.decode_with_info
MARK = pathlib.Path(__file__).with_name("killed")


def decode_with_info(data):
    if b"POISON" in data:
        os.abort()
    if b"KILLED FROM OUTSIDE" in data and not MARK.exists():
        MARK.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data)


module.decode_with_info = decode_with_info
"""


@pytest.fixture
def ingest(tmp_path, tone_wav, minimal_params):
    """A function from names and ends of recordings, and the section `ingest`, to how `audioml run ingest` ends."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HARMFUL)
    for label, base in (("low", 200), ("high", 2000)):
        (tmp_path / "src" / label).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "src" / label / f"{i}.wav").write_bytes(tone_wav(base + 10 * i))

    def run(ends, **section):
        raw = minimal_params | {"data": {"layout": "folder", "source": str(tmp_path / "src")}, "ingest": section}
        (tmp_path / "space").mkdir(exist_ok=True)
        (tmp_path / "space" / "params.yaml").write_text(yaml.safe_dump(raw))
        for name, end in ends.items():
            path = tmp_path / "src" / name
            if not path.read_bytes().endswith(end):
                path.write_bytes(path.read_bytes() + end)
        command = [sys.executable, "-m", "audioml", "run", "ingest", "--jobs", "2"]
        environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"}
        return subprocess.run(command, cwd=tmp_path / "space", env=environment, capture_output=True, text=True)

    run.data = tmp_path / "space" / "data"
    return run


def tables(ingest):
    quarantine = read_quarantine(ingest.data / "quarantine.parquet")
    manifest = read_manifest(ingest.data / "manifest.parquet")
    return sorted(manifest["path"]), dict(zip(quarantine["path"], quarantine["reason"], strict=True))


def test_a_file_that_crashes_its_reader_is_quarantined_by_the_next_attempt(ingest):
    assert ingest({"low/2.wav": b"POISON"}).returncode == -signal.SIGABRT
    done = ingest({})
    assert done.returncode == 0, done.stderr
    paths, quarantine = tables(ingest)
    assert quarantine == {"low/2.wav": "crash"}
    assert len(paths) == 11
    detail = read_quarantine(ingest.data / "quarantine.parquet")["detail"][0]
    assert detail == "reading it ended the process: Aborted"


def test_several_of_them_among_worker_processes_need_no_second_run(ingest):
    done = ingest({"low/1.wav": b"POISON", "high/4.wav": b"POISON"}, shard_mb=0.1, max_bad_share=0.2)
    assert done.returncode == 0, done.stderr
    paths, quarantine = tables(ingest)
    assert quarantine == {"low/1.wav": "crash", "high/4.wav": "crash"}
    assert len(paths) == 10


def test_a_worker_that_is_killed_from_outside_is_replaced_and_no_file_blamed(ingest):
    done = ingest({"low/3.wav": b"KILLED FROM OUTSIDE"}, shard_mb=0.1)
    assert done.returncode == 0, done.stderr
    paths, quarantine = tables(ingest)
    assert (len(paths), quarantine) == (12, {})
