from __future__ import annotations

from pathlib import Path

import pytest

from audioml.errors import ParamsError
from audioml.serving.tokens import Tokens, add_token, read_tokens, revoke_token


def test_tokens_open_until_they_are_revoked(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = Tokens(path)
    assert tokens.allow(None)
    assert tokens.allow("anything")
    ann, ben = add_token(path, "ann"), add_token(path, "ben")
    assert [tokens.allow(token) for token in (ann, ben, None, "", ann + "x", "é\udcff")] == [True, True] + [False] * 4
    revoke_token(path, "ann")
    assert (tokens.allow(ann), tokens.allow(ben), list(read_tokens(path))) == (False, True, ["ben"])


def test_file_holds_no_token_and_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "ann")
    assert token not in path.read_text()
    assert len(token) >= 43
    assert path.stat().st_mode & 0o077 == 0


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    add_token(path, "dashboard")
    with pytest.raises(ParamsError, match=r"already\. Revoke it first: audioml tokens revoke dashboard"):
        add_token(path, "dashboard")
    with pytest.raises(ParamsError, match="is no name"):
        add_token(path, "a b")
    with pytest.raises(ParamsError, match=r"no token of 'dashbord'.*Did you mean 'dashboard'"):
        revoke_token(path, "dashbord")


@pytest.mark.parametrize("content", ["{", "[]", '{"ann": 1}'])
def test_damaged_file_opens_for_nobody(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    assert not Tokens(path).allow("anything")
    with pytest.raises(ParamsError, match="no list of tokens"):
        add_token(path, "ann")
