"""Answers while a clip is still heard, and at its end the answer that `Predictor` gives of the whole. No torch.

What the layers of the network keep goes from one part of the stream to the next, so the work for a second of audio does
not grow with the stream. At the end the outputs of the network are those of the whole clip within 1e-4, as float32
rounds otherwise in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from audioml.audio.decode import check_rate
from audioml.audio.resample import StreamResampler
from audioml.errors import DecodeError, ParamsError
from audioml.inference.description import STREAM, Description
from audioml.inference.feature_stream import FeatureStream
from audioml.inference.predictor import Predictor, open_session
from audioml.params import parse_section
from audioml.plugins import answers_streams, load_plugin

Floats = NDArray[np.float32]

RUN_FRAMES = 1000
"""Of the features, that go through the network at once where a long stretch is pushed: more would cost memory."""


def why_no_stream(description: Description) -> str | None:
    """Return why a model cannot answer streams, as a sentence that says what to change; None if it can.

    Raises
    ------
    ParamsError
        When this version of audioml has not the plug-ins or keys that the model was made with.
    """
    task, model, feature = (part["name"] for part in (description.task, description.model, description.features))
    if not answers_streams(task):
        return f"The task {task} answers clips as a whole."
    if description.stream_block is None:
        return (
            f"The model {model} needs the whole clip. Train one that does not: gru or lstm with bidirectional: false, "
            "crnn with causal: true, or conformer with chunk_frames."
        )
    if description.variant != "float32":
        return f"The variant {description.variant} serves, which takes whole clips only. Set export.serve to float32."
    if description.clean:
        steps = ", ".join(step["name"] for step in description.clean)
        return f"Cleaning ({steps}) changes clips as a whole. Train with clean: []."
    plugin = load_plugin("features", feature)
    params = parse_section(plugin.Params, description.features["params"], "features")
    if params.length != "whole":
        return f"'features.length' is {params.length}, which makes windows of one length. Set it to whole."
    if not hasattr(plugin, "frame_reach"):
        return f"The features {feature} are made of whole clips. Choose others, such as logmel."
    if keys := plugin.clip_wide(params):
        named = " and ".join(f"'features.{key}'" for key in keys)
        return f"By {named} features depend on the whole clip. Train without."
    return None


@dataclass(frozen=True)
class StreamingPredictor:
    """A model that is ready to hear streams. Safe to share between threads; a `Stream` is not."""

    predictor: Predictor
    session: onnxruntime.InferenceSession
    """Of `stream.onnx`."""

    @classmethod
    def load(cls, predictor: Predictor, folder: Path, threads: int = 1) -> StreamingPredictor:
        """Load what hears streams from the folder that the predictor was loaded from.

        Parameters
        ----------
        folder
            It holds `stream.onnx`.
        threads
            Within one call; 0 takes one a core.

        Raises
        ------
        ParamsError
            When the model cannot answer streams, with the reason.
        StoreError
            When the file is missing or damaged.
        """
        if reason := why_no_stream(predictor.description):
            raise ParamsError(f"The model {predictor.description.name} cannot answer streams. {reason}")
        return cls(predictor, open_session(folder / STREAM, threads))

    @property
    def sample_rate(self) -> int:
        """In Hz, of the audio that the network hears."""
        rate: int = self.predictor.extractor.params.sample_rate
        return rate

    @property
    def block(self) -> int:
        """Frames of the features that go through the network together."""
        assert self.predictor.description.stream_block is not None, "the model answers streams"
        return self.predictor.description.stream_block

    @property
    def look_ahead_s(self) -> float:
        """Seconds that are heard after a frame before it counts in an answer, at most: look-ahead of the algorithm."""
        extractor = self.predictor.extractor
        reach: int = extractor.plugin.frame_reach(extractor.params)
        return (self.block - 1 + reach) * self.predictor.frame_s

    def open(self, sample_rate: int | None = None) -> Stream:
        """Return a new stream of audio of a rate in Hz; None takes the model's own.

        Raises
        ------
        DecodeError
            When no audio has such a rate.
        """
        return Stream(self, self.sample_rate if sample_rate is None else sample_rate)


class Stream:
    """One recording that comes in parts.

    Parameters
    ----------
    model
        What hears it.
    sample_rate
        Of the samples that are pushed, in Hz.
    """

    def __init__(self, model: StreamingPredictor, sample_rate: int) -> None:
        self._model, self._predictor = model, model.predictor
        self._targets = self._predictor.description.targets
        self._follow: Callable[[Floats], dict[str, Any]] = self._predictor.task.follow(self._targets)
        hop_length = round(self._predictor.frame_s * model.sample_rate)
        check_rate(sample_rate)
        self._resampler = StreamResampler(sample_rate, model.sample_rate)
        self._features = FeatureStream(self._predictor.extractor, hop_length)
        self._waiting = np.empty((1, self._predictor.description.input_shape[0], 0), np.float32)
        """Features that make no whole block yet."""
        inputs = model.session.get_inputs()
        self._names = [node.name for node in inputs]
        self._kept = [np.zeros(node.shape, np.float32) for node in inputs[1:]]
        self._outputs: list[Floats] = []
        self._n_frames = 0
        """Of the features, that went through the network."""
        self._has_ended = False

    def push(self, samples: ArrayLike) -> dict[str, Any] | None:
        """Hear the next samples and return the answer so far, or None where they bring no new output.

        Parameters
        ----------
        samples
            float32 (samples,), mono, in [-1, 1], of any number.

        Raises
        ------
        DecodeError
            When a sample is NaN or infinite, or too large for features. The stream is of no use then.
        ValueError
            When they have not one dimension, or the stream has ended.
        """
        self._check_open()
        audio = np.asarray(samples, np.float32)
        if audio.ndim != 1:
            raise ValueError(f"samples must be mono, (samples,), but have shape {audio.shape}")
        if not np.isfinite(audio).all():
            raise DecodeError("not_finite", "a sample of the stream is NaN or infinite")
        outputs = self._hear(self._features.feed(self._resampler.feed(audio)))
        return self._follow(outputs[0]) if outputs.size else None

    def finish(self) -> dict[str, Any]:
        """Return what `Predictor.predict` says of a file of all samples that were pushed. Nothing follows it.

        Raises
        ------
        DecodeError
            When there was no sample.
        ValueError
            When the stream has ended.
        """
        self._check_open()
        self._has_ended = True
        self._hear(self._features.feed(self._resampler.feed(np.empty(0, np.float32), last=True)))
        self._hear(self._features.finish(), last=True)
        answer: dict[str, Any] = self._predictor.task.describe(self._targets, self.output())
        return answer

    def output(self) -> NDArray[Any]:
        """Return the clip's output, as the task merges it, of what the network has heard; at least one block."""
        self._outputs = [np.concatenate(self._outputs, axis=-1)]
        merged: NDArray[Any] = self._predictor.merge_clips(self._outputs[0], [0], [0.0], [self._n_frames])[1][0]
        return merged

    def _check_open(self) -> None:
        if self._has_ended:
            raise ValueError("the stream has ended; open another one")

    def _hear(self, features: Floats, last: bool = False) -> Floats:
        """Let the network hear all whole blocks, and at last what is left; return its outputs (1, ..., frames)."""
        self._waiting = np.concatenate([self._waiting, features[np.newaxis]], axis=2)
        block, n_frames = self._model.block, self._waiting.shape[2]
        stop = n_frames if last else n_frames // block * block
        step = max(1, RUN_FRAMES // block) * block
        parts: list[Floats] = []
        for start in range(0, stop, step):
            values = [self._waiting[:, :, start : min(start + step, stop)], *self._kept]
            outputs, *self._kept = self._model.session.run(None, dict(zip(self._names, values, strict=True)))
            parts.append(outputs)
        self._waiting = self._waiting[:, :, stop:]
        self._n_frames += stop
        self._outputs += parts
        return np.concatenate(parts, axis=-1) if parts else np.empty(0, np.float32)
