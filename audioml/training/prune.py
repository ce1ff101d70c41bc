"""A smaller network of a trained one: whole channels are removed, and what is left is trained on.

Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (arXiv 1608.08710), section 3; channels that
depend on each other, as by a residual, are weighed and removed together, as in Fang et al., "DepGraph: Towards Any
Structural Pruning", CVPR 2023 (arXiv 2301.12900). torch-pruning does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch_pruning
from torch import Tensor

from audioml.params import Params
from audioml.training.data import Features
from audioml.training.fit import train_on
from audioml.training.network import Network

if TYPE_CHECKING:
    import pandas as pd

LEARNING_RATE_SHARE = 0.3
"""Of the first training's peak: weights are to settle, not to start anew."""


def prune_network(
    network: Network,
    examples: Sequence[Tensor],
    params: Params,
    features: Features,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    state: Path,
) -> Network:
    """Return a copy of a trained network without `export.prune` of its channels, trained for `export.prune_epochs`.

    Equal inputs give equal weights; a killed training is taken up again in mid-epoch.

    Parameters
    ----------
    network
        Of a model whose channels can go: its plug-in has `PRUNABLE`.
    examples
        Features of a few windows, each float32 (n, bins, frames).
    features, manifest, splits
        As `audioml.training.fit.fit` takes them.
    state
        Folder for checkpoints; what is there belongs to the same network and params.
    """
    share, epochs = params.export.prune, params.export.prune_epochs
    assert share is not None, "params ask for a pruned network"
    pruned = remove_channels(deepcopy(network), examples[0][:1], share)
    update = {
        "max_epochs": epochs,
        "patience": epochs,
        "warmup_epochs": 0.0,
        "learning_rate": LEARNING_RATE_SHARE * params.training.learning_rate,
        # One process is left when a training is over.
        "devices": 1,
        "num_nodes": 1,
        "init_from": None,
        "freeze": "none",
        "adapt": "none",
    }
    params = params.model_copy(update={"training": params.training.model_copy(update=update)})
    return train_on(params, features, manifest, splits, state, pruned)


def remove_channels(network: Network, example: Tensor, share: float) -> Network:
    """Remove a share of the channels of each layer, those with the smallest weights, and return the network.

    Its outputs stay as many: of the head only inputs go.

    Parameters
    ----------
    example
        Features of a window, float32 (1, bins, frames), by which it is found out which layers depend on each other.
    """
    pruner = torch_pruning.pruner.BasePruner(
        network.eval(),
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=list(network.head.modules()),
    )
    pruner.step()
    return network
