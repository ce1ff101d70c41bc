"""A registered model, ready to predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from audioml.errors import RegistryError, ServiceError
from audioml.registry.logged_models import fetch_package
from audioml.registry.package import ARTIFACTS
from audioml.registry.provenance import trace_version
from audioml.registry.tracking import tracking
from audioml.registry.versions import RegisteredVersion, parse_reference, resolve
from audioml.registry.workspace import ModelUser
from audioml.serving.card import make_card

if TYPE_CHECKING:
    from pathlib import Path

    from audioml.audio.decode import Limits
    from audioml.errors import DecodeError
    from audioml.inference.predictor import Answer, Floats, Predictor
    from audioml.inference.streaming import StreamingPredictor

POLL_INTERVAL_S = 5.0


class AudioPredictor(Protocol):
    """What predicts: `audioml.inference.predictor.Predictor`."""

    def predict_each(
        self, clips: Sequence[bytes], limits: Limits = ..., measured: bool = ...
    ) -> list[Answer | DecodeError]:
        """Return what is said of the bytes of each audio file, or why it cannot be read."""

    def predict_audio(self, audio: Floats, sample_rate: int) -> dict[str, Any]:
        """Return the prediction on float32 (channels, samples)."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A predictor and the version it comes from."""

    predictor: AudioPredictor
    name: str
    version: int
    card: dict[str, Any] | None = None
    """What `audioml.serving.card.make_card` says of it."""
    streaming: StreamingPredictor | None = None
    """What hears live streams part by part, if the model can."""


def wait_for_model(ctx: ModelUser, reference: str | None, on_wait: Callable[[str], None]) -> LoadedModel:
    """Load a version as soon as there is one: until then look every few seconds.

    Parameters
    ----------
    ctx
        The workspace, or what stands in for it.
    reference
        A model such as ``digits@champion``; None is the champion of the workspace's model.
    on_wait
        Called with the reason of waiting, whenever it is another one than before.

    Raises
    ------
    RegistryError
        When the reference is none.
    """
    parse_reference(reference or "", ctx.model_name)
    reason = ""
    while True:
        try:
            return load_model(ctx, reference)
        except (RegistryError, ServiceError) as error:
            if str(error) != reason:
                reason = str(error)
                on_wait(reason)
        time.sleep(POLL_INTERVAL_S)


def load_model(ctx: ModelUser, reference: str | None = None) -> LoadedModel:
    """Fetch and load the version that a reference names; None is the champion of the workspace's model.

    Raises
    ------
    RegistryError
        When there is no such model, alias or version.
    ServiceError
        When the tracking server can't be reached.
    """
    with tracking(ctx):
        predictor, version, folder = _load(ctx, reference)
        provenance = trace_version(version)
    from audioml.inference.streaming import StreamingPredictor, why_no_stream

    streaming = StreamingPredictor.load(predictor, folder) if why_no_stream(predictor.description) is None else None
    card = make_card(version, predictor.description, provenance)
    return LoadedModel(predictor, version.name, version.version, card, streaming)


def load_version(ctx: ModelUser, reference: str | None = None) -> tuple[Predictor, RegisteredVersion]:
    """Return the predictor of the version that a reference names, warmed and checked, and the version.

    Raises
    ------
    RegistryError, ServiceError
        As `load_model`.
    StoreError, ParamsError
        When the package is damaged, needs another version of audioml, or answers its golden clips otherwise than where
        it was made.
    """
    with tracking(ctx):
        return _load(ctx, reference)[:2]


def _load(ctx: ModelUser, reference: str | None) -> tuple[Predictor, RegisteredVersion, Path]:
    """Return the predictor, the version, and the folder that both come from; needs `tracking` around it."""
    version = resolve(ctx, reference)
    folder = fetch_package(ctx.state, version.uri, version.package_digest) / ARTIFACTS
    from audioml.inference.golden import check_golden
    from audioml.inference.predictor import Predictor

    predictor = Predictor.load(folder)
    # The first answers of a process take long: plug-ins are loaded, filters designed. The golden clips get them.
    check_golden(predictor, folder)
    return predictor, version, folder
