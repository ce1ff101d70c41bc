"""Speech from text by espeak-ng, through the package `espeakng_loader` (GPL-3.0, so an extra of audioml).

The library keeps state for the whole process that no call resets (the phase of the flutter, the noise generator,
echo), so the same text sounds different after other texts. Each call here loads the library afresh, under a lock,
and unloads it: 4 ms, and what comes out depends on the arguments alone.
"""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from audioml.errors import SourceError

SAMPLE_RATE = 22050
"""Of what espeak-ng speaks, in Hz."""

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARS_UTF8 = 1
_PHONEMES_IPA = 2
_EVENTS_OF_PHONEMES_IN_IPA = 3
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_lock = threading.Lock()


class Span(NamedTuple):
    """A word or phoneme, and when it is heard, in seconds."""

    name: str
    onset_s: float
    offset_s: float


@dataclass(frozen=True, eq=False)
class Speech:
    """What was said, and when."""

    samples: npt.NDArray[np.int16]
    """``(samples,)`` at `SAMPLE_RATE`."""
    words: list[Span]
    """The words of the text, without what stands around their letters. espeak-ng says some short words as one (of
    the); such share their time by their letters."""
    phonemes: list[Span]
    """In IPA, with stress marks; pauses are left out. One that melts into the one before takes no time."""


def synthesize(text: str, voice: str = "en-us", rate_wpm: int = 175, pitch: int = 50) -> npt.NDArray[np.int16]:
    """Speak a text.

    Parameters
    ----------
    text
        What to say.
    voice
        A language and perhaps a variant, such as ``en-us+f3``.
    rate_wpm
        Words a minute, 80 to 450.
    pitch
        0 (low) to 99 (high); 50 is the voice's own.

    Returns
    -------
    int16 ``(samples,)`` at `SAMPLE_RATE`.

    Raises
    ------
    SourceError
        When espeak-ng is not installed, or has no such voice.
    """
    return speak(text, voice, rate_wpm, pitch).samples


def speak(text: str, voice: str = "en-us", rate_wpm: int = 175, pitch: int = 50) -> Speech:
    """Speak a text, and say when each word and phoneme is heard. As `synthesize`, which see."""
    with _lock, _engine() as engine:
        engine.set_voice(voice)
        engine.set_prosody(rate_wpm, pitch)
        samples, events = engine.speak(text)
    return Speech(samples, _find_words(text, events, len(samples)), _find_phonemes(events, len(samples)))


def _find_phonemes(events: Sequence[_Heard], n_samples: int) -> list[Span]:
    heard = [event for event in events if event.is_phoneme]
    stops = [*(event.sample for event in heard[1:]), n_samples]
    return [
        Span(event.name, event.sample / SAMPLE_RATE, stop / SAMPLE_RATE)
        for event, stop in zip(heard, stops, strict=True)
        if event.name
    ]


def _find_words(text: str, events: Sequence[_Heard], n_samples: int) -> list[Span]:
    """Return the words of the text; those that espeak-ng tells as one share the time from its start to the next."""
    told = [event for event in events if not event.is_phoneme]
    phonemes = _find_phonemes(events, n_samples)
    letters = list(re.finditer(r"[^\W_]+(?:['’-][^\W_]+)*", text))
    words = []
    for i, event in enumerate(told):
        after = told[i + 1] if i + 1 < len(told) else None
        # Behind the last phoneme before the next word there may be a pause.
        until = n_samples / SAMPLE_RATE if after is None else after.sample / SAMPLE_RATE
        inside = [p for p in phonemes if event.sample / SAMPLE_RATE <= p.onset_s < until]
        if not inside:
            continue
        stop = len(text) + 1 if after is None else after.place
        start = event.place if i else 1
        own = [found.group() for found in letters if start <= found.start() + 1 < stop]
        onset_s, offset_s = inside[0].onset_s, inside[-1].offset_s
        shares = np.cumsum([0, *map(len, own)]) / max(1, sum(map(len, own)))
        times = onset_s + (offset_s - onset_s) * shares
        words += [Span(word, float(times[j]), float(times[j + 1])) for j, word in enumerate(own)]
    return words


def text_to_phonemes(text: str, voice: str = "en-us") -> str:
    """Return a text's phonemes in the International Phonetic Alphabet, with stress marks."""
    with _lock, _engine() as engine:
        engine.set_voice(voice)
        return engine.phonemes(text)


def voice_variants() -> list[str]:
    """Return the names of the variants that can follow a language after a plus sign, sorted."""
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError:
        raise SourceError(
            'Speech is made by espeak-ng, which is not installed. Install it with: pip install "audioml[demo]"'
        ) from None
    return espeakng_loader  # type: ignore[no-any-return]


@contextmanager
def _engine() -> Iterator[_Engine]:
    engine = _Engine()
    try:
        yield engine
    finally:
        engine.close()


class _Heard(NamedTuple):
    """An event of espeak-ng."""

    is_phoneme: bool
    """It is the start of a word otherwise."""
    sample: int
    place: int
    """Of the word in the text, from 1, in characters."""
    name: str


class _Engine:
    """The library, freshly loaded. One at a time: its state is global."""

    def __init__(self) -> None:
        loader = _loader()
        self._library = ctypes.CDLL(str(loader.get_library_path()))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = str(loader.get_data_path()).encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _EVENTS_OF_PHONEMES_IN_IPA)
        if rate != SAMPLE_RATE:
            raise SourceError(f"espeak-ng did not start with its data in {data.decode()} (it answered {rate}).")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._parts: list[npt.NDArray[np.int16]] = []
        self._events: list[_Heard] = []
        # Kept as long as the library: ctypes frees a callback that nothing refers to.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        for event in itertools.takewhile(
            lambda event: event.type != _END_OF_LIST, map(events.__getitem__, itertools.count())
        ):
            if event.type in (_WORD, _PHONEME):
                is_phoneme = event.type == _PHONEME
                name = event.name.decode(errors="ignore") if is_phoneme else ""
                self._events.append(_Heard(is_phoneme, event.sample, event.text_position, name))
        return 0

    def set_voice(self, voice: str) -> None:
        _, _, variant = voice.partition("+")
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0 or (variant and variant not in voice_variants()):
            raise SourceError(
                f"espeak-ng has no voice {voice!r}; a voice is a language and perhaps a variant, such as en-us+f3."
            )

    def set_prosody(self, rate_wpm: int, pitch: int) -> None:
        for parameter, value in ((_RATE, rate_wpm), (_VOLUME, 100), (_PITCH, pitch), (_RANGE, 50)):
            self._library.espeak_SetParameter(parameter, int(value), 0)

    def speak(self, text: str) -> tuple[npt.NDArray[np.int16], list[_Heard]]:
        data = text.encode()
        code = self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
        if code != 0:
            raise SourceError(f"espeak-ng could not speak {text!r} (it answered {code}).")
        return np.concatenate([np.zeros(0, dtype=np.int16), *self._parts]), self._events

    def phonemes(self, text: str) -> str:
        buffer = ctypes.c_char_p(text.encode())
        position = ctypes.cast(ctypes.pointer(buffer), ctypes.POINTER(ctypes.c_void_p))
        parts: list[str] = []
        while position.contents.value:
            part = self._library.espeak_TextToPhonemes(position, _CHARS_UTF8, _PHONEMES_IPA)
            parts.append(part.decode() if part else "")
        return " ".join(part for part in parts if part)
