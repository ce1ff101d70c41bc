"""A corpus of spoken words made on the spot by espeak-ng: no download, any words, many voices.

Origin: synthesized by espeak-ng (https://github.com/espeak-ng/espeak-ng, GPL-3.0; its output carries no licence of
its own). Each clip is one word, spoken by one voice at a drawn rate and pitch, placed at a drawn point of the clip,
with coloured noise at a drawn signal-to-noise ratio. A clip depends on the seed and on its own name only, so any
part of the corpus can be made alone, in any order and process. Split it by `voice`: a voice has one variant of the
speaker to itself, so those held out were never heard.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import Field, field_validator, model_validator

from audioml.audio.noise import COLOURS, make_noise, scale_to_snr
from audioml.audio.resample import resample
from audioml.audio.synthesize import SAMPLE_RATE as SPOKEN_RATE
from audioml.audio.synthesize import synthesize, voice_variants
from audioml.datasets._record import Record, add_pattern_columns, set_labels
from audioml.datasets._source import Source
from audioml.errors import ParamsError, SourceError, did_you_mean
from audioml.params import DataParams
from audioml.store.files import hash_json
from audioml.units import dbfs_to_amplitude, seconds_to_samples

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")
SPEAKERS = (
    "Alicia", "Andrea", "Andy", "anika", "Annie", "announcer", "antonio", "AnxiousAndy", "aunty", "belinda",
    "boris", "david", "ed", "f1", "f2", "f3", "f4", "Gene2", "grandma", "ian", "iven", "iven2", "iven4", "Jacky",
    "john", "klatt2", "klatt3", "m2", "m4", "m7", "m8", "marcelo", "Marco", "Mario", "miguel", "norbert", "pablo",
    "pedro", "quincy", "RicishayMax", "RicishayMax3", "rob", "sandro", "shelby", "steph3", "Storm", "travis",
    "victor",
)  # fmt: skip
"""Variants of espeak-ng that sound different: the log spectra of `WORDS`, without their level, differ by more than
0.4 (RMS, natural logarithm) between any two. Whispers, robots and demons were left out."""
VOICES = tuple(f"{ACCENTS[i % len(ACCENTS)]}+{speaker}" for i, speaker in enumerate(SPEAKERS))

RATE_WPM = (130, 220)
PITCH = (30, 70)
PEAK_DBFS = (-18.0, -1.0)
ACTIVE_DBFS = -45.0
"""Speech begins and ends where it first and last exceeds this, relative to its peak."""


LISTING_KEYS = {"words", "voices", "takes", "label", "pattern", "partition", "storage_options"}
"""What changes which clips there are, but none of them."""


class Params(DataParams):
    """What is spoken, by whom, and how noisy it is."""

    source: Literal[None] = None
    words: Annotated[tuple[str, ...], Field(min_length=2)] = WORDS
    voices: Annotated[tuple[str, ...], Field(min_length=1)] = VOICES
    """espeak-ng voices: a language and perhaps a variant, such as ``en-us+f3``."""
    takes: Annotated[int, Field(ge=1)] = 5
    """Clips of each word by each voice."""
    min_snr_db: float = 10.0
    max_snr_db: float = 30.0
    duration_s: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Length of a clip in seconds; a word that takes longer makes its clip longer."""
    sample_rate: Annotated[int, Field(ge=8000, le=48000)] = 16000
    """In Hz."""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("partition")
    @classmethod
    def _refuse_partition(cls, partition: str | None) -> None:
        if partition is not None:
            raise ValueError("clips that are made on the spot lie in no folders; leave it out")

    @field_validator("words", mode="before")
    @classmethod
    def _check_words(cls, words: Any) -> Any:
        if isinstance(words, list) and any(isinstance(word, bool) for word in words):
            raise ValueError("YAML reads the words yes, no, on and off as true and false; put them in quotes")
        return words

    @model_validator(mode="after")
    def _check_snr(self) -> Params:
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db} is above max_snr_db {self.max_snr_db}")
        return self


@dataclass(frozen=True)
class _Draw:
    """All that is random in a clip but the noise's samples, which come from `generator`."""

    rate_wpm: int
    pitch: int
    colour: str
    snr_db: float
    peak_dbfs: float
    position: float
    """Where the word begins, as a share of the room that it leaves."""
    generator: np.random.Generator


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record for each word, voice and take, sorted by path.

    Raises
    ------
    SourceError
        When espeak-ng is not installed.
    ParamsError
        When it has no such voice, or a word or voice is listed twice.
    """
    _check(data)
    recipe = hash_json(data.model_dump(exclude=LISTING_KEYS))[:15]
    records = []
    for word in data.words:
        for voice in data.voices:
            for take in range(data.takes):
                path = f"{word.replace('/', '_')}/{voice}-{take:03d}.wav"
                columns = {
                    "label": word,
                    "voice": voice,
                    "accent": voice.partition("+")[0],
                    "noise": _draw(data, path).colour,
                }
                # There is no file whose version could tell a change; the recipe's hash does.
                records.append(Record(path, 0, recipe, columns))
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Speak one clip: mono 16-bit WAV."""
    folder, _, name = record.path.partition("/")
    word = {w.replace("/", "_"): w for w in data.words}[folder]
    draw = _draw(data, record.path)
    speech = synthesize(word, name.rpartition("-")[0], draw.rate_wpm, draw.pitch)
    audio = _mix(_trim(_to_float(speech, word), data.sample_rate), draw, data)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.round(audio * 32767).astype(np.int16), data.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def fetch(data: Params, source: Source | None, record: Record) -> Iterator[Path]:
    """Speak one clip to a file without a name, for the length of a ``with`` block."""
    with tempfile.TemporaryFile() as file:
        file.write(read(data, source, record))
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _check(data: Params) -> None:
    variants = voice_variants()
    for voice in data.voices:
        variant = voice.partition("+")[2]
        if variant and variant not in variants:
            raise ParamsError(
                f"data.voices: espeak-ng has no variant {variant!r}.{did_you_mean(variant, variants)} "
                f"Variants: {', '.join(variants)}."
            )
    for key, values in (("words", tuple(w.replace("/", "_") for w in data.words)), ("voices", data.voices)):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ParamsError(f"data.{key} lists {', '.join(twice)} more than once.")


def _draw(data: Params, path: str) -> _Draw:
    generator = np.random.default_rng([data.seed, int(hash_json(path)[:15], 16)])
    return _Draw(
        rate_wpm=int(generator.integers(*RATE_WPM, endpoint=True)),
        pitch=int(generator.integers(*PITCH, endpoint=True)),
        colour=str(generator.choice(list(COLOURS))),
        snr_db=float(generator.uniform(data.min_snr_db, data.max_snr_db)),
        peak_dbfs=float(generator.uniform(*PEAK_DBFS)),
        position=float(generator.uniform()),
        generator=generator,
    )


def _to_float(speech: npt.NDArray[np.int16], word: str) -> npt.NDArray[np.float32]:
    if not speech.any():
        raise SourceError(f"espeak-ng says nothing for the word {word!r}; take it out of data.words.")
    return speech.astype(np.float32) / np.float32(32768)


def _trim(speech: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float32]:
    loud = np.flatnonzero(np.abs(speech) > np.abs(speech).max() * dbfs_to_amplitude(ACTIVE_DBFS))
    return resample(speech[loud[0] : loud[-1] + 1], SPOKEN_RATE, sample_rate)


def _mix(speech: npt.NDArray[np.float32], draw: _Draw, data: Params) -> npt.NDArray[np.float32]:
    n_samples = max(seconds_to_samples(data.duration_s, data.sample_rate), len(speech))
    start = int(draw.position * (n_samples - len(speech)))
    noise = make_noise(n_samples, draw.colour, draw.generator)
    audio = scale_to_snr(noise, float(np.sqrt(np.mean(np.square(speech)))), draw.snr_db)
    audio[start : start + len(speech)] += speech
    return audio * np.float32(dbfs_to_amplitude(draw.peak_dbfs) / np.abs(audio).max())
