from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from audioml.errors import RegistryError, SourceError, StoreError
from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.registry.tracking import tracking
from audioml.serving import batch_inputs
from audioml.serving.batch_run import predict_batch
from audioml.serving.model import load_model

from .._polling import has_ended, wait_until

PART_FILES = 4
RUN = f"""
import sys
from pathlib import Path
from audioml.pipeline.context import Context
from audioml.serving import batch_inputs
from audioml.serving.batch_run import predict_batch
batch_inputs.PART_FILES = {PART_FILES}
predict_batch(Context.load(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), jobs=2)
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_inputs, "PART_FILES", PART_FILES)


@pytest.fixture
def recordings(tmp_path: Path, fsdd_dir: Path) -> Path:
    """Ten real recordings, and one file that is none."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for path in sorted(fsdd_dir.glob("?_theo_3.wav")):
        shutil.copy(path, folder)
    (folder / "5_broken.wav").write_bytes(b"no audio")
    return folder


@pytest.fixture
def pipe(recordings: Path) -> Path:
    """A table of the recordings, the eighth of them a named pipe: whoever reads it waits for a writer."""
    os.mkfifo(recordings / "pipe.wav")
    names = sorted(path.name for path in recordings.iterdir() if path.name != "pipe.wav")
    names.insert(7, "pipe.wav")
    (recordings / "list.csv").write_text("\n".join(["path", *names]) + "\n")
    return recordings / "pipe.wav"


@contextmanager
def write_into(pipe: Path, data: bytes) -> Iterator[None]:
    """Write to the one who reads the pipe; its own times stay, by which a batch would see that it changed."""
    before = pipe.stat().st_mtime_ns
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    yield
    writer.join()
    os.utime(pipe, ns=(before, before))


def test_a_row_a_recording(registered: Context, recordings: Path, tmp_path: Path) -> None:
    done = predict_batch(registered, recordings, tmp_path / "out.parquet", jobs=2)
    expected = {"output": str(tmp_path / "out.parquet"), "model": "tones", "version": 1, "files": 11, "errors": 1}
    assert done == {**expected, "resumed": 0}
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist(maps_as_pydicts="strict")
    assert [row["file"] for row in rows] == sorted(path.name for path in recordings.iterdir())
    predictor = load_model(registered).predictor
    assert isinstance(predictor, Predictor)
    for row in rows:
        if row["file"] == "5_broken.wav":
            assert (row["error_reason"], row["label"], row["duration_s"]) == ("unreadable", None, None)
            continue
        (answer,) = predictor.predict([(recordings / row["file"]).read_bytes()])
        assert row["label"] == answer["label"]
        assert row["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
        assert (row["model"], row["version"], row["error_reason"]) == ("tones", 1, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "recordings"]


def test_a_run_that_was_killed_goes_on_where_it_was(registered: Context, pipe: Path, tmp_path: Path) -> None:
    table, output = pipe.parent / "list.csv", tmp_path / "out.parquet"
    folder = tmp_path / "out.parquet.parts"
    finished = [folder / "part-000000.parquet", folder / "part-000002.parquet"]
    with tracking(registered) as url:
        command = [sys.executable, "-c", RUN, str(registered.workspace), str(table), str(output)]
        run = subprocess.Popen(command, env={**os.environ, "MLFLOW_TRACKING_URI": url})
        wait_until(lambda: all(part.exists() for part in finished), "the parts without the pipe are done")
        workers = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        run.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert not output.exists()
    before = {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in finished}
    recording = (pipe.parent / "7_theo_3.wav").read_bytes()
    during = {}

    def look() -> None:
        during.update({part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in finished})

    with write_into(pipe, recording):
        look()
        done = predict_batch(registered, table, output)
    assert (done["files"], done["resumed"], done["errors"]) == (12, 8, 1)
    assert during == before
    assert not folder.exists()
    with write_into(pipe, recording):
        predict_batch(registered, table, tmp_path / "whole.parquet")
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_finished_parts_are_taken_as_they_are(registered: Context, recordings: Path, tmp_path: Path) -> None:
    """A part that says something else stays so: it was not made anew."""
    output, folder = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    predict_batch(registered, recordings, tmp_path / "first.parquet")
    (tmp_path / "first.parquet").rename(tmp_path / "kept.parquet")
    table = pq.read_table(tmp_path / "kept.parquet")
    with pytest.raises(StopHereError):
        _stop_before_joining(registered, recordings, output)
    labels = ["marked"] * PART_FILES
    part = folder / "part-000001.parquet"
    marked = pq.read_table(part)
    index = marked.schema.get_field_index("label")
    pq.write_table(marked.set_column(index, marked.schema.field("label"), [labels]), part)
    done = predict_batch(registered, recordings, output)
    assert done["resumed"] == 11
    expected = table["label"].to_pylist()
    expected[PART_FILES : 2 * PART_FILES] = labels
    assert pq.read_table(output)["label"].to_pylist() == expected


class StopHereError(Exception):
    """Ends a run between its parts and its output."""


def _stop_before_joining(ctx: Context, source: Path, output: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: Any) -> None:
            raise StopHereError

        patch.setattr("audioml.serving.batch_run.join_parts", stop)
        predict_batch(ctx, source, output)


def test_what_is_done_is_not_done_again(registered: Context, recordings: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    predict_batch(registered, recordings, output)
    before = output.stat()
    done = predict_batch(registered, recordings, output)
    assert (done["resumed"], done["errors"]) == (11, 1)
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (tmp_path / "out.parquet.parts").exists()


@pytest.mark.parametrize("ended", [True, False])
def test_other_recordings_or_another_model_are_not_mixed(
    registered: Context, recordings: Path, tmp_path: Path, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.parquet"
    if ended:
        predict_batch(registered, recordings, output)
    else:
        with pytest.raises(StopHereError):
            _stop_before_joining(registered, recordings, output)
    monkeypatch.setattr("audioml.__version__", "9.9")
    with pytest.raises(StoreError, match=r"audioml is 9\.9, and was .*remove .*out\.parquet"):
        predict_batch(registered, recordings, output)
    monkeypatch.undo()
    batch_inputs.PART_FILES = PART_FILES
    shutil.copy(recordings / "0_theo_3.wav", recordings / "00.wav")
    with pytest.raises(StoreError, match="the recordings are not those of before" + ("" if ended else ".* is 00.wav")):
        predict_batch(registered, recordings, output)
    (recordings / "00.wav").unlink()
    assert predict_batch(registered, recordings, output)["resumed"] == 11


def test_a_recording_that_ends_its_process_is_left_out(registered: Context, pipe: Path, tmp_path: Path) -> None:
    """Whoever reads the pipe is killed, as the kernel does when memory ends; three times, the last two with care."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(predict_batch, registered, pipe.parent / "list.csv", tmp_path / "out.parquet", None, 2)
        for _ in range(3):
            _kill_reader(pipe)
        done = run.result()
    assert (done["files"], done["errors"]) == (12, 2)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["file"] for row in rows if row["error_reason"] == "crash"] == ["pipe.wav"]
    assert sum(row["label"] is not None for row in rows) == 10


def _kill_reader(pipe: Path) -> None:
    writer: list[int] = []
    readers: list[psutil.Process] = []

    def is_opened() -> bool:
        try:
            writer.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def is_found() -> bool:
        readers.extend(process for process in psutil.Process().children(recursive=True) if _has_open(process, pipe))
        return bool(readers)

    wait_until(is_opened, "somebody opens the pipe")
    wait_until(is_found, "it is known who")
    readers[0].kill()
    wait_until(partial(has_ended, readers[0]), "the reader has ended")
    os.close(writer[0])


def _has_open(process: psutil.Process, path: Path) -> bool:
    with suppress(OSError):
        return any(handle.resolve() == path for handle in Path(f"/proc/{process.pid}/fd").iterdir())
    return False


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [("nowhere", "out.parquet", "There is no"), (".", "out.csv", "no name for a Parquet file")],
)
def test_wrong_names(registered: Context, tmp_path: Path, source: str, output: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        predict_batch(registered, tmp_path / source, tmp_path / output)


def test_a_run_that_fails_at_once_leaves_nothing(registered: Context, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no recordings"):
        predict_batch(registered, tmp_path / "empty", tmp_path / "out.parquet")
    with pytest.raises(RegistryError, match="no version or alias"):
        predict_batch(registered, recordings, tmp_path / "out.parquet", "@nobody")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "recordings"]


def test_packed_clips_of_a_workspace(registered: Context, fsdd_dir: Path, tmp_path: Path) -> None:
    from audioml.store.clips import Clip, write_clips
    from audioml.store.files import hash_bytes

    (tmp_path / "data").mkdir()
    clips = [Clip(hash_bytes(data := path.read_bytes()), path.name, data) for path in sorted(fsdd_dir.iterdir())[:6]]
    shards = [write_clips(tmp_path / "data" / "audio", part) for part in (clips[:4], clips[4:])]
    columns: dict[str, list[Any]] = {
        "path": [clip.path for clip in clips],
        "size_bytes": [len(clip.data) for clip in clips],
        "clip_id": [clip.clip_id for clip in clips],
        "shard": [shards[0]] * 4 + [shards[1]] * 2,
        "row": [0, 1, 3, 2, 0, 1],
    }
    columns = {name: [*values[:2], values[3], values[2], *values[4:]] for name, values in columns.items()} | {
        "row": [0, 1, 3, 2, 0, 1]
    }
    pq.write_table(_table(columns), tmp_path / "data" / "manifest.parquet")
    predict_batch(registered, tmp_path / "data" / "manifest.parquet", tmp_path / "out.parquet")
    predictor = load_model(registered).predictor
    assert isinstance(predictor, Predictor)
    by_id = {clip.clip_id: clip.data for clip in clips}
    for row in pq.read_table(tmp_path / "out.parquet").to_pylist(maps_as_pydicts="strict"):
        (answer,) = predictor.predict([by_id[row["clip_id"]]])
        assert row["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)


def _table(columns: dict[str, list[Any]]) -> Any:
    import pyarrow as pa

    return pa.table(columns)
