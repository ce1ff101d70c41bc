import pytest

from audioml.datasets._record import Record, add_pattern_columns, match_pattern, set_labels, strip_extension
from audioml.errors import ParamsError, SourceError
from audioml.params import DataParams


@pytest.mark.parametrize(
    ("path", "stripped"),
    [
        ("a/b.wav", "a/b"),
        ("a.b/c", "a.b/c"),
        ("x.mp3", "x"),
        ("take1.5", "take1.5"),
        ("a/1.2_b.flac", "a/1.2_b"),
        ("no_extension", "no_extension"),
    ],
)
def test_extensions(path, stripped):
    assert strip_extension(path) == stripped


def test_groups_become_columns_and_whole_numbers_int():
    found = match_pattern(["7_ann_03.wav", "8_bo_12.wav"], r"(?P<label>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)")
    assert found == [{"label": 7, "speaker": "ann", "take": 3}, {"label": 8, "speaker": "bo", "take": 12}]


def test_a_column_of_numbers_and_words_stays_text():
    assert match_pattern(["1.wav", "x.wav"], r"(?P<id>\w+)") == [{"id": "1"}, {"id": "x"}]


def test_a_group_that_takes_no_part_is_a_gap():
    assert match_pattern(["a-1.wav", "b.wav"], r"^(?P<name>\w)(-(?P<n>\d))?$") == [
        {"name": "a", "n": 1},
        {"name": "b", "n": None},
    ]


def test_huge_numbers_stay_text():
    assert match_pattern(["12345678901234567890123.wav"], r"(?P<id>\d+)") == [{"id": "12345678901234567890123"}]


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("(?P<label>[", ParamsError, "not a regular expression"),
        (r"\d+", ParamsError, "names no group"),
        (r"(?P<duration_s>\d+)", ParamsError, "duration_s.*taken are"),
        (r"(?P<label>zebra)", SourceError, "none of 2 files.*'a/one'"),
    ],
)
def test_bad_patterns(pattern, error, says):
    with pytest.raises(error, match=says):
        match_pattern(["a/one.wav", "a/two.wav"], pattern)


def test_a_group_must_not_hide_a_column_of_the_layout():
    with pytest.raises(ParamsError, match="label"):
        add_pattern_columns([Record("a/1.wav", 1, 1, {"label": "a"})], r"(?P<label>\d)")


def test_labels_are_strings_and_their_column_stays():
    data = DataParams(layout="filename", label="digit")
    (record,) = set_labels([Record("7.wav", 1, 1, {"digit": 7})], data)
    assert record.columns == {"digit": 7, "label": "7"}


def test_a_label_that_is_missing():
    data = DataParams(layout="filename", label="digit")
    records = set_labels([Record("7.wav", 1, 1, {"digit": 7}), Record("x.wav", 1, 1, {"digit": None})], data)
    assert records[1].problem is not None
    assert records[1].problem[0] == "unlabelled"
    with pytest.raises(ParamsError, match=r"no such column.*It has: speaker"):
        set_labels([Record("7.wav", 1, 1, {"speaker": 7})], data)
