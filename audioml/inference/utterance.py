"""One utterance of a live stream, and the model that answers it."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from audioml.audio.stream import HeldAudio
from audioml.inference.streaming import Stream, StreamingPredictor
from audioml.units import seconds_to_samples

Floats = NDArray[np.float32]

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
    def name(self) -> str:
        """Its registered name."""

    @property
    def version(self) -> int:
        """Of that name."""

    @property
    def predictor(self) -> AudioPredictor:
        """What answers whole utterances."""

    @property
    def streaming(self) -> StreamingPredictor | None:
        """What hears them part by part, if the model can."""


class Heard(NamedTuple):
    """What a model makes of an utterance so far."""

    prediction: dict[str, Any]
    n_samples: int
    """That it heard."""


class Utterance:
    """One that is open, and a model that is asked anew about all of it.

    What `hear` leaves is picked up by `ask`, perhaps in another thread; what was left meanwhile, by one call. `finish`
    comes last.
    """

    def __init__(self, model: Model, start: int, sample_rate: int) -> None:
        self.model, self.start = model, start
        self.number = 0
        """None yet."""
        self._rate = sample_rate
        self._interval = seconds_to_samples(PARTIAL_INTERVAL_S, sample_rate)
        self._asked_at = 0
        """Activity that was heard when the model was last asked."""
        self._left: deque[Floats] = deque(maxlen=1)
        self._all = np.empty((1, 0), np.float32)

    def hear(self, held: HeldAudio, stop: int, n_active: int) -> bool:
        """Hear all up to `stop`, of which so much is activity; return whether the model is to be asked."""
        step = max(self._interval, int(PARTIAL_SHARE * n_active)) if self._asked_at else 1
        if n_active < self._asked_at + step:
            return False
        self._asked_at = n_active
        self._left.append(held.cut(self.start, stop))
        return True

    def ask(self) -> Heard | None:
        """Return what the model makes of it so far, if that is news."""
        if not self._left:
            return None
        audio = self._left.popleft()
        return Heard(self.model.predictor.predict_audio(audio, self._rate), audio.shape[1])

    def end(self, held: HeldAudio, stop: int) -> None:
        """Hear the last of it, up to `stop`."""
        self._all = held.cut(self.start, stop)

    def finish(self) -> dict[str, Any]:
        """Return the prediction on all of it."""
        return self.model.predictor.predict_audio(self._all, self._rate)


class StreamedUtterance(Utterance):
    """One that a model hears part by part."""

    def __init__(self, model: Model, stream: Stream, start: int, sample_rate: int) -> None:
        super().__init__(model, start, sample_rate)
        self._stream = stream
        self._left = deque()
        self._heard_until = start
        self._is_sure = False
        """Whether there was enough activity to say something."""
        self._n_asked = 0
        self._last: dict[str, Any] | None = None

    def hear(self, held: HeldAudio, stop: int, n_active: int) -> bool:
        """Hear what is new up to `stop`; the model is to be asked, as it has to hear everything."""
        self._is_sure = n_active > 0
        self.end(held, stop)
        return True

    def ask(self) -> Heard | None:
        """Return the answer of the stream so far, if it is another one than before."""
        answer = self._push()
        if answer is None or not self._is_sure or answer == self._last:
            return None
        self._last = answer
        return Heard(answer, self._n_asked)

    def end(self, held: HeldAudio, stop: int) -> None:
        """Hear what is new up to `stop`."""
        assert stop >= self._heard_until, "what was heard belongs to the utterance"
        self._left.append(held.cut(self._heard_until, stop))
        self._heard_until = stop

    def finish(self) -> dict[str, Any]:
        """Return the last answer of the stream."""
        self._push()
        return self._stream.finish()

    def _push(self) -> dict[str, Any] | None:
        parts = [self._left.popleft()[0] for _ in range(len(self._left))]
        samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
        self._n_asked += len(samples)
        return self._stream.push(samples) if len(samples) else None


def open_utterance(model: Model, start: int, sample_rate: int) -> Utterance:
    """Return a new utterance of a model that hears parts, or else is asked anew; `start` is a sample of the stream."""
    if model.streaming is None:
        return Utterance(model, start, sample_rate)
    return StreamedUtterance(model, model.streaming.open(sample_rate), start, sample_rate)
