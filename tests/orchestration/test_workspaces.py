import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import ParamsError
from audioml.orchestration.workspaces import VARIABLE, find_workspaces, name_workspaces


@pytest.mark.parametrize("separator", [os.pathsep, ",", " , "])
def test_folders_are_separated_as_in_path_or_by_commas(tmp_path, monkeypatch, separator):
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'a'}{separator}{tmp_path / 'b'}{separator}{tmp_path / 'a'}")
    assert find_workspaces() == [tmp_path / "a", tmp_path / "b"]


NAMES = st.text(st.characters(exclude_characters="/\0~", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True))
def test_a_list_takes_any_characters(tmp_path_factory, names):
    root = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, name_workspaces(root / name for name in names))
        assert find_workspaces() == [root / name for name in names]


@pytest.mark.parametrize("value", ["[1]", '["/a"', '[["/a"]]'])
def test_json_that_is_no_list_of_folders(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ParamsError, match="no JSON list of folders"):
        find_workspaces()


def test_without_the_variable_no_workspace_is_known(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ParamsError, match=VARIABLE):
        find_workspaces()
