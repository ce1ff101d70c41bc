"""Variants of a fitted network: made beside float32, judged on validation clips, accepted within a stated loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audioml.errors import StepError
from audioml.inference.description import Description
from audioml.params import ExportParams
from audioml.pipeline.context import Context
from audioml.pipeline.packaging import ONNX, tune_description, validate
from audioml.plugins import load_plugin
from audioml.store.code_version import code_version
from audioml.store.features import FeatureSet
from audioml.store.files import hash_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

if TYPE_CHECKING:
    from torch import Tensor

    from audioml.training.network import Network

FLOAT32, INT8, PRUNED = "float32", "int8", "pruned"
CALIBRATION_WINDOWS = 200
"""Training windows on which the ranges of activations are measured."""
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Variant:
    """One network that could answer."""

    name: str
    """float32, int8 or pruned."""
    path: Path
    """Its ONNX file."""
    description: Description
    """With what validation clips teach of this network."""
    value: float
    """The primary metric on validation clips; NaN where float32 is the only variant."""
    loss: float = 0.0
    """By how much that is worse than float32."""
    accepted: bool = True

    def judge(self, float32: Variant, higher_is_better: bool, max_loss: float) -> Variant:
        """Return the variant with what it loses against float32, and whether that may be."""
        loss = float32.value - self.value if higher_is_better else self.value - float32.value
        return replace(self, loss=loss, accepted=loss <= max_loss + ROUNDING)

    def describe(self, serves: bool) -> dict[str, Any]:
        """Return what `run.json` says of it."""
        n_bytes = self.path.stat().st_size
        figures = {"validation": self.value, "loss": self.loss, "bytes": n_bytes}
        return {**figures, "accepted": self.accepted, "serves": serves}


def make_variants(
    ctx: Context,
    features: FeatureSet,
    network: Network,
    examples: Sequence[Tensor],
    description: Description,
    state: Path,
) -> list[Variant]:
    """Return the variants that params ask for, float32 first.

    Parameters
    ----------
    network
        As it was fitted; `models/model.onnx` is its export.
    examples
        Features of a few windows, for exports.
    description
        What all variants share.
    state
        Folder of the training, where the files of the others go.
    """
    params = ctx.params.export
    made = {FLOAT32: ctx.path(ONNX)}
    if params.int8:
        from audioml.training.quantize import quantize_network

        made[INT8] = state / f"{INT8}.onnx"
        quantize_network(made[FLOAT32], _draw_windows(ctx, features), made[INT8])
    if params.prune is not None:
        made[PRUNED] = state / f"{PRUNED}.onnx"
        _prune(ctx, features, network, examples, made[PRUNED])
    task, alone = load_plugin("tasks", ctx.params.task.name), len(made) == 1
    higher_is_better: bool = getattr(task, "HIGHER_IS_BETTER", True)
    variants: list[Variant] = []
    for name, path in made.items():
        tuned = tune_description(ctx, features, replace(description, variant=name), path)
        value = float("nan") if alone else validate(ctx, features, tuned, path)
        variant = Variant(name, path, tuned, value)
        variants.append(variant.judge(variants[0], higher_is_better, params.max_loss) if variants else variant)
    return variants


def choose_variant(variants: Sequence[Variant], params: ExportParams) -> Variant:
    """Return the variant that answers: the one that params name if it was accepted, else float32."""
    wanted = (variant for variant in variants if variant.name == params.serve and variant.accepted)
    return next(wanted, variants[0])


def describe_variants(variants: Sequence[Variant], served: Variant, max_loss: float) -> dict[str, Any]:
    """Return what `run.json` says of variants: nothing where float32 is the only one."""
    if len(variants) == 1:
        return {}
    made = {variant.name: variant.describe(variant is served) for variant in variants}
    return {"variants": made, "max_loss": max_loss}


def summarize_variants(variants: Sequence[Variant], served: Variant, max_loss: float) -> dict[str, str]:
    """Return what people read of variants when they are made."""
    summary = {
        variant.name: f"{'accepted' if variant.accepted else 'refused'} (loses {variant.loss:.4f} of {max_loss:g})"
        for variant in variants[1:]
    }
    return summary | ({"serves": served.name} if summary else {})


def _prune(ctx: Context, features: FeatureSet, network: Network, examples: Sequence[Tensor], path: Path) -> None:
    """Write a pruned network; a training that was finished or killed is taken up.

    Raises
    ------
    StepError
        Under torchrun, whose other processes have ended.
    """
    from audioml.training.devices import lease_until_exit
    from audioml.training.export import export_onnx
    from audioml.training.prune import prune_network
    from audioml.training.world import find_world

    params, world = ctx.params, find_world()
    if world.attempt is not None:
        raise StepError(
            "The network is trained. The pruned one is trained by one process, and torchrun started this one with "
            "others. Run, on one host: audioml run train --collect"
        )
    if params.training.accelerator != "cpu":
        lease_until_exit(1, group=world.device_group, share=params.training.share_devices)
    asked = params.export.model_dump(mode="json", include={"prune", "prune_epochs"})
    key = hash_json({"export": asked, "code": code_version(["training/prune.py"], ["training"])})
    state = path.parent / f"{PRUNED}-{key[:8]}"
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    located = params.located(ctx.workspace)
    pruned = prune_network(network, examples, located, features, manifest, splits, state)
    export_onnx(pruned, examples, path, any_frames=features.shape[1] is None)


def _draw_windows(ctx: Context, features: FeatureSet) -> Iterator[NDArray[np.float32]]:
    """Yield features (bins, frames) of training windows, drawn from the seed."""
    from audioml.training.seeds import derive_seed

    splits = read_splits(ctx.path(SPLITS))
    train = splits.loc[splits["split"] == "train", "clip_id"]
    rows = np.flatnonzero(np.isin(features.clip_ids, train.to_numpy()))
    generator = np.random.default_rng(derive_seed(ctx.params.seed, "calibration"))
    for row in np.sort(generator.choice(rows, min(len(rows), CALIBRATION_WINDOWS), replace=False)):
        yield features.take([row])[0]
