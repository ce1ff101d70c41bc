"""One live stream: its utterances, answers to each while it lasts, and the last one when it has ended. No torch.

A model that can answer streams (`audioml.inference.streaming`) hears an utterance part by part. Any other is asked anew
about all that was heard of the utterance. The last answer is either way that of `Predictor.predict` on a file of the
utterance's samples: the same for a model that is asked anew; within 1e-4 of the network's outputs for one that hears
parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from audioml.audio.decode import check_rate
from audioml.audio.stream import HeldAudio
from audioml.errors import DecodeError
from audioml.inference.activity import EndPointer, EndPointing
from audioml.inference.utterance import Model, Utterance, open_utterance
from audioml.units import samples_to_seconds, seconds_to_samples

FIRST_PARTIAL_S = 0.08
"""Of activity, before which there is no answer; `min_active_s` if that is more: what was answered has a last answer."""


@dataclass(frozen=True)
class Partial:
    """What an utterance seems to be so far."""

    utterance: int
    """Counted from 1."""
    start_s: float
    """Where it starts in the stream."""
    heard_s: float
    """How much of it was heard."""
    prediction: dict[str, Any]


@dataclass(frozen=True)
class Final:
    """What an utterance was."""

    utterance: int
    start_s: float
    end_s: float
    """Where it ends in the stream."""
    prediction: dict[str, Any]
    """As of a file of the samples from `start_s` to `end_s`."""
    model: Model
    """What answered."""


Event = Partial | Final
Work = Callable[[], Event | None]
"""What takes a model's time."""


def do_work(work: Sequence[Work]) -> list[Event]:
    """Do it in order, and return the events that it brings."""
    return [event for do in work if (event := do()) is not None]


class Listener:
    """Hears one stream. Holds no more of it than one utterance, and `EndPointing.pad_s` of silence.

    Parameters
    ----------
    current
        Asked at the start of each utterance for the model that answers it.
    sample_rate
        Of the samples that are pushed, in Hz.
    end_pointing
        How utterances are found.
    whole
        The whole stream is one utterance, as long as it is not longer than `max_utterance_s`.

    Raises
    ------
    DecodeError
        When no audio has such a rate.
    """

    def __init__(
        self,
        current: Callable[[], Model],
        sample_rate: int,
        end_pointing: EndPointing | None = None,
        *,
        whole: bool = False,
    ) -> None:
        check_rate(sample_rate)
        params = end_pointing or EndPointing()
        self._current, self._rate, self._whole = current, sample_rate, whole
        self._max = seconds_to_samples(params.max_utterance_s, sample_rate)
        self._first = seconds_to_samples(max(FIRST_PARTIAL_S, params.min_active_s), sample_rate)
        self._end_pointer = EndPointer(params, sample_rate)
        self._held = HeldAudio()
        self._n_samples = 0
        self._n_answered = 0
        """Utterances of which something was said."""
        self._open: Utterance | None = None

    @property
    def heard_s(self) -> float:
        """Seconds of the stream that were pushed."""
        return samples_to_seconds(self._n_samples, self._rate)

    def listen(self, samples: ArrayLike) -> list[Work]:
        """Take note of the next samples and return what a model has to do now: quick itself, and most often nothing.

        The work, done in this order, perhaps in another thread, gives what `push` returns. Work that waits is not done
        twice: where later work of an utterance answers for it, it gives None.

        Parameters
        ----------
        samples
            float32 (samples,), mono, in [-1, 1], of any number.

        Raises
        ------
        DecodeError
            When a sample is NaN or infinite, or the whole stream is one utterance and too long. The stream is of no use
            then.
        ValueError
            When they have not one dimension.
        """
        audio = np.asarray(samples, np.float32)
        if audio.ndim != 1:
            raise ValueError(f"samples must be mono, (samples,), but have shape {audio.shape}")
        if not np.isfinite(audio).all():
            raise DecodeError("not_finite", "a sample of the stream is NaN or infinite")
        self._n_samples += len(audio)
        self._held.append(audio[np.newaxis])
        ended = self._end_pointer.feed(audio)
        if self._whole:
            return self._hear_whole()
        work = [self._end(start, stop) for start, stop in ended]
        runs = self._end_pointer.runs
        if runs.is_open:
            work += self._hear(runs.keep_from, min(runs.certain_until, self._n_samples))
        else:
            self._open = None
        self._held.drop(runs.keep_from)
        return work

    def listen_end(self) -> list[Work]:
        """Take note that no sample comes any more; return as `listen`, and raise as `finish`."""
        if self._whole and not self._n_samples:
            raise DecodeError("empty", "the stream ended before its first sample")
        if self._whole:
            return [self._end(0, self._n_samples)]
        return [self._end(start, stop) for start, stop in self._end_pointer.finish()]

    def push(self, samples: ArrayLike) -> list[Event]:
        """Hear the next samples and return what they bring: partial answers, final answers, or nothing.

        Takes what `listen` does and raises the same, and DecodeError when samples are too large for features.
        """
        return do_work(self.listen(samples))

    def finish(self) -> list[Event]:
        """Return the answers that are left when no sample comes any more.

        Raises
        ------
        DecodeError
            When the whole stream is one utterance, and it has no sample.
        """
        return do_work(self.listen_end())

    def _hear_whole(self) -> list[Work]:
        if self._n_samples > self._max:
            limit_s = samples_to_seconds(self._max, self._rate)
            raise DecodeError("too_long", f"the stream is one utterance, and these have {limit_s:g} s at most")
        return self._hear(0, self._n_samples)

    def _hear(self, start: int, stop: int) -> list[Work]:
        """Let the open utterance hear all up to `stop`."""
        utterance = self._open_at(start)
        return [partial(self._ask, utterance)] if utterance.hear(self._held, stop, self._count_active()) else []

    def _end(self, start: int, stop: int) -> Work:
        utterance, self._open = self._open_at(start), None
        utterance.end(self._held, stop)
        return partial(self._finish, utterance, stop)

    def _ask(self, utterance: Utterance) -> Partial | None:
        heard = utterance.ask()
        if heard is None:
            return None
        start_s, heard_s = self._seconds(utterance.start), self._seconds(heard.n_samples)
        return Partial(self._number(utterance), start_s, heard_s, heard.prediction)

    def _finish(self, utterance: Utterance, stop: int) -> Final:
        prediction = utterance.finish()
        start_s, end_s = self._seconds(utterance.start), self._seconds(stop)
        return Final(self._number(utterance), start_s, end_s, prediction, utterance.model)

    def _count_active(self) -> int:
        """Return the samples from the utterance's first activity to its last; 0 while that is too little."""
        if not self._end_pointer.runs.is_open:
            return 0
        start, stop = self._end_pointer.runs.active
        if stop - start < self._first:
            return 0
        return stop if self._whole else stop - start

    def _open_at(self, start: int) -> Utterance:
        """Return the open utterance if it starts there, or else a new one: what was open was dropped as too short."""
        if self._open is None or self._open.start != start:
            self._open = open_utterance(self._current(), start, self._rate)
        return self._open

    def _number(self, utterance: Utterance) -> int:
        if not utterance.number:
            self._n_answered += 1
            utterance.number = self._n_answered
        return utterance.number

    def _seconds(self, sample: int) -> float:
        return round(samples_to_seconds(sample, self._rate), 6)
