"""A registered model, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audioml.registry.logged_models import fetch_package
from audioml.registry.package import ARTIFACTS
from audioml.registry.tracking import tracking
from audioml.registry.versions import resolve
from audioml.registry.workspace import Workspace


class AudioPredictor(Protocol):
    """What predicts: `audioml.inference.predictor.Predictor`."""

    def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return one prediction for the bytes of each audio file."""


@dataclass(frozen=True)
class LoadedModel:
    """A predictor and the version it comes from."""

    predictor: AudioPredictor
    name: str
    version: int


def load_model(ctx: Workspace, reference: str | None = None) -> LoadedModel:
    """Fetch and load the version that a reference names; None is the champion of the workspace's model.

    Raises
    ------
    RegistryError
        When there is no such model, alias or version.
    ServiceError
        When the tracking server can't be reached.
    """
    with tracking(ctx):
        version = resolve(ctx, reference)
        package = fetch_package(ctx.state, version.uri, version.package_digest)
    from audioml.inference.predictor import Predictor

    return LoadedModel(Predictor.load(package / ARTIFACTS), version.name, version.version)
