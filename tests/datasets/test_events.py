from __future__ import annotations

from pathlib import Path

import pytest

from audioml.datasets._inspect import inspect_source
from audioml.datasets._source import Source
from audioml.datasets.events import Params, read, scan
from audioml.errors import ParamsError, SourceError

TABLE = """\
filename\tonset\toffset\tevent_label\troom
b.wav\t3.25\t4\tdog\thall
b.wav\t0.5\t1.125\theavy rain\thall
a.wav\t\t\t\tyard
gone.wav\t0\t1\tdog\tyard
"""


def write(folder: Path, text: str = TABLE) -> Source:
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(name.encode())
    (folder / "events.tsv").write_text(text)
    return Source.of(folder / "events.tsv")


def params(**keys: object) -> Params:
    return Params(layout="events", **keys)


def test_rows_become_one_record_a_recording(tmp_path: Path) -> None:
    table = write(tmp_path)
    records = scan(params(columns=["room"]), table)
    assert [(r.path, dict(r.columns)) for r in records] == [
        ("a.wav", {"label": "(none)", "room": "yard"}),
        ("b.wav", {"label": "0.5-1.125 heavy rain; 3.25-4 dog", "room": "hall"}),
        ("gone.wav", {"label": "0-1 dog", "room": "yard"}),
    ]
    assert [r.problem and r.problem[0] for r in records] == [None, None, "missing"]
    assert read(params(), table, records[1]) == b"b.wav"


def test_columns_of_other_names(tmp_path: Path) -> None:
    table = write(tmp_path, "file,from,to,what\nb.wav,1,2.5,dog\n".replace(",", "\t"))
    named = params(path_column="file", onset_column="from", offset_column="to", event_column="what")
    assert [r.columns["label"] for r in scan(named, table)] == ["1-2.5 dog"]
    with pytest.raises(ParamsError, match=r"no column 'filename'.*It has: file, from, to, what.*data\.path_column"):
        scan(params(), table)


@pytest.mark.parametrize(
    "row", ["2\t1\tdog", "1\t1\tdog", "-1\t1\tdog", "x\t1\tdog", "1\t\tdog", "1\t2\t", "1\t2\ta;b"]
)
def test_a_row_that_is_no_event_is_named(tmp_path: Path, row: str) -> None:
    table = write(tmp_path, f"filename\tonset\toffset\tevent_label\nb.wav\t{row}\n")
    with pytest.raises(SourceError, match=r"b\.wav: the row with onset .* is no event"):
        scan(params(), table)


def test_a_kept_column_says_one_thing_of_a_recording(tmp_path: Path) -> None:
    table = write(tmp_path, TABLE.replace("rain\thall", "rain\tyard"))
    with pytest.raises(SourceError, match=r"The rows of b\.wav say hall, yard in the column 'room'"):
        scan(params(columns=["room"]), table)
    assert len(scan(params(), table)) == 3


def test_a_table_of_events_is_recognised(tmp_path: Path) -> None:
    summary = inspect_source(write(tmp_path))
    assert (summary.layout, summary.path_column, summary.n_files) == ("events", "filename", 3)
