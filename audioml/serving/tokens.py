"""Access tokens of a server: a file with the hash of each, which servers read again when it changes.

A token is 32 random bytes, so one round of SHA-256 hides it: there is nothing to guess, as there would be in a
password.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from audioml.errors import ParamsError, did_you_mean
from audioml.store.files import read_json, write_json
from audioml.store.locks import hold_lock

FILE = "tokens.json"
"""In the workspace's folder of state."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TOKEN_BYTES = 32


def add_token(path: Path, name: str) -> str:
    """Add a token to the file and return it; it is nowhere else.

    Parameters
    ----------
    path
        Of the file; it is made where there is none.
    name
        Whose token it is.

    Raises
    ------
    ParamsError
        When there is a token of that name, or it is no name.
    """
    if not NAME.fullmatch(name):
        raise ParamsError(f"{name!r} is no name of a token. Use up to 64 letters, digits, '_', '-' and '.'.")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with hold_lock(path.with_suffix(".lock")):
        known = read_tokens(path)
        if name in known:
            raise ParamsError(f"There is a token of {name!r} already. Revoke it first: audioml tokens revoke {name}")
        _write(path, {**known, name: _hash(token)})
    return token


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of the file; servers refuse it from their next request on.

    Raises
    ------
    ParamsError
        When there is none of that name.
    """
    with hold_lock(path.with_suffix(".lock")):
        known = read_tokens(path)
        if name not in known:
            raise ParamsError(
                f"There is no token of {name!r}.{did_you_mean(name, known)} Tokens: {', '.join(known) or 'none'}."
            )
        _write(path, {other: digest for other, digest in known.items() if other != name})


def read_tokens(path: Path) -> dict[str, str]:
    """Return the hash of each token by name; nothing where there is no file.

    Raises
    ------
    ParamsError
        When the file is damaged.
    """
    try:
        tokens = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ParamsError(f"{path} is no list of tokens ({error}). Remove it and add the tokens anew.") from None
    if not isinstance(tokens, dict) or not all(isinstance(digest, str) for digest in tokens.values()):
        raise ParamsError(f"{path} is no list of tokens. Remove it and add the tokens anew.")
    return tokens


class Tokens:
    """Who may ask a server. As long as no token was ever added, everybody may.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, str(path)
        self._seen: object = None
        self._known: dict[str, str] | None = None

    def allow(self, token: str | None) -> bool:
        """Tell whether this token, None for none, opens the server. Takes the same time for every wrong one."""
        known = self._read()
        if known is None:
            return True
        digest = _hash(token or "")
        found = False
        for one in known.values():
            found |= hmac.compare_digest(one, digest)
        return found

    def _read(self) -> dict[str, str] | None:
        try:
            stat = os.stat(self._name)  # noqa: PTH116 - it is asked at every request, and pathlib takes as long again
        except FileNotFoundError:
            return None
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            # A file that is damaged opens for nobody.
            try:
                self._known = read_tokens(self._path)
            except ParamsError:
                self._known = {}
            self._seen = seen
        return self._known


def _write(path: Path, tokens: dict[str, str]) -> None:
    write_json(path, tokens)
    path.chmod(0o600)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
