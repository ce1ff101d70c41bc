from datetime import UTC, datetime, timedelta

import pytest

from audioml.errors import ParamsError
from audioml.params import parse_params
from audioml.partitions import check_key, check_pattern, find_partition, is_dated, matches, partition_of, period_of


@pytest.mark.parametrize(
    "pattern", ["%Y-%m-%d", "%Y/%m/%d", "%Y/%m/%d/%H", "day=%Y%m%d", "%Y-%j", "*", "release-*", "*/*"]
)
def test_patterns_that_are_allowed(pattern):
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/%Y", "visible folders"),
        ("%Y/", "visible folders"),
        ("../%Y", "visible folders"),
        (".%Y", "visible folders"),
        ("", "visible folders"),
        ("%Y-%b", "'%b' is no directive"),
        ("%Y%", "'%' is no directive"),
        ("100%%", "'%%' is no directive"),
        ("days", "either directives"),
        ("*/%Y", "either directives"),
        ("%m-%d", "needs its year"),
    ],
)
def test_patterns_that_are_not(pattern, said):
    with pytest.raises(ValueError, match=said):
        check_pattern(pattern)


def test_params_name_the_key_and_layouts_without_folders_refuse_it(minimal_params):
    data = minimal_params["data"]
    with pytest.raises(ParamsError, match=r"'data.partition' is 'days', but: write either"):
        parse_params({**minimal_params, "data": {**data, "partition": "days"}})
    table = parse_params({**minimal_params, "data": {**data, "layout": "table", "partition": "%Y"}})
    with pytest.raises(ParamsError, match=r"'data.partition' is '%Y', but: a table has no folders"):
        table.data_section()
    spoken = parse_params({**minimal_params, "data": {"layout": "spoken_commands", "partition": "*"}})
    with pytest.raises(ParamsError, match=r"'data.partition' .*lie in no folders"):
        spoken.data_section()


@pytest.mark.parametrize(
    ("pattern", "path", "key"),
    [
        ("%Y-%m-%d", "2026-01-31/dog/1.wav", "2026-01-31"),
        ("%Y/%m/%d", "2026/01/31/1.wav", "2026/01/31"),
        ("%Y-%m-%d", "2026-1-31/1.wav", None),
        ("%Y-%m-%d", "2026-02-30/1.wav", None),
        ("%Y-%m-%d", "latest/1.wav", None),
        ("%Y-%m-%d", "2026-01-31", None),
        ("%Y/%m/%d", "2026/01/1.wav", None),
        ("*", "v1/1.wav", "v1"),
        ("*", "1.wav", None),
        ("release-*", "v1/1.wav", None),
        ("release-*", "release-2/a/1.wav", "release-2"),
        ("*/*", "ann/monday/1.wav", "ann/monday"),
    ],
)
def test_the_partition_of_a_path(pattern, path, key):
    assert find_partition(pattern, path) == key


@pytest.mark.parametrize("key", ["2026-1-31", "2026-01-31/", "../2026-01-31", "2026-01-31/..", "x", ""])
def test_keys_that_are_no_dates(key):
    with pytest.raises(ParamsError, match=r"is no partition: data.partition is '%Y-%m-%d'.*'2026-01-31'"):
        check_key("%Y-%m-%d", key)


@pytest.mark.parametrize("key", ["..", ".hidden", "a/b", "", "a/"])
def test_keys_that_are_no_names(key):
    assert not matches("*", key)


def test_a_key_without_partitions():
    with pytest.raises(ParamsError, match=r"data\.partition is not set"):
        check_key(None, "2026-01-31")


def test_dates_make_keys():
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    assert partition_of("%Y/%m/%d", moment) == "2026/01/31"
    assert is_dated("%Y")
    assert not is_dated("*")
    assert not is_dated(None)


@pytest.mark.parametrize(
    ("pattern", "period"),
    [
        ("%Y-%m-%d", timedelta(hours=25)),
        ("%Y-%j", timedelta(hours=25)),
        ("%Y/%m", timedelta(days=31, hours=1)),
        ("%Y/%m/%d/%H", timedelta(hours=1)),
        ("%Y", timedelta(days=366)),
    ],
)
def test_the_longest_time_of_a_folder(pattern, period):
    assert period_of(pattern) == period
