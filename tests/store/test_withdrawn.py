from __future__ import annotations

from pathlib import Path

import pytest

from audioml.errors import StoreError
from audioml.store.withdrawn import Withdrawal, Withdrawn, read_withdrawn, write_withdrawn

ENTRY = Withdrawal("a/ü.wav", "f" * 64, ("1" * 64, "2" * 64), "2026-11-22T10:00:00+00:00", "ann", "consent withdrawn")


def test_there_is_none_at_first_and_it_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "withdrawn.json"
    assert not read_withdrawn(path)
    write_withdrawn(path, Withdrawn((ENTRY,)))
    found = read_withdrawn(path)
    assert found.entries == (ENTRY,)
    assert set(found.by_id) == {"f" * 64, "1" * 64, "2" * 64}
    assert found.by_id["1" * 64].describe() == "withdrawn by ann on 2026-11-22: consent withdrawn"


def test_what_is_withdrawn_stays_as_it_was_said_first() -> None:
    again = Withdrawal("b.wav", "f" * 64, ("1" * 64,), "2027-01-01T00:00:00+00:00", "bob", "again")
    cut_otherwise = Withdrawal("a/ü.wav", "f" * 64, ("3" * 64,), "2027-01-01T00:00:00+00:00", "bob", "again")
    withdrawn = Withdrawn((ENTRY,))
    assert withdrawn.add([again]).entries == (ENTRY,)
    assert withdrawn.add([cut_otherwise]).entries == (ENTRY, cut_otherwise)


def test_a_damaged_list_stops_ingest_rather_than_letting_all_in(tmp_path: Path) -> None:
    path = tmp_path / "withdrawn.json"
    for text in ("{", "[]", '{"recordings": [{"path": "a"}]}', '{"recordings": [{"clips": 3}]}'):
        path.write_text(text)
        with pytest.raises(StoreError, match=r"git checkout -- withdrawn\.json"):
            read_withdrawn(path)
