"""A corpus of spoken sentences, made on the spot by espeak-ng.

Each clip is a short sentence of everyday words, put together by a small grammar and spoken by one voice, in noise and
some in a room; `datasets/_spoken.py` says where it comes from. There are millions of sentences, and few come twice.
Split it by `speaker`: each has two voices.
"""

from __future__ import annotations

import numpy as np

from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.datasets._spoken import SpokenTextParams, fetch, read, scan_texts, word_times

WORDS = {
    "person": (
        "my sister", "your brother", "the doctor", "our teacher", "the driver", "a student", "the farmer", "her mother",
        "his father", "the waiter", "their neighbour", "the singer", "an old man", "a young woman", "the children",
    ),
    "adjective": (
        "green", "yellow", "small", "heavy", "broken", "beautiful", "cheap", "wooden", "empty", "famous", "quiet",
        "warm", "dirty", "narrow", "strange",
    ),
    "thing": (
        "apple", "bottle", "window", "table", "picture", "garden", "jacket", "umbrella", "letter", "ticket", "basket",
        "guitar", "kitchen", "bicycle", "hammer", "flower", "mountain", "river", "blanket", "pencil",
    ),
    "does": (
        "bought", "found", "painted", "carried", "lost", "repaired", "watched", "remembered", "forgot", "wanted",
        "described", "cleaned", "sold", "borrowed", "photographed",
    ),
    "goes": ("walked", "travelled", "waited", "slept", "worked", "sang", "laughed", "arrived", "studied", "cooked"),
    "where": (
        "in the city", "near the station", "behind the house", "under the bridge", "at the market", "on the island",
        "beside the church", "across the street", "at school", "in the forest",
    ),
    "when": (
        "yesterday", "on monday", "last summer", "before breakfast", "after the concert", "at night", "every morning",
        "in december", "an hour ago", "twice a week",
    ),
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "twelve", "twenty"),
}  # fmt: skip
PATTERNS = (
    ("person", "does", "the", "adjective", "thing"),
    ("person", "does", "the", "thing", "where"),
    ("when", "person", "does", "the", "adjective", "thing"),
    ("person", "goes", "where", "when"),
    ("person", "does", "the", "adjective", "thing", "where"),
    ("there", "are", "number", "adjective", "thing:s", "where"),
    ("person", "goes", "when", "and", "person", "does", "the", "thing"),
    ("why", "is", "the", "thing", "so", "adjective"),
)
"""Words of the kinds above, or as they stand; ``:s`` makes a plural."""
MAKES_CLIPS = True
__all__ = ["MAKES_CLIPS", "Params", "fetch", "read", "scan", "word_times"]


class Params(SpokenTextParams):
    """Who speaks, and how noisy it is."""


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record for each voice and take, sorted by path.

    Raises
    ------
    SourceError
        When espeak-ng is not installed.
    ParamsError
        When it has no such voice, or a voice is listed twice.
    """
    return scan_texts(data, _write)


def _write(generator: np.random.Generator) -> str:
    words = []
    for place in PATTERNS[int(generator.integers(len(PATTERNS)))]:
        kind, _, plural = place.partition(":")
        words.append((str(generator.choice(WORDS[kind])) if kind in WORDS else kind) + plural)
    return " ".join(words)
