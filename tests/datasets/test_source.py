"""Sources at URLs, against a real S3 server process's protocol (moto) and a real web server."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pandas as pd
import pytest
import soundfile

from audioml.datasets import filename, folder, table
from audioml.datasets._source import Source

ODD = ("schräg sweep/1 #50%.wav", "it's & http/http'd & co.wav", "it's & http/deep/er+/ä?.flac")
OTHERS = ("it's & http/notes.txt", "it's & http/.hidden.wav", ".git/x", "README")


@pytest.fixture
def filled(remote, tmp_path):
    """A source of odd names at a URL, and the same files here."""
    local = tmp_path / "local"
    for name in (*ODD, *OTHERS):
        remote.write(name, name.encode())
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(name.encode())
    return Source.of(remote.url, storage_options=remote.options), Source.of(local)


def test_a_listing_is_that_of_the_same_files_here(filled):
    there, here = filled
    assert there.is_folder()
    assert there.folder_names() == here.folder_names() == ["it's & http", "schräg sweep"]
    listed = [(r.path, r.size_bytes, r.problem) for r in there.list_files()]
    assert listed == [(r.path, r.size_bytes, r.problem) for r in here.list_files()]
    assert [path for path, _, _ in listed] == sorted(ODD)


def is_file(path, known):
    try:
        return os.path.samestat(path.stat(), known)
    except OSError:
        return False


def test_class_folders_are_read_and_fetched(filled):
    there, here = filled
    data = folder.Params(layout="folder")
    records = folder.scan(data, there)
    assert [r.columns for r in records] == [r.columns for r in folder.scan(data, here)]
    for record in records:
        assert folder.read(data, there, record) == record.path.encode()
        with folder.fetch(data, there, record) as path:
            assert path.read_bytes() == record.path.encode()
            fetched = path.stat()
        # Another thread of this process, such as that of the server, may have opened a file of the same number.
        assert not is_file(path, fetched)


def test_labels_in_file_names(remote):
    for name in ("3_ann_0.wav", "deep/4_bob_1.wav"):
        remote.write(name, name.encode())
    data = filename.Params(layout="filename", pattern=r"(?P<label>\d)_(?P<speaker>[a-z]+)_\d")
    records = filename.scan(data, Source.of(remote.url, storage_options=remote.options))
    assert [(r.path, r.columns["label"], r.columns["speaker"]) for r in records] == [
        ("3_ann_0.wav", "3", "ann"),
        ("deep/4_bob_1.wav", "4", "bob"),
    ]


def test_the_next_listing_shows_what_is_new_changed_and_gone(remote):
    for name in ("a/1.wav", "a/2.wav", "b/3.wav"):
        remote.write(name, b"one")
    source = Source.of(remote.url, storage_options=remote.options)
    before = {r.path: (r.size_bytes, r.version) for r in source.list_files()}
    assert all(version for _, version in before.values())
    remote.write("a/1.wav", b"other")
    remote.write("b/4.wav", b"new")
    remote.remove("b/3.wav")
    after = {r.path: (r.size_bytes, r.version) for r in source.list_files()}
    assert before.keys() - after.keys() == {"b/3.wav"}
    assert {path for path, found in after.items() if before.get(path) != found} == {"a/1.wav", "b/4.wav"}


def test_the_same_bytes_keep_their_version_on_s3(s3):
    s3.write("a.wav", b"same")
    source = Source.of(s3.url, storage_options=s3.options)
    (before,) = source.list_files()
    s3.write("a.wav", b"same")
    assert source.list_files() == [before]


def test_marked_folders_and_double_slashes_on_s3(s3):
    s3.write("a/", b"")
    s3.write("a//b.wav", b"x")
    source = Source.of(s3.url + "/", storage_options=s3.options)
    (record,) = source.list_files()
    assert (record.path, source.read(record.path)) == ("a//b.wav", b"x")


def test_a_table_at_a_url(remote):
    for name in ("wavs/ä 1.wav", "other/2.wav"):
        remote.write(name, name.encode())
    rows = {"path": ["ä 1.wav", "../other/2.wav", "gone.wav", None], "label": list("xyxy")}
    remote.write("meta/t.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    source = Source.of(f"{remote.url.rstrip('/')}/meta/t.csv", storage_options=remote.options)
    data = table.Params(layout="table", root="../wavs")
    records = {r.path: r for r in table.scan(data, source)}
    assert {path: r.problem and r.problem[0] for path, r in records.items()} == {
        "ä 1.wav": None,
        "../other/2.wav": None,
        "gone.wav": "missing",
        "(row 3)": "missing",
    }
    assert table.read(data, source, records["ä 1.wav"]) == "wavs/ä 1.wav".encode()
    with table.fetch(data, source, records["../other/2.wav"]) as path:
        assert path.read_bytes() == b"other/2.wav"


def test_a_table_here_of_urls_anywhere(s3, web, tmp_path):
    s3.write("1.wav", b"on s3")
    web.write("2 ä.wav", b"on the web")
    (tmp_path / "3.wav").write_bytes(b"here")
    urls = [f"{s3.url}/1.wav", f"{web.url}2%20%C3%A4.wav?download=1", "3.wav", f"{web.url}gone.wav"]
    pd.DataFrame({"path": urls, "label": list("xyxy")}).to_csv(tmp_path / "t.csv", index=False)
    data = table.Params(layout="table", storage_options=s3.options)
    source = Source.of(tmp_path / "t.csv", storage_options=s3.options)
    records = {r.path: r for r in table.scan(data, source)}
    assert {url: records[url].problem and records[url].problem[0] for url in urls} == dict(
        zip(urls, [None, None, None, "missing"], strict=True)
    )
    assert [table.read(data, source, records[url]) for url in urls[:3]] == [b"on s3", b"on the web", b"here"]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_fetched_copy_is_known_by_its_content(web, kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(8000) / 5) / 2, 8000, format=kind)
    web.write("1.bin", buffer.getvalue())
    with Source.of(web.url).fetch("1.bin") as path:
        assert soundfile.info(path).format in (kind, "MPEG")
        assert len(soundfile.read(path)[0]) == 8000


def test_threads_share_a_connection(remote):
    source = Source.of(remote.url, storage_options=remote.options)
    with ThreadPoolExecutor(4) as pool:
        assert len({id(fs) for fs in pool.map(lambda _: source.fs, range(8))} | {id(source.fs)}) == 1


def test_any_other_file_system_of_fsspec():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/birds/a/1.wav", b"x")
    source = Source.of("memory://birds")
    (record,) = source.list_files()
    assert (record.path, record.size_bytes, source.read("a/1.wav")) == ("a/1.wav", 1, b"x")
    assert record.version
    fs.rm("/birds", recursive=True)
