import pytest

from audioml.datasets._inspect import inspect_source
from audioml.datasets._source import Source
from audioml.errors import SourceError


def test_class_folders(esc10_dir):
    summary = inspect_source(Source.of(esc10_dir))
    assert summary.layout == "folder"
    assert (summary.n_files, summary.n_probed, summary.n_unreadable) == (400, 400, 0)
    assert set(summary.labels.values()) == {40}
    assert summary.hours == pytest.approx(0.5565, abs=1e-3)
    assert (summary.sample_rate, summary.channels, summary.formats) == (44100, {1: 400}, {"OGG": 400})
    assert summary.duration_s == 5.0
    assert any("10 class folders" in line for line in summary.lines())


def test_labels_in_file_names(fsdd_dir):
    summary = inspect_source(Source.of(fsdd_dir))
    assert (summary.layout, summary.n_files, summary.labels) == ("filename", 3000, {})
    assert summary.sample_rate == 8000
    assert summary.hours == pytest.approx(0.3645, rel=0.05)
    assert 0.5 < summary.duration_s < 1.2


def test_a_table(esc10_dir):
    summary = inspect_source(Source.of(esc10_dir / "credits.csv"))
    assert (summary.layout, summary.path_column, summary.n_files) == ("table", "file", 400)
    assert "author" in summary.columns


def test_bad_files_are_counted(tmp_path, tone_wav):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.wav").write_bytes(tone_wav(440))
    (tmp_path / "a" / "empty.wav").write_bytes(b"")
    (tmp_path / "a" / "noise.mp3").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "a" / "gone.wav").symlink_to(tmp_path / "nothing")
    summary = inspect_source(Source.of(tmp_path))
    assert (summary.n_probed, summary.n_unreadable) == (4, 3)
    assert (summary.sample_rate, summary.duration_s) == (8000, 0.5)
    assert "3 of 4 files cannot be read" in summary.lines()[-1]


def test_nothing_readable(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"")
    summary = inspect_source(Source.of(tmp_path))
    assert (summary.sample_rate, summary.duration_s) == (16000, 1.0)
    assert summary.lines()


def test_errors(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        inspect_source(Source.of(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="holds no recordings"):
        inspect_source(Source.of(tmp_path))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"no column of paths.*a, b"):
        inspect_source(Source.of(tmp_path / "t.csv"))
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(SourceError, match="neither"):
        inspect_source(Source.of(tmp_path / "x.wav"))
