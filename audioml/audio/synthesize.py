"""Speech from text by espeak-ng, through the package `espeakng_loader` (GPL-3.0, so an extra of audioml).

The library keeps state for the whole process that no call resets (the phase of the flutter, the noise generator,
echo), so the same text sounds different after other texts. Each call here loads the library afresh, under a lock,
and unloads it: 4 ms, and what comes out depends on the arguments alone.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

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
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_lock = threading.Lock()


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
    with _lock, _engine() as engine:
        engine.set_voice(voice)
        engine.set_prosody(rate_wpm, pitch)
        return engine.speak(text)


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


class _Engine:
    """The library, freshly loaded. One at a time: its state is global."""

    def __init__(self) -> None:
        loader = _loader()
        self._library = ctypes.CDLL(str(loader.get_library_path()))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = str(loader.get_data_path()).encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if rate != SAMPLE_RATE:
            raise SourceError(f"espeak-ng did not start with its data in {data.decode()} (it answered {rate}).")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._parts: list[npt.NDArray[np.int16]] = []
        # Kept as long as the library: ctypes frees a callback that nothing refers to.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
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

    def speak(self, text: str) -> npt.NDArray[np.int16]:
        self._parts.clear()
        data = text.encode()
        code = self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
        if code != 0:
            raise SourceError(f"espeak-ng could not speak {text!r} (it answered {code}).")
        return np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.int16)

    def phonemes(self, text: str) -> str:
        buffer = ctypes.c_char_p(text.encode())
        position = ctypes.cast(ctypes.pointer(buffer), ctypes.POINTER(ctypes.c_void_p))
        parts: list[str] = []
        while position.contents.value:
            part = self._library.espeak_TextToPhonemes(position, _CHARS_UTF8, _PHONEMES_IPA)
            parts.append(part.decode() if part else "")
        return " ".join(part for part in parts if part)
