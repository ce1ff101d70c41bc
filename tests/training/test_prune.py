from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from audioml.errors import ParamsError
from audioml.params import ExportParams, Params, PluginSection
from audioml.plugins import is_prunable, load_plugin, plugin_names
from audioml.training.export import export_onnx
from audioml.training.fit import fit
from audioml.training.network import Network, load_network
from audioml.training.prune import prune_network, remove_channels
from audioml.training.tracker import MemoryTracker

from ._synthetic import MemoryFeatures, make_data, make_params
from .test_fit import Killed, KillingFeatures

PRUNABLE = [name for name in plugin_names("models") if is_prunable(name)]
LAYERS = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)


def make_network(name: str) -> tuple[Network, Tensor]:
    """A network with statistics of a training, and features of two windows."""
    shape = (1, 4000) if name == "rawcnn" else (40, 61)
    torch.manual_seed(0)
    plugin = load_plugin("models", name)
    model = plugin.build(plugin.Params(dropout=0), shape)
    head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(model.width, 5))
    network, features = Network(model, head, shape[0]), torch.randn(2, *shape)
    network.train()(features)
    return network.eval(), features


def test_models_whose_channels_can_go() -> None:
    assert {"rescnn", "mobilenet", "rawcnn"} == set(PRUNABLE)


@pytest.mark.parametrize("name", PRUNABLE)
def test_channels_that_are_silent_go_and_nothing_is_lost(name: str) -> None:
    """Every second channel of every layer gives zero, so what is left must answer as before."""
    network, features = make_network(name)
    with torch.no_grad():
        for layer in network.model.modules():
            if isinstance(layer, LAYERS):
                for values in (layer.weight, layer.bias):
                    if values is not None:
                        values[::2] = 0
    before, n_before = network(features), network.n_parameters
    pruned = remove_channels(network, features[:1], 0.5)
    torch.testing.assert_close(pruned(features), before)
    assert pruned.n_parameters < 0.35 * n_before


@pytest.mark.parametrize("name", PRUNABLE)
def test_a_share_of_each_layers_channels_goes_and_the_rest_is_exported(name: str, tmp_path: Path) -> None:
    network, features = make_network(name)
    kinds = (nn.Conv1d, nn.Conv2d)
    before = [layer.out_channels for layer in network.modules() if isinstance(layer, kinds)]
    pruned = remove_channels(deepcopy(network), features[:1], 0.25)
    after = [layer.out_channels for layer in pruned.modules() if isinstance(layer, kinds)]
    assert all(abs(left - 0.75 * there) <= 1 for left, there in zip(after, before, strict=True))
    assert pruned(features).shape == network(features).shape
    export_onnx(pruned, [features], tmp_path / "pruned.onnx", any_frames=True)


def pruning(params: Params) -> Params:
    export = ExportParams(prune=0.25, prune_epochs=3)
    model = PluginSection(name="rescnn", channels=[8, 16], width=16)
    return params.model_copy(update={"export": export, "model": model})


def test_what_is_left_is_trained_and_a_killed_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    params = pruning(make_params(max_epochs=8))
    features, manifest, splits = make_data()
    result = fit(params, features, manifest, splits, tmp_path / "fit", MemoryTracker())
    network = load_network(params, result.checkpoint, result.targets, features.shape)
    before = deepcopy(network.state_dict())

    def prune(state: Path, features: MemoryFeatures = features) -> Network:
        examples = [torch.from_numpy(features.take([0, 1]))]
        return prune_network(network, examples, params, features, manifest, splits, state)

    pruned = prune(tmp_path / "undisturbed")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), "the network itself is left as it is"
    assert pruned.n_parameters < 0.75 * network.n_parameters
    assert torch.equal(pruned.mean, network.mean)
    kept = remove_channels(deepcopy(network), torch.from_numpy(features.take([0])), 0.25).state_dict()
    assert any(not torch.equal(value, kept[name]) for name, value in pruned.state_dict().items())

    killing = make_data()[0]
    killing.__class__ = KillingFeatures
    killing.kill_at = 10
    with pytest.raises(Killed):
        prune(tmp_path / "killed", killing)
    resumed = prune(tmp_path / "killed")
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, pruned.state_dict()[name])


@pytest.mark.parametrize("name", ["gru", "tree"])
def test_a_model_without_such_channels_is_refused_by_name(name: str) -> None:
    params = pruning(make_params()).model_copy(update={"model": PluginSection(name=name)})
    with pytest.raises(ParamsError, match=f"removed from the model '{name}'.*mobilenet, rawcnn, rescnn"):
        params.check_export()
