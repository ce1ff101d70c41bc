from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from audioml.errors import SourceError
from audioml.serving import batch_inputs
from audioml.serving.batch_inputs import count_inputs, first_difference, read_inputs, read_recordings, write_inputs


def list_paths(table: Path) -> list[list[str]]:
    return [[row["path"] for row in read_inputs(table, part)] for part in range(len(count_inputs(table)))]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "töne"
    for path in ("b.wav", "a/2.flac", "a/10.ogg", "a/deep/x", "notes.txt", ".hidden.wav", "__MACOSX/b.wav"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    return folder


def test_a_folder_is_listed_in_order_without_what_goes_with_recordings(recordings: Path, tmp_path: Path) -> None:
    write_inputs(recordings, tmp_path / "inputs.parquet")
    assert list_paths(tmp_path / "inputs.parquet") == [["a/10.ogg", "a/2.flac", "a/deep/x", "b.wav"]]
    rows = read_inputs(tmp_path / "inputs.parquet", 0)
    assert rows[0]["size_bytes"] == len("a/10.ogg")
    assert list(read_recordings(recordings, rows)) == [row["path"].encode() for row in rows]


def test_parts_are_cut_by_files_and_by_bytes(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_inputs, "PART_FILES", 2)
    write_inputs(recordings, tmp_path / "two.parquet")
    assert list_paths(tmp_path / "two.parquet") == [["a/10.ogg", "a/2.flac"], ["a/deep/x", "b.wav"]]
    monkeypatch.setattr(batch_inputs, "PART_BYTES", 10)
    write_inputs(recordings, tmp_path / "small.parquet")
    assert count_inputs(tmp_path / "small.parquet") == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.parquet"])
def test_tables_in_their_own_order(recordings: Path, tmp_path: Path, name: str) -> None:
    # The other column looks like a number until late.
    table = pd.DataFrame({"take": ["1"] * 3 + ["last"], "path": ["b.wav", "a/2.flac", "gone.wav", "b.wav"]})
    if name.endswith("parquet"):
        table.to_parquet(recordings / name)
    else:
        table.to_csv(recordings / name, sep="\t" if name.endswith("tsv") else ",", index=False)
    write_inputs(recordings / name, tmp_path / "inputs.parquet")
    assert list_paths(tmp_path / "inputs.parquet") == [["b.wav", "a/2.flac", "gone.wav", "b.wav"]]
    one, _, gone, again = read_recordings(recordings / name, read_inputs(tmp_path / "inputs.parquet", 0))
    assert one == again == b"b.wav"
    assert isinstance(gone, FileNotFoundError)


def test_equal_recordings_make_equal_files_and_the_first_other_one_is_named(recordings: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_inputs(recordings, one)
    write_inputs(recordings, other)
    assert one.read_bytes() == other.read_bytes()
    assert first_difference(one, other) == ""
    (recordings / "a" / "2.flac").write_bytes(b"another")
    write_inputs(recordings, other)
    assert first_difference(one, other) == "a/2.flac"
    (recordings / "a" / "2.flac").unlink()
    (recordings / "a" / "10.ogg").unlink()
    write_inputs(recordings, other)
    assert first_difference(one, other) == "a/10.ogg"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "file,label\na.wav,dog\n", "no column 'path'.*file, label"),
        ("list.csv", "paths\na.wav\n", "Did you mean 'paths'"),
        ("list.csv", "path,label\na.wav,dog\n,cat\n", "row 2 has no 'path'"),
        ("list.csv", "path\n", "no recordings"),
        ("list.parquet", "text", "cannot be read as a table"),
        ("clip.wav", "RIFF", "neither a folder nor a table.*audioml predict .*clip.wav"),
    ],
)
def test_tables_that_name_no_recordings(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        write_inputs(tmp_path / name, tmp_path / "inputs.parquet")
    assert not (tmp_path / "inputs.parquet").exists()


def test_an_empty_folder_has_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no recordings in"):
        write_inputs(tmp_path / "empty", tmp_path / "inputs.parquet")
