"""A corpus of spoken words made on the spot by espeak-ng: no download, any words, many voices.

Each clip is one word, spoken by one voice at a drawn rate and pitch, placed at a drawn point of the clip, with
coloured noise at a drawn signal-to-noise ratio; `datasets/_spoken.py` says where it comes from. Split it by `voice`: a
voice has one variant of the speaker to itself, so those held out were never heard.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from audioml.audio.synthesize import synthesize
from audioml.datasets._record import Record, add_pattern_columns, set_labels
from audioml.datasets._source import Source
from audioml.datasets._spoken import (
    LISTING_KEYS,
    SpokenParams,
    as_file,
    check_once,
    check_voices,
    describe_voice,
    draw,
    place,
    to_wav,
)
from audioml.errors import SourceError
from audioml.store.files import hash_json

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

MAKES_CLIPS = True


class Params(SpokenParams):
    """What is spoken, by whom, and how noisy it is."""

    words: Annotated[tuple[str, ...], Field(min_length=2)] = WORDS
    takes: Annotated[int, Field(ge=1)] = 5
    """Clips of each word by each voice."""
    duration_s: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Length of a clip in seconds; a word that takes longer makes its clip longer."""

    @field_validator("words", mode="before")
    @classmethod
    def _check_words(cls, words: Any) -> Any:
        if isinstance(words, list) and any(isinstance(word, bool) for word in words):
            raise ValueError("YAML reads the words yes, no, on and off as true and false; put them in quotes")
        return words


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record for each word, voice and take, sorted by path.

    Raises
    ------
    SourceError
        When espeak-ng is not installed.
    ParamsError
        When it has no such voice, or a word or voice is listed twice.
    """
    check_voices(data)
    check_once("words", tuple(word.replace("/", "_") for word in data.words))
    recipe = hash_json(data.model_dump(exclude={*LISTING_KEYS, "words"}))[:15]
    records = []
    for word in data.words:
        for voice in data.voices:
            for take in range(data.takes):
                path = f"{word.replace('/', '_')}/{voice}-{take:03d}.wav"
                columns = {"label": word, **describe_voice(voice), "noise": draw(data, path).colour}
                # There is no file whose version could tell a change; the recipe's hash does.
                records.append(Record(path, 0, recipe, columns))
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Speak one clip: mono 16-bit WAV."""
    folder, _, name = record.path.partition("/")
    word = {w.replace("/", "_"): w for w in data.words}[folder]
    drawn = draw(data, record.path)
    speech = synthesize(word, name.rpartition("-")[0], drawn.rate_wpm, drawn.pitch)
    if not speech.any():
        raise SourceError(f"espeak-ng says nothing for the word {word!r}; take it out of data.words.")
    audio, _ = place(speech, drawn, data, data.duration_s)
    return to_wav(audio, data.sample_rate)


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Speak one clip to a file without a name, for the length of a ``with`` block."""
    return as_file(read(data, source, record))
