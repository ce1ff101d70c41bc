"""Noise that is made against the challenger's network, at a stated ratio, leaves its metric high enough.

The attack knows the network (white box) and changes the waveform after cleaning, resampling and cutting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from audioml.evaluation.adversarial import Attack, attack_audio
from audioml.gates._evidence import Evidence, Verdict, compare_figures
from audioml.inference.predictor import Predictor
from audioml.params import Params as AllParams
from audioml.params import PluginSection, Section
from audioml.tasks._outputs import divide, join, sum_scores
from audioml.training.seeds import derive_seed

if TYPE_CHECKING:
    import pandas as pd

    from audioml.inference.description import Description

CHECKPOINT = "checkpoint.ckpt"
BATCH_CLIPS = 16
TASKS = ("classification", "tagging")
"""Whose loss takes one row of targets a window."""


class Params(Section):
    """Which attack, and what is to be left."""

    attack: Attack = "pgd"
    """pgd is the stronger one; fgsm takes one step."""
    snr_db: float = 40.0
    """How far the noise is below the audio."""
    steps: Annotated[int, Field(ge=1)] = 10
    """Of pgd."""
    clips: Annotated[int, Field(ge=1)] = 100
    """Test clips that are attacked, drawn by the seed."""
    min: float | None = None
    """Of the metric on attacked clips; for error rates set max."""
    max: float | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a bound is missing; set min or max")
        return self


def check(params: Params, evidence: Evidence) -> Verdict:
    """Attack test clips, and measure what the served network makes of them."""
    predictor = Predictor.load(evidence.challenger.package, threads=0)
    name = predictor.description.task["name"]
    if name not in TASKS:
        return Verdict(None, f"No attack is known on the task {name}; on: {', '.join(TASKS)}.")
    if not (evidence.challenger.package / CHECKPOINT).exists():
        return Verdict(None, "The package has no weights to take gradients by: it was fitted without.")
    test, clips = evidence.read_clips(params.clips)
    if not clips:
        return Verdict(False, "There are no test clips to attack.")
    outputs = _attack(params, evidence, predictor, test, clips)
    task, targets = predictor.task, predictor.description.targets
    value = divide(*sum_scores(task, targets, task.truth(targets, test), outputs))
    metric = f"{evidence.primary.removeprefix('test_')} under {params.attack} at {params.snr_db:g} dB"
    return compare_figures(metric, value, least=params.min, most=params.max)


def _attack(
    params: Params, evidence: Evidence, predictor: Predictor, test: pd.DataFrame, clips: list[bytes]
) -> np.ndarray:
    """Return the merged outputs of attacked clips, ``(clips, ...)``."""
    import torch

    from audioml.training.network import load_network

    description, extractor = predictor.description, predictor.extractor
    made_with = _params_of(evidence.params, description)
    checkpoint = evidence.challenger.package / CHECKPOINT
    network = load_network(made_with, checkpoint, description.targets, description.input_shape)
    task, own = predictor.task, made_with.plugin_section("tasks")
    truth = torch.from_numpy(task.encode_targets(own, description.targets, test))
    generator = torch.Generator().manual_seed(derive_seed(evidence.params.seed, "attack"))
    outputs = []
    for first in range(0, len(clips), BATCH_CLIPS):
        cut = [extractor.windows(data) for data in clips[first : first + BATCH_CLIPS]]
        # Windows of lengths of their own can't be attacked together.
        for places in [range(len(cut))] if extractor.has_one_shape else [[i] for i in range(len(cut))]:
            windows = np.concatenate([cut[i][0] for i in places])
            offsets_s = np.concatenate([cut[i][1] for i in places])
            clip_of = np.repeat(list(places), [len(cut[i][0]) for i in places])
            wanted = truth[first + torch.from_numpy(clip_of)]

            def loss_of(audio: torch.Tensor, wanted: torch.Tensor = wanted) -> torch.Tensor:
                features = extractor.plugin.extract_torch(extractor.params, audio)
                loss: torch.Tensor = task.loss(own, network(features), wanted)
                return loss

            audio = torch.from_numpy(windows)
            attacked = attack_audio(loss_of, audio, params.snr_db, params.attack, params.steps, generator)
            features = extractor.plugin.extract(extractor.params, attacked.numpy())
            outputs.append(predictor.merge_clips(predictor.run_features(features), clip_of, offsets_s)[1])
    return join(outputs)


def _params_of(params: AllParams, description: Description) -> AllParams:
    """Return the params with the plug-ins that the model was made with, which may not be today's."""
    sections = {
        section: PluginSection(name=found["name"], **found["params"])
        for section, found in (("task", description.task), ("model", description.model))
    }
    return params.model_copy(update=sections)
