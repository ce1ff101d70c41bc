import json

import pandas as pd
import pytest

from audioml.datasets._source import Source
from audioml.datasets.table import Params, read, scan
from audioml.errors import ParamsError, SourceError


def params(**keys):
    return Params(layout="table", **keys)


@pytest.fixture
def frame(tmp_path):
    for name in ("b.wav", "a ö.wav"):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        (tmp_path / "wavs" / name).write_bytes(name.encode())
    return pd.DataFrame(
        {
            "path": ["wavs/b.wav", "wavs/a ö.wav", "wavs/gone.wav"],
            "label": ["x", "y", "x"],
            "age": [31, None, 40],
            "score": [0.5, 1.0, 2.25],
        }
    )


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in json.loads(frame.to_json(orient="records"))))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".json"])
def test_every_format_gives_the_same_records(frame, tmp_path, suffix):
    table = write(frame, tmp_path / f"table{suffix}")
    records = scan(params(), Source.of(table))
    assert [r.path for r in records] == ["wavs/a ö.wav", "wavs/b.wav", "wavs/gone.wav"]
    assert [r.columns for r in records] == [
        {"label": "y", "age": None, "score": 1.0},
        {"label": "x", "age": 31, "score": 0.5},
        {"label": "x", "age": 40, "score": 2.25},
    ]
    assert read(params(), Source.of(table), records[0]) == "a ö.wav".encode()
    assert records[2].problem is not None
    assert records[2].problem[0] == "missing"


def test_another_path_column_root_and_label(frame, tmp_path):
    (tmp_path / "meta").mkdir()
    frame = frame.rename(columns={"path": "file", "label": "kind"})
    table = Source.of(write(frame.iloc[:2], tmp_path / "meta" / "t.csv"))
    data = params(path_column="file", root="..", label="kind", columns=["age"])
    records = scan(data, table)
    assert records[1].columns == {"age": 31, "kind": "x", "label": "x"}
    assert read(data, table, records[1]) == b"b.wav"


def test_absolute_paths_below_the_root_become_relative(frame, tmp_path):
    frame["path"] = [str(tmp_path / name) for name in frame["path"]]
    assert scan(params(), Source.of(write(frame, tmp_path / "t.csv")))[0].path == "wavs/a ö.wav"


def test_rows_without_path_or_label(frame, tmp_path):
    frame.loc[0, "path"] = None
    frame.loc[1, "label"] = None
    problems = {r.path: r.problem for r in scan(params(), Source.of(write(frame, tmp_path / "t.csv")))}
    assert problems["(row 0)"][0] == "missing"
    assert problems["wavs/a ö.wav"][0] == "unlabelled"


def test_a_table_of_real_recordings(esc10_dir, tmp_path):
    data = params(path_column="file", label="class", pattern=r"^\d+ - (?P<class>[\w ]+)/(?P<fold>\d)")
    table = Source.of(esc10_dir / "credits.csv")
    records = scan(data, table)
    assert len(records) == 400
    assert not any(r.problem for r in records)
    assert records[0].columns["label"] == "Dog bark"
    assert read(data, table, records[0])[:4] == b"OggS"


@pytest.mark.parametrize(
    ("change", "keys", "error", "says"),
    [
        ({"label": "kind"}, {}, ParamsError, "no such column"),
        ({"path": "paht"}, {}, ParamsError, "Did you mean 'paht'"),
        ({"score": "duration_s"}, {}, ParamsError, r"data\.columns.*duration_s"),
        ({}, {"columns": ["agee"]}, ParamsError, "Did you mean 'age'"),
    ],
)
def test_wrong_columns(frame, tmp_path, change, keys, error, says):
    with pytest.raises(error, match=says):
        scan(params(**keys), Source.of(write(frame.rename(columns=change), tmp_path / "t.csv")))


def test_no_table(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        scan(params(), Source.of(tmp_path / "t.csv"))
    with pytest.raises(SourceError, match="is a folder"):
        scan(params(), Source.of(tmp_path))
    with pytest.raises(SourceError, match=r"needs data\.source"):
        scan(params(), None)
    (tmp_path / "t.xls").write_bytes(b"x")
    with pytest.raises(SourceError, match="no table that audioml reads"):
        scan(params(), Source.of(tmp_path / "t.xls"))
    (tmp_path / "t.parquet").write_bytes(b"x" * 100)
    with pytest.raises(SourceError, match="cannot be read"):
        scan(params(), Source.of(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_text("path,label\n")
    with pytest.raises(SourceError, match="no rows"):
        scan(params(), Source.of(tmp_path / "t.csv"))
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(SourceError, match="cannot be read"):
        scan(params(), Source.of(tmp_path / "e.csv"))
