"""Lightning's trainer as every fit here uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from audioml.params import TrainingParams
from audioml.training.checkpoints import AtomicCheckpointIO
from audioml.training.quiet import quiet
from audioml.training.world import find_world

MAX_GRADIENT_NORM = 5.0
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
NOISE = (
    r".*does not have many workers.*",
    r".*Starting from v1\.9\.0, `tensorboardX`.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*LeafSpec.* is deprecated.*",
    r".*GPU available but not used.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*all_gather is deprecated.*",
    r".*module\(s\) in eval mode at the start of training.*",
    r".*find_unused_parameters=True was specified.*",
)
"""Lightning's remarks on what is meant here."""


def make_trainer(
    training: TrainingParams, folder: Path, callbacks: Sequence[pl.Callback], max_epochs: int, *, all_used: bool
) -> pl.Trainer:
    """Return a trainer that saves in `folder` only what its callbacks save.

    Parameters
    ----------
    all_used
        Every trained parameter has a part in every loss. Where one may have none (in pretraining, what only the task
        needs), several processes have to look for it at each step.
    """
    world = find_world()

    def make(strategy: str) -> pl.Trainer:
        return pl.Trainer(
            accelerator=training.accelerator,
            strategy=strategy,
            # As many as torchrun started on this host, where it did.
            devices=training.devices if world.attempt is None else world.local_size,
            num_nodes=training.num_nodes,
            precision=training.precision,
            max_epochs=max_epochs,
            accumulate_grad_batches=training.accumulate_batches,
            gradient_clip_val=MAX_GRADIENT_NORM,
            deterministic=training.deterministic,
            plugins=[AtomicCheckpointIO()],
            callbacks=list(callbacks),
            default_root_dir=folder,
            logger=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    with quiet(LIGHTNING, NOISE):
        trainer = make("auto")
        return trainer if all_used or trainer.world_size == 1 else make("ddp_find_unused_parameters_true")
