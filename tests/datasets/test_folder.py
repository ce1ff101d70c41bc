import os

import pytest

from audioml.datasets._source import Source
from audioml.datasets.folder import Params, read, scan
from audioml.errors import SourceError


def touch(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def params(**keys):
    return Params(layout="folder", **keys)


def test_class_folders(tmp_path):
    for name in ("dog/a.wav", "dog/deep/er/b.flac", "cat/c.ogg"):
        touch(tmp_path / name, name.encode())
    records = scan(params(), Source.of(tmp_path))
    assert [(r.path, r.columns) for r in records] == [
        ("cat/c.ogg", {"label": "cat"}),
        ("dog/a.wav", {"label": "dog"}),
        ("dog/deep/er/b.flac", {"label": "dog"}),
    ]
    assert records[0].size_bytes == 9
    assert read(params(), Source.of(tmp_path), records[0]) == b"cat/c.ogg"


def test_sidecars_and_hidden_files_are_left_out_but_odd_names_are_not(tmp_path):
    for name in ("a/1.wav", "a/2", "a/3.bin", "a/x.csv", "a/README", "a/._1.wav", ".git/y", "__MACOSX/z", "notes.txt"):
        touch(tmp_path / name)
    assert [r.path for r in scan(params(), Source.of(tmp_path))] == ["a/1.wav", "a/2", "a/3.bin"]


def test_spaces_letters_and_links(tmp_path):
    source = tmp_path / "my sounds"
    touch(source / "Grüße aus Köln" / "ein ton.wav")
    touch(tmp_path / "elsewhere" / "鳥.wav")
    (source / "birds").symlink_to(tmp_path / "elsewhere")
    (source / "Grüße aus Köln" / "link.wav").symlink_to(tmp_path / "elsewhere" / "鳥.wav")
    records = scan(params(), Source.of(source))
    assert [r.path for r in records] == ["Grüße aus Köln/ein ton.wav", "Grüße aus Köln/link.wav", "birds/鳥.wav"]
    assert [read(params(), Source.of(source), r) for r in records] == [b"x"] * 3


def test_a_link_in_a_circle_ends(tmp_path):
    touch(tmp_path / "a" / "1.wav")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    assert [r.path for r in scan(params(), Source.of(tmp_path))] == ["a/1.wav"]


def test_a_link_to_nothing_is_a_problem_of_its_own(tmp_path):
    touch(tmp_path / "a" / "1.wav")
    (tmp_path / "a" / "2.wav").symlink_to(tmp_path / "gone")
    assert scan(params(), Source.of(tmp_path))[1].problem[0] == "missing"


def test_files_beside_the_class_folders_have_no_label(tmp_path):
    touch(tmp_path / "a" / "1.wav")
    touch(tmp_path / "stray.wav")
    stray = scan(params(), Source.of(tmp_path))[1]
    assert stray.problem[0] == "unlabelled"
    assert "label" not in stray.columns


def test_a_pattern_adds_columns(esc10_dir):
    records = scan(params(pattern=r"(?P<fold>\d)-(?P<source>\d+)-[A-Z]"), Source.of(esc10_dir))
    assert len(records) == 400
    assert {r.columns["fold"] for r in records} == {1, 2, 3, 4, 5}
    assert len({r.columns["label"] for r in records}) == 10


def test_the_label_may_be_another_column(tmp_path):
    touch(tmp_path / "dog" / "ann_1.wav")
    (record,) = scan(params(label="speaker", pattern=r"/(?P<speaker>[a-z]+)_\d"), Source.of(tmp_path))
    assert record.columns == {"folder": "dog", "speaker": "ann", "label": "ann"}


def test_an_empty_class(tmp_path):
    touch(tmp_path / "dog" / "1.wav")
    (tmp_path / "cat").mkdir()
    with pytest.raises(SourceError, match=r"1 of 2 class folders .*'cat'.*remove"):
        scan(params(), Source.of(tmp_path))


def test_no_class_folders(tmp_path):
    touch(tmp_path / "1.wav")
    with pytest.raises(SourceError, match=r"no class folders.*filename"):
        scan(params(), Source.of(tmp_path))


def test_a_missing_source(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        scan(params(), Source.of(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=r"needs data\.source"):
        scan(params(), None)
    touch(tmp_path / "file.wav")
    with pytest.raises(SourceError, match="is a file"):
        scan(params(), Source.of(tmp_path / "file.wav"))


def test_a_name_that_is_not_utf_8(tmp_path):
    folder = os.fsencode(tmp_path / "a")
    (tmp_path / "a").mkdir()
    os.close(os.open(folder + b"/\xff.wav", os.O_CREAT))
    with pytest.raises(SourceError, match="not UTF-8"):
        scan(params(), Source.of(tmp_path))
