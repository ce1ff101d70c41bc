"""Phonemes in the International Phonetic Alphabet."""

from __future__ import annotations

import unicodedata

STRESS = "ˈˌ'"


def split_phonemes(ipa: str) -> tuple[str, ...]:
    """Return the phonemes of a word in IPA, without stress: each letter with the marks that change it."""
    phonemes: list[str] = []
    for character in unicodedata.normalize("NFD", ipa):
        if character in STRESS or character.isspace() or character in "_-":
            continue
        if phonemes and (unicodedata.category(character) in ("Lm", "Mn", "Sk") or phonemes[-1].endswith("\u0361")):
            phonemes[-1] += character
        else:
            phonemes.append(character)
    return tuple(phonemes)
