from __future__ import annotations

from audioml.tasks._texts import join_units, read_phonemes, split_units, split_words


def test_words_have_no_punctuation_and_one_form() -> None:
    assert split_words("Don’t stop – «Go!»  Cafe\u0301") == ("don’t", "stop", "go", "café")
    assert split_words("A b", lowercase=False) == ("A", "b")
    assert split_words(" ... ") == ()


def test_a_column_of_phonemes() -> None:
    assert read_phonemes("h ə l oʊ | w ɜː l d") == [("h", "ə", "l", "oʊ"), ("w", "ɜː", "l", "d")]
    assert read_phonemes(" | ") == []


def test_units_of_words_and_back() -> None:
    units = join_units([("a", "b"), ("c",)])
    assert units == ["a", "b", " ", "c"]
    assert split_units([" ", *units, " "]) == [("a", "b"), ("c",)]
    assert split_units([]) == []
