"""A registered model whose answers are embeddings, ready to compare recordings."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audioml.errors import RegistryError
from audioml.plugins import gives_embeddings, plugin_names
from audioml.registry.workspace import ModelUser
from audioml.serving.model import load_version
from audioml.serving.speaker_index import Floats, Maker, SpeakerIndex


@dataclass(frozen=True)
class Embedder:
    """A version of a model that gives embeddings."""

    model: Maker
    accept_above: float | None
    """Two recordings are of one speaker where their similarity is above this; None where training found none."""
    embed: Callable[[bytes], Floats]
    """From a whole audio file to its embedding, ``(n,)``, of length 1; raises DecodeError."""
    reference: str | None = None
    """How the model was asked for; None for the champion of the workspace's model."""


def load_embedder(ctx: ModelUser, reference: str | None = None) -> Embedder:
    """Load the version that a reference names; None is the champion of the workspace's model.

    Raises
    ------
    RegistryError
        When there is no such version, or its answers are no embeddings.
    ServiceError
        When the tracking server can't be reached.
    """
    predictor, version = load_version(ctx, reference)
    task, targets = predictor.description.task["name"], predictor.description.targets
    if not gives_embeddings(task):
        fitting = ", ".join(name for name in plugin_names("tasks") if gives_embeddings(name))
        raise RegistryError(
            f"{version.name} version {version.version} is a model of the task {task}, whose answers are no embeddings, "
            f"so it cannot compare speakers. Take a model of the task {fitting}: name one with --model, or set "
            "task.name in params.yaml and train it."
        )

    def embed(data: bytes) -> Floats:
        (embedding,) = predictor.task.embeddings(targets, predictor.predict_outputs([data]))
        return np.asarray(embedding, np.float32)

    maker = Maker(version.name, version.version, version.package_digest, version.run_id)
    return Embedder(maker, targets.get("accept_above"), embed, reference)


def check_model(index: SpeakerIndex, embedder: Embedder) -> None:
    """Raise RegistryError where somebody is enrolled, and by another version of the model."""
    old, new = index.model, embedder.model
    if old is None or not index.recordings or old == new:
        return
    option = f" --model {shlex.quote(embedder.reference)}" if embedder.reference else ""
    raise RegistryError(
        f"The enrolled speakers' embeddings were made by {old}, but the model is {new}, and those of two versions "
        f"cannot be compared. Embed all {len(index.recordings)} enrolled files anew with: audioml speakers "
        f"rebuild{option}. Or take the model that made them: --model {old.name}/{old.version}"
    )
