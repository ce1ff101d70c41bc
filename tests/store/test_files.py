import hashlib

import pytest

from audioml.store.files import (
    hash_bytes,
    hash_file,
    hash_json,
    read_json,
    remove_leftovers,
    write_atomic,
    write_folder_atomic,
    write_json,
    write_text,
)


def fail(temporary):
    temporary.write_text("half")
    raise ZeroDivisionError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), write_atomic(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "old.html").write_text("old")
    with write_folder_atomic(folder) as temporary:
        (temporary / "new.html").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["new.html"]
    with pytest.raises(ZeroDivisionError), write_folder_atomic(folder) as temporary:
        raise ZeroDivisionError
    assert [p.name for p in folder.iterdir()] == ["new.html"]
    assert [p.name for p in tmp_path.iterdir()] == ["docs"]


def test_leftovers_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".a.arrow.x1.tmp").write_text("half")
    (tmp_path / ".docs.x2.tmp").mkdir()
    (tmp_path / "a.arrow").write_text("whole")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.arrow"]


def test_json_survives(tmp_path):
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value


def test_hashes(tmp_path):
    (tmp_path / "f").write_bytes(b"clip")
    assert hash_file(tmp_path / "f") == hash_bytes(b"clip") == hashlib.sha256(b"clip").hexdigest()
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 1, "b": 3})
