"""What corpora of synthetic speech share: voices, what is drawn for a clip, and how speech, room and noise are mixed.

Speech is made by espeak-ng (https://github.com/espeak-ng/espeak-ng, GPL-3.0; its output carries no licence of its
own). A clip depends on the seed and on its own name only, so any part of a corpus can be made alone, in any order and
process. Split by `speaker`, or by `voice` where each speaker has one: those held out were never heard.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import Field, field_validator, model_validator
from scipy.signal import fftconvolve

from audioml.audio.noise import COLOURS, make_noise, scale_to_snr
from audioml.audio.resample import resample
from audioml.audio.rooms import SPEED_OF_SOUND, draw_room, room_response
from audioml.audio.synthesize import SAMPLE_RATE as SPOKEN_RATE
from audioml.audio.synthesize import Span, speak, text_to_phonemes, voice_variants
from audioml.datasets._record import Record, add_pattern_columns, set_labels
from audioml.datasets._source import Source
from audioml.errors import ParamsError, did_you_mean
from audioml.params import DataParams, Share
from audioml.phonemes import split_phonemes
from audioml.store.files import hash_json
from audioml.units import dbfs_to_amplitude, seconds_to_samples

ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")
SPEAKERS = (
    "Alicia", "Andrea", "Andy", "anika", "Annie", "announcer", "antonio", "AnxiousAndy", "aunty", "belinda",
    "boris", "david", "ed", "f1", "f2", "f3", "f4", "Gene2", "grandma", "ian", "iven", "iven2", "iven4", "Jacky",
    "john", "klatt2", "klatt3", "m2", "m4", "m7", "m8", "marcelo", "Marco", "Mario", "miguel", "norbert", "pablo",
    "pedro", "quincy", "RicishayMax", "RicishayMax3", "rob", "sandro", "shelby", "steph3", "Storm", "travis",
    "victor",
)  # fmt: skip
"""Variants of espeak-ng that sound different: the log spectra of `spoken_commands.WORDS`, without their level, differ
by more than 0.4 (RMS, natural logarithm) between any two. Whispers, robots and demons were left out."""
TWO_ACCENTS = tuple(
    f"{ACCENTS[(i + j) % len(ACCENTS)]}+{speaker}" for i, speaker in enumerate(SPEAKERS) for j in (0, 2)
)
"""96 voices: each speaker in two accents."""
VOICES = tuple(f"{ACCENTS[i % len(ACCENTS)]}+{speaker}" for i, speaker in enumerate(SPEAKERS))

RATE_WPM = (130, 220)
PITCH = (30, 70)
PEAK_DBFS = (-18.0, -1.0)
ACTIVE_DBFS = -45.0
"""Speech begins and ends where it first and last exceeds this, relative to its peak."""
PAUSE_S = 0.1
"""Beside a text, on each side in the mean; espeak-ng's own pauses come to it."""
LISTING_KEYS = {"voices", "takes", "label", "pattern", "partition", "storage_options"}
"""What changes which clips there are, but none of them."""
ROOMS = 64
ROOM_SIZE_M, ROOM_RT60_S = (3.0, 8.0), (0.1, 0.5)

Floats = npt.NDArray[np.float32]


class SpokenParams(DataParams):
    """Keys of every corpus of synthetic speech."""

    source: Literal[None] = None
    voices: Annotated[tuple[str, ...], Field(min_length=1)] = VOICES
    """espeak-ng voices: a language and perhaps a variant, such as ``en-us+f3``."""
    min_snr_db: float = 10.0
    max_snr_db: float = 30.0
    room_share: Share = 0.0
    """Share of clips that are heard in a room."""
    sample_rate: Annotated[int, Field(ge=8000, le=48000)] = 16000
    """In Hz."""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("partition")
    @classmethod
    def _refuse_partition(cls, partition: str | None) -> None:
        if partition is not None:
            raise ValueError("clips that are made on the spot lie in no folders; leave it out")

    @model_validator(mode="after")
    def _check_snr(self) -> Self:
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db} is above max_snr_db {self.max_snr_db}")
        return self


class SpokenTextParams(SpokenParams):
    """Keys of every corpus of spoken texts."""

    voices: Annotated[tuple[str, ...], Field(min_length=1)] = TWO_ACCENTS
    takes: Annotated[int, Field(ge=1)] = 20
    """Clips by each voice."""
    min_snr_db: float = 10.0
    max_snr_db: float = 40.0
    room_share: Share = 0.3
    """Share of clips that are heard in a room."""


@dataclass(frozen=True)
class Draw:
    """All that is random in a clip but the noise's samples, which come from `generator`."""

    rate_wpm: int
    pitch: int
    colour: str
    snr_db: float
    peak_dbfs: float
    position: float
    """Where speech begins, as a share of the room that it leaves."""
    room: int | None
    """The room that it is heard in; None for none."""
    generator: np.random.Generator


def draw(data: SpokenParams, path: str) -> Draw:
    """Return what is drawn for the clip of this name."""
    generator = np.random.default_rng([data.seed, int(hash_json(path)[:15], 16)])
    rate_wpm, pitch = (int(generator.integers(*bounds, endpoint=True)) for bounds in (RATE_WPM, PITCH))
    colour = str(generator.choice(list(COLOURS)))
    snr_db = float(generator.uniform(data.min_snr_db, data.max_snr_db))
    peak_dbfs, position = float(generator.uniform(*PEAK_DBFS)), float(generator.uniform())
    # Of a generator of its own, so that what else is drawn does not hang on `room_share`.
    of_room = np.random.default_rng([data.seed, int(hash_json([path, "room"])[:15], 16)])
    room = int(of_room.integers(ROOMS)) if of_room.uniform() < data.room_share else None
    return Draw(rate_wpm, pitch, colour, snr_db, peak_dbfs, position, room, generator)


def describe_voice(voice: str) -> dict[str, str]:
    """Return the columns of a voice: voice, speaker (its variant, or language where it has none), accent."""
    accent, _, variant = voice.partition("+")
    return {"voice": voice, "speaker": variant or accent, "accent": accent}


def check_voices(data: SpokenParams) -> None:
    """Check that espeak-ng has all voices.

    Raises
    ------
    SourceError
        When espeak-ng is not installed.
    ParamsError
        When it has no such variant, or a voice is listed twice.
    """
    variants = voice_variants()
    for voice in data.voices:
        variant = voice.partition("+")[2]
        if variant and variant not in variants:
            raise ParamsError(
                f"data.voices: espeak-ng has no variant {variant!r}.{did_you_mean(variant, variants)} "
                f"Variants: {', '.join(variants)}."
            )
    check_once("voices", data.voices)


def check_once(key: str, values: tuple[str, ...]) -> None:
    """Raise ParamsError when a value is listed twice under a key of `data`."""
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ParamsError(f"data.{key} lists {', '.join(twice)} more than once.")


def scan_texts(data: SpokenTextParams, write: Callable[[np.random.Generator], str]) -> list[Record]:
    """Return a record for each voice and take, sorted by path, with the text that is drawn for it.

    The columns are label (the text), voice, speaker, accent, noise and phonemes: espeak-ng's of each word as the
    accent says it, with ``|`` between words. Raises as `check_voices`.
    """
    check_voices(data)
    recipe = hash_json(data.model_dump(exclude=LISTING_KEYS))[:15]
    records = []
    for voice in data.voices:
        described = describe_voice(voice)
        for take in range(data.takes):
            path = f"{voice}/{take:04d}.wav"
            text = write(np.random.default_rng([data.seed, int(hash_json([path, "text"])[:15], 16)]))
            phonemes = " | ".join(" ".join(pronounce(word, described["accent"])) for word in text.split())
            columns = {"label": text, **described, "noise": draw(data, path).colour, "phonemes": phonemes}
            records.append(Record(path, 0, recipe, columns))
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


@cache
def pronounce(word: str, accent: str) -> tuple[str, ...]:
    """Return the phonemes of a word in IPA, without stress."""
    return split_phonemes(text_to_phonemes(word, accent))


def say_text(data: SpokenTextParams, record: Record) -> tuple[bytes, list[Span]]:
    """Return the clip of a text as mono 16-bit WAV, and when each of its words is heard in it, in seconds."""
    drawn = draw(data, record.path)
    speech = speak(str(record.columns["label"]), record.path.partition("/")[0], drawn.rate_wpm, drawn.pitch)
    duration_s = 2 * PAUSE_S + len(speech.samples) / SPOKEN_RATE
    audio, shift_s = place(speech.samples, drawn, data, duration_s)
    words = [Span(word, round(a + shift_s, 4), round(b + shift_s, 4)) for word, a, b in speech.words]
    return to_wav(audio, data.sample_rate), words


def read(data: SpokenTextParams, source: Source | None, record: Record) -> bytes:
    """Speak the text of one clip: mono 16-bit WAV."""
    return say_text(data, record)[0]


def fetch(data: SpokenTextParams, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Speak one clip to a file without a name, for the length of a ``with`` block."""
    return as_file(read(data, source, record))


def word_times(data: SpokenTextParams, record: Record) -> list[Span]:
    """Return when each word of a clip is heard, in seconds, as espeak-ng tells."""
    return say_text(data, record)[1]


def place(samples: npt.NDArray[np.int16], drawn: Draw, data: SpokenParams, duration_s: float) -> tuple[Floats, float]:
    """Return a clip with speech at its drawn place, in its room and noise, and where the samples begin in it.

    Parameters
    ----------
    samples
        As espeak-ng spoke them, ``(samples,)`` at its rate; silence around them is cut off.
    duration_s
        Of the clip; longer speech makes it longer.

    Returns
    -------
    float32 ``(samples,)`` at `data.sample_rate`
        The clip.
    float
        Seconds to add to a time in the samples given.
    """
    speech = samples.astype(np.float32) / np.float32(32768)
    loud = np.flatnonzero(np.abs(speech) > np.abs(speech).max() * dbfs_to_amplitude(ACTIVE_DBFS))
    speech = resample(speech[loud[0] : loud[-1] + 1], SPOKEN_RATE, data.sample_rate)
    n_samples = max(seconds_to_samples(duration_s, data.sample_rate), len(speech))
    start = int(drawn.position * (n_samples - len(speech)))
    noise = make_noise(n_samples, drawn.colour, drawn.generator)
    audio = scale_to_snr(noise, float(np.sqrt(np.mean(np.square(speech)))), drawn.snr_db)
    dry = np.zeros(n_samples, dtype=np.float32)
    dry[start : start + len(speech)] = speech
    audio += dry if drawn.room is None else _hear(dry, drawn.room, data.sample_rate)
    audio *= np.float32(dbfs_to_amplitude(drawn.peak_dbfs) / np.abs(audio).max())
    return audio, start / data.sample_rate - loud[0] / SPOKEN_RATE


def _hear(dry: Floats, room: int, sample_rate: int) -> Floats:
    """Return speech as it sounds in a room, no later and with as much energy."""
    wet = fftconvolve(dry, _response(room, sample_rate))[: len(dry)]
    return np.asarray(wet * np.sqrt(np.sum(dry**2) / max(float(np.sum(wet**2)), 1e-20)), np.float32)


@lru_cache(maxsize=ROOMS)
def _response(room: int, sample_rate: int) -> Floats:
    """Return the response of a room from its direct sound on."""
    drawn = draw_room(np.random.default_rng([7, room]), ROOM_SIZE_M, ROOM_RT60_S)
    response = room_response(drawn, sample_rate)
    return response[int(drawn.distance_m / SPEED_OF_SOUND * sample_rate) :]


def to_wav(audio: Floats, sample_rate: int) -> bytes:
    """Return mono 16-bit WAV."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.round(audio * 32767).astype(np.int16), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def as_file(data: bytes) -> Iterator[Path]:
    """Give the path of a file without a name, for the length of a ``with`` block."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")
