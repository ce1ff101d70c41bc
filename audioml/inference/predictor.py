"""Audio bytes in, predictions out: decoding, features and ONNX, by the same code as training. No torch.

Evaluation, the MLflow package, the server and the command line all use this one path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented

from audioml.audio.decode import NO_LIMITS, AudioInfo, Limits, decode_with_info
from audioml.clean._chain import load_chain, parse_chain
from audioml.errors import DecodeError, StoreError
from audioml.inference.description import MODEL, Description, read_description
from audioml.inference.extraction import Extractor
from audioml.inference.measures import Measures, measure
from audioml.params import parse_section
from audioml.plugins import load_plugin
from audioml.tasks._outputs import join, merge_windows, seconds_per_frame, stack

Floats = NDArray[np.float32]

ONNX_ERRORS = (Fail, InvalidGraph, InvalidProtobuf, NotImplemented)
"""What a damaged or unknown network raises; they share no base but Exception."""
Windows = tuple[Floats, NDArray[np.float64]]
"""Features of a clip, float32 (windows, bins, frames), and where each window starts, in seconds."""
BATCH_WINDOWS = 64
"""Windows that go through the network at a time: more gain nothing and cost memory."""


class Answer(NamedTuple):
    """What is said of a clip."""

    prediction: dict[str, Any]
    """As the task describes it, such as its label and probabilities."""
    info: AudioInfo
    """Of the file."""
    measures: Measures | None = None
    """What monitoring keeps of it, where that was asked for."""


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to answer. Safe to share between threads."""

    description: Description
    session: onnxruntime.InferenceSession
    task: ModuleType
    extractor: Extractor

    @classmethod
    def load(cls, folder: Path, threads: int = 1, network: str = MODEL) -> Predictor:
        """Load the model in a folder that holds `model.onnx` and `model.json`.

        Parameters
        ----------
        threads
            Within one call; 0 takes one a core. Small networks gain little from more than one.
        network
            File of the network, where it is to be another variant than the one that serves: ``int8.onnx``.

        Raises
        ------
        StoreError
            When a file is missing or damaged.
        ParamsError
            When this version of audioml has not the plug-ins or keys that the model was made with.
        """
        description = read_description(folder)
        task, extractor = _load_plugins(description)
        return cls(description, open_session(folder / network, threads), task, extractor)

    @classmethod
    def of(cls, description: Description, session: Any) -> Predictor:
        """Return the predictor of a network in memory: `session` runs as onnxruntime's does. Raises as `load`."""
        return cls(description, session, *_load_plugins(description))

    def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return what the task says of each clip, such as its label and probabilities.

        Parameters
        ----------
        clips
            Whole audio files, of any format, rate and length.

        Raises
        ------
        DecodeError
            When a clip cannot be read; with more than one, the detail says which, counted from 0.
        """
        outputs = self.predict_outputs(clips)
        return [self.task.describe(self.description.targets, output) for output in outputs]

    def predict_each(
        self, clips: Sequence[bytes], limits: Limits = NO_LIMITS, measured: bool = False
    ) -> list[Answer | DecodeError]:
        """Return what the task says of each clip, or why it cannot be read; one is no matter to the others.

        Parameters
        ----------
        clips
            As `predict` takes them.
        limits
            What is read at most.
        measured
            Have each answer hold what monitoring keeps of its recording.
        """
        answers: list[Answer | DecodeError] = []
        readable: list[Windows] = []
        for data in clips:
            try:
                audio, info = decode_with_info(data, limits)
                readable.append(self.extractor.extract_audio(audio, info.sample_rate))
                measures = measure(audio, info.sample_rate, readable[-1][0]) if measured else None
                answers.append(Answer({}, info, measures))
            except DecodeError as error:
                answers.append(error)
        outputs = iter(self._run_clips(readable))
        return [
            answer._replace(prediction=self.task.describe(self.description.targets, next(outputs)))
            if isinstance(answer, Answer)
            else answer
            for answer in answers
        ]

    def predict_outputs(self, clips: Sequence[bytes]) -> NDArray[Any]:
        """Return each clip's output, (clips, ...): for classification its probabilities. Raises as `predict`."""
        readable: list[Windows] = []
        for i, data in enumerate(clips):
            try:
                readable.append(self.extractor.extract(data))
            except DecodeError as error:
                if len(clips) == 1:
                    raise
                raise DecodeError(error.reason, f"clip {i}: {error.detail}") from None
        return self._run_clips(readable)

    def predict_audio(self, audio: Floats, sample_rate: int) -> dict[str, Any]:
        """Return what `predict` says of a file that decodes to this audio.

        Parameters
        ----------
        audio
            float32 (channels, samples), in [-1, 1].
        sample_rate
            In Hz.

        Raises
        ------
        DecodeError
            When there is no sample, no audio has such a rate, or the features are not finite.
        """
        (output,) = self._run_clips([self.extractor.extract_audio(audio, sample_rate)])
        answer: dict[str, Any] = self.task.describe(self.description.targets, output)
        return answer

    def _run_clips(self, clips: Sequence[Windows]) -> NDArray[Any]:
        """Return the output of each clip, given its features and where its windows start."""
        bins, frames = self.description.input_shape
        if not clips:
            return self.merge_clips(self.run_features(np.empty((0, bins, frames or 1), np.float32)), [])[1]
        features = [windows for windows, _ in clips]
        if frames is None:
            outputs = [self.run_features(windows) for windows in features]
        else:
            outputs = [self.run_features(np.concatenate(features))]
        clip_of = np.repeat(np.arange(len(clips)), [len(windows) for windows in features])
        offsets_s = np.concatenate([starts_s for _, starts_s in clips])
        n_frames = np.concatenate([np.full(len(windows), windows.shape[2]) for windows in features])
        return self.merge_clips(join(outputs), clip_of, offsets_s, n_frames)[1]

    def extract(self, data: bytes) -> Floats:
        """Return the features of an audio file's windows, float32 (windows, bins, frames).

        Raises
        ------
        DecodeError
            When the bytes cannot be read as audio.
        """
        return self.extractor.extract(data)[0]

    def run_features(self, features: Floats) -> Floats:
        """Return raw outputs (n, ...) of features, float32 (n, bins, frames), as they are stored.

        Raises
        ------
        StoreError
            When the features' shape is not the one that the model was made for.
        """
        bins, frames = self.description.input_shape
        if features.shape[1] != bins or frames not in (None, features.shape[2]):
            raise StoreError(
                f"The model {self.description.name} takes features of shape (n, {bins}, {frames or 'any'}), "
                f"but these have {features.shape}: they were made with other params. Train again."
            )
        starts = range(0, max(len(features), 1), BATCH_WINDOWS)
        parts = [self._run(features[start : start + BATCH_WINDOWS]) for start in starts]
        return np.concatenate(parts)

    @cached_property
    def frame_s(self) -> float:
        """Seconds from one frame of the features to the next."""
        return seconds_per_frame(self.extractor.name, self.extractor.params)

    def merge_clips(
        self,
        outputs: NDArray[Any],
        clip_of: ArrayLike,
        offsets_s: ArrayLike | None = None,
        frames: ArrayLike | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Merge raw outputs of windows into one output a clip.

        Parameters
        ----------
        outputs
            (windows, ...), as from `run_features`.
        clip_of
            (windows,): the clip of each window; any values that compare.
        offsets_s, frames
            (windows,): where each window starts in its clip, in seconds, and how many frames its features have. Left
            out, all start at 0; only tasks that answer along time need them.

        Returns
        -------
        clips
            (clips,): each value of `clip_of` once, in order of first appearance.
        merged
            (clips, ...), as the task merges them, of outputs divided by the model's temperature; objects, an array
            each, where these differ in shape.
        """
        if self.description.temperature != 1:
            outputs = outputs / np.float32(self.description.temperature)
        names, first, position = np.unique(np.asarray(clip_of), return_index=True, return_inverse=True)
        windows_by_clip = np.split(np.argsort(position, kind="stable"), np.cumsum(np.bincount(position))[:-1])
        order = np.argsort(first)
        if not len(names):
            return names, outputs[:0]
        starts_s = np.zeros(len(outputs)) if offsets_s is None else np.asarray(offsets_s)
        durations_s = np.zeros(len(outputs)) if frames is None else np.asarray(frames) * self.frame_s
        merged = [
            merge_windows(
                self.task, self.description.targets, outputs[windows], starts_s[windows], durations_s[windows]
            )
            for windows in (windows_by_clip[i] for i in order)
        ]
        return names[order], stack(merged)

    def _run(self, features: Floats) -> Floats:
        (outputs,) = self.session.run(None, {self.session.get_inputs()[0].name: features})
        raw: Floats = outputs
        return raw


def _load_plugins(description: Description) -> tuple[ModuleType, Extractor]:
    name = description.features["name"]
    params = parse_section(load_plugin("features", name).Params, description.features["params"], "features")
    extractor = Extractor(name, params, load_chain(parse_chain(description.clean)))
    return load_plugin("tasks", description.task["name"]), extractor


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Return what runs an ONNX file; with 0 threads as many as there are cores.

    Raises
    ------
    StoreError
        When it is missing or damaged.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait sleep. By default they spin, which takes the cores from whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if not path.exists():
        raise StoreError(f"{path} is missing. Bring it back with: dvc checkout (or: audioml run train)")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ONNX_ERRORS as error:
        raise StoreError(f"{path} is no ONNX model that onnxruntime can load: {error}") from None
