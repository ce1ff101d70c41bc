"""Texts as words, and words as units: characters, or phonemes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

SPACE = " "
"""The unit between words."""
WORD_MARK = "|"
"""Stands between words where a column holds phonemes; phonemes are separated by spaces."""
PUNCTUATION = '.,;:!?"()[]{}<>«»„“”…–—'
"""What no one hears."""

Words = tuple[str, ...]
Spelling = tuple[str, ...]
"""The units of one word."""


def split_words(text: str, *, lowercase: bool = True) -> Words:
    """Return the words of a text: composed Unicode (NFC), without punctuation."""
    text = unicodedata.normalize("NFC", text)
    text = text.lower() if lowercase else text
    return tuple(text.translate(str.maketrans(PUNCTUATION, SPACE * len(PUNCTUATION))).split())


def read_phonemes(text: str) -> list[Spelling]:
    """Return the phonemes of each word from a column: ``h ə l oʊ | w ɜː l d``."""
    return [tuple(word.split()) for word in text.split(WORD_MARK) if word.split()]


def join_units(spellings: Sequence[Spelling]) -> list[str]:
    """Return the units of a text: those of its words, with `SPACE` between."""
    units: list[str] = []
    for i, spelling in enumerate(spellings):
        units += [SPACE, *spelling] if i else spelling
    return units


def split_units(units: Sequence[str]) -> list[Spelling]:
    """Return the units of each word."""
    words: list[list[str]] = [[]]
    for unit in units:
        if unit == SPACE:
            words.append([])
        else:
            words[-1].append(unit)
    return [tuple(word) for word in words if word]
