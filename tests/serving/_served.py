"""A served application around predictors of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from audioml.audio.decode import NO_LIMITS, AudioInfo, Limits
from audioml.errors import DecodeError
from audioml.inference.predictor import Answer
from audioml.params import ServingParams
from audioml.registry.workspace import Elsewhere
from audioml.serving.app import create_app
from audioml.serving.live import LiveModels
from audioml.serving.logs import RequestLog
from audioml.serving.model import AudioPredictor, LoadedModel
from audioml.serving.prediction_log import PredictionLog
from audioml.serving.tokens import FILE, Tokens

INFO = AudioInfo("WAV", "PCM_16", 8000, 1, 4000)


class Saying:
    """A predictor that says what a function says of each clip's bytes."""

    def __init__(self, say: Callable[[bytes], dict[str, Any]]) -> None:
        self.say = say

    def predict_each(
        self, clips: Sequence[bytes], limits: Limits = NO_LIMITS, measured: bool = False
    ) -> list[Answer | DecodeError]:
        return [Answer(self.say(clip), INFO) for clip in clips]


def serve_app(
    folder: Path,
    predictor: AudioPredictor,
    log: PredictionLog | None = None,
    card: dict[str, Any] | None = None,
    request_log: RequestLog | None = None,
    **params: Any,
) -> tuple[FastAPI, LiveModels]:
    """Return an application that serves `tones`, version 3, and what it serves; it does not look at any registry."""
    settings = ServingParams(poll_s=1e6, **params)
    models = LiveModels(Elsewhere(folder, "tones"), LoadedModel(predictor, "tones", 3, card), params=settings)
    return create_app(models, settings, Tokens(folder / FILE), log, request_log), models
