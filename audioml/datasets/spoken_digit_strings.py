"""A corpus of spoken strings of digits, such as telephone numbers, made on the spot by espeak-ng.

Each clip is a string of digits, spoken as words by one voice, in noise and some in a room; `datasets/_spoken.py` says
where it comes from. Split it by `speaker`: each has two voices.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.datasets._spoken import SpokenTextParams, fetch, read, scan_texts, word_times

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

MAKES_CLIPS = True
__all__ = ["MAKES_CLIPS", "Params", "fetch", "read", "scan", "word_times"]


class Params(SpokenTextParams):
    """How long strings are, who speaks, and how noisy it is."""

    min_digits: Annotated[int, Field(ge=1)] = 3
    max_digits: Annotated[int, Field(le=50)] = 7

    @model_validator(mode="after")
    def _check_digits(self) -> Self:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits {self.min_digits} is above max_digits {self.max_digits}")
        return self


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record for each voice and take, sorted by path.

    Raises
    ------
    SourceError
        When espeak-ng is not installed.
    ParamsError
        When it has no such voice, or a voice is listed twice.
    """

    def write(generator: np.random.Generator) -> str:
        n = int(generator.integers(data.min_digits, data.max_digits, endpoint=True))
        return " ".join(generator.choice(DIGITS, n))

    return scan_texts(data, write)
