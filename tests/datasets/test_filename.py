import pytest

from audioml.datasets._source import Source
from audioml.datasets.filename import Params, read, scan
from audioml.errors import ParamsError, SourceError

FSDD = r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)"


def params(**keys):
    return Params(layout="filename", **keys)


def test_the_digits(fsdd_dir):
    records = scan(params(pattern=FSDD), Source.of(fsdd_dir))
    assert len(records) == 3000
    assert records[0].columns == {"label": "0", "speaker": "george", "index": 0}
    assert [r.path for r in records] == sorted(r.path for r in records)
    assert read(params(pattern=FSDD), Source.of(fsdd_dir), records[5]) == (fsdd_dir / records[5].path).read_bytes()


def test_files_that_do_not_match(tmp_path):
    for name in ("1_a_1.wav", "odd.wav", "stranger.ogg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=r"does not match 2 of 3 files.*'odd.wav', 'stranger.ogg'"):
        scan(params(pattern=FSDD), Source.of(tmp_path))


def test_nothing_matches(tmp_path):
    (tmp_path / "odd.wav").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"matches none of 1 files.*'odd'"):
        scan(params(pattern=FSDD), Source.of(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ParamsError, match=r"data\.pattern"):
        scan(params(), Source.of(tmp_path))
    with pytest.raises(SourceError, match="holds no recordings"):
        scan(params(pattern=FSDD), Source.of(tmp_path))
    (tmp_path / "1_a_1.wav").write_bytes(b"x")
    with pytest.raises(ParamsError, match="no such column"):
        scan(params(pattern=r"(?P<speaker>\w)"), Source.of(tmp_path))
