"""Silence what libraries remark on, for as long as a block runs; their errors stay."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def quiet(loggers: Sequence[str], warning_patterns: Sequence[str]) -> Iterator[None]:
    """Raise the level of these loggers to ERROR, and ignore warnings whose text matches one of the patterns."""
    named = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in named]
    with warnings.catch_warnings():
        for pattern in warning_patterns:
            warnings.filterwarnings("ignore", pattern)
        for logger in named:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(named, before, strict=True):
                logger.setLevel(level)
