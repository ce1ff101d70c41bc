"""One live stream: its utterances, answers to each while it lasts, and the last one when it has ended. No torch.

A model that can answer streams (`audioml.inference.streaming`) hears an utterance part by part. Any other is asked anew
about all that was heard of the utterance. The last answer is either way that of `Predictor.predict` on a file of the
utterance's samples: the same for a model that is asked anew; within 1e-4 of the network's outputs for one that hears
parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioml.audio.decode import check_rate
from audioml.audio.stream import HeldAudio
from audioml.errors import DecodeError
from audioml.inference.activity import EndPointer, EndPointing
from audioml.inference.streaming import Stream, StreamingPredictor
from audioml.units import samples_to_seconds, seconds_to_samples

Floats = NDArray[np.float32]

FIRST_PARTIAL_S = 0.1
"""Of activity, before which there is no answer; `min_active_s` if that is more: what was answered has a last answer."""
PARTIAL_INTERVAL_S = 0.2
"""Of activity, between the answers of a model that is asked anew."""
PARTIAL_SHARE = 0.1
"""In long utterances this share of the activity is between them, so that all together cost as much as a fixed number of
answers on the whole."""


class AudioPredictor(Protocol):
    """What answers audio: `audioml.inference.predictor.Predictor`."""

    def predict_audio(self, audio: Floats, sample_rate: int) -> dict[str, Any]:
        """Return the prediction on float32 (channels, samples)."""


class Model(Protocol):
    """What is asked about an utterance."""

    @property
    def predictor(self) -> AudioPredictor:
        """What answers whole utterances."""

    @property
    def streaming(self) -> StreamingPredictor | None:
        """What hears them part by part, if the model can."""


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
        self._open: _Utterance | None = None

    @property
    def heard_s(self) -> float:
        """Seconds of the stream that were pushed."""
        return samples_to_seconds(self._n_samples, self._rate)

    def push(self, samples: ArrayLike) -> list[Event]:
        """Hear the next samples and return what they bring: partial answers, final answers, or nothing.

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
        events: list[Event] = [self._answer(start, stop) for start, stop in ended]
        runs = self._end_pointer.runs
        if runs.is_open:
            events += self._hear(runs.keep_from, min(runs.certain_until, self._n_samples))
        else:
            self._open = None
        self._held.drop(runs.keep_from)
        return events

    def finish(self) -> list[Event]:
        """Return the answers that are left when no sample comes any more.

        Raises
        ------
        DecodeError
            When the whole stream is one utterance, and it has no sample.
        """
        if self._whole:
            return [self._answer(0, self._n_samples)]
        return [self._answer(start, stop) for start, stop in self._end_pointer.finish()]

    def _hear_whole(self) -> list[Event]:
        if self._n_samples > self._max:
            limit_s = samples_to_seconds(self._max, self._rate)
            raise DecodeError("too_long", f"the stream is one utterance, and these have {limit_s:g} s at most")
        return self._hear(0, self._n_samples)

    def _hear(self, start: int, stop: int) -> list[Event]:
        """Let the open utterance hear all up to `stop`; return its partial answer, if there is a new one."""
        utterance = self._open_at(start)
        prediction = utterance.hear(self._held, stop, self._count_active())
        if prediction is None:
            return []
        heard_s = samples_to_seconds(stop - start, self._rate)
        return [Partial(self._number(utterance), self._seconds(start), round(heard_s, 6), prediction)]

    def _answer(self, start: int, stop: int) -> Final:
        utterance, self._open = self._open_at(start), None
        prediction = utterance.answer(self._held, stop)
        return Final(self._number(utterance), self._seconds(start), self._seconds(stop), prediction, utterance.model)

    def _count_active(self) -> int:
        """Return the samples from the utterance's first activity to its last; 0 while that is too little."""
        if not self._end_pointer.runs.is_open:
            return 0
        start, stop = self._end_pointer.runs.active
        if stop - start < self._first:
            return 0
        return stop if self._whole else stop - start

    def _open_at(self, start: int) -> _Utterance:
        """Return the open utterance if it starts there, or else a new one: what was open was dropped as too short."""
        if self._open is None or self._open.start != start:
            self._open = _open_utterance(self._current(), start, self._rate)
        return self._open

    def _number(self, utterance: _Utterance) -> int:
        if not utterance.number:
            self._n_answered += 1
            utterance.number = self._n_answered
        return utterance.number

    def _seconds(self, sample: int) -> float:
        return round(samples_to_seconds(sample, self._rate), 6)


class _Utterance:
    """One that is open, and a model that is asked anew about all of it."""

    def __init__(self, model: Model, start: int, sample_rate: int) -> None:
        self.model, self.start = model, start
        self.number = 0
        """None yet."""
        self._rate = sample_rate
        self._interval = seconds_to_samples(PARTIAL_INTERVAL_S, sample_rate)
        self._asked_at = 0
        """Activity that was heard when the model was last asked."""

    def hear(self, held: HeldAudio, stop: int, n_active: int) -> dict[str, Any] | None:
        """Hear all up to `stop`, of which so much is activity; return a prediction if it is time for one."""
        step = max(self._interval, int(PARTIAL_SHARE * n_active)) if self._asked_at else 1
        if n_active < self._asked_at + step:
            return None
        self._asked_at = n_active
        return self.answer(held, stop)

    def answer(self, held: HeldAudio, stop: int) -> dict[str, Any]:
        """Return the prediction on all up to `stop`."""
        return self.model.predictor.predict_audio(held.cut(self.start, stop), self._rate)


class _StreamedUtterance(_Utterance):
    """One that a model hears part by part."""

    def __init__(self, model: Model, stream: Stream, start: int, sample_rate: int) -> None:
        super().__init__(model, start, sample_rate)
        self._stream = stream
        self._heard_until = start
        self._last: dict[str, Any] | None = None

    def hear(self, held: HeldAudio, stop: int, n_active: int) -> dict[str, Any] | None:
        answer = self._push(held, stop)
        if answer is None or not n_active or answer == self._last:
            return None
        self._last = answer
        return answer

    def answer(self, held: HeldAudio, stop: int) -> dict[str, Any]:
        self._push(held, stop)
        return self._stream.finish()

    def _push(self, held: HeldAudio, stop: int) -> dict[str, Any] | None:
        assert stop >= self._heard_until, "what was heard belongs to the utterance"
        samples = held.cut(self._heard_until, stop)[0]
        self._heard_until = stop
        return self._stream.push(samples)


def _open_utterance(model: Model, start: int, sample_rate: int) -> _Utterance:
    if model.streaming is None:
        return _Utterance(model, start, sample_rate)
    return _StreamedUtterance(model, model.streaming.open(sample_rate), start, sample_rate)
