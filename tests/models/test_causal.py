"""Models that answer streams: what is to come changes nothing, and parts give what the whole gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audioml.models._causal import CausalConv1d, CausalConv2d, Memory
from audioml.plugins import load_plugin, plugin_names, stream_block
from audioml.training.transfer import FREE_KEYS

from ._networks import build
from ._streams import STREAMING, WHOLE

BINS, FRAMES = 13, 75
EXACT = 1e-5
"""Absolute; outputs are of the order of 0.1 to 1."""


def hear(model: nn.Module, features: Tensor, sizes: list[int]) -> Tensor:
    """The outputs of a stream whose parts have these sizes, and then of what is left."""
    memory, outputs = Memory(), []
    sizes = [*sizes, features.shape[2] - sum(sizes)]
    for part in features.split(sizes, dim=2):  # type: ignore[no-untyped-call]
        outputs.append(model(part, memory))
        memory = Memory(memory.after)
    return torch.cat(outputs, dim=2)


def change_after(features: Tensor, frame: int) -> Tensor:
    """The features with others from a frame on."""
    changed = features.clone()
    changed[:, :, frame:] = 5 * torch.randn_like(changed[:, :, frame:]) + 3
    return changed


@pytest.mark.parametrize("case", STREAMING)
@torch.no_grad()
def test_outputs_of_a_block_depend_on_no_later_frame(case: str) -> None:
    name, params, block = STREAMING[case]
    assert stream_block(name, load_plugin("models", name).Params(**params)) == block
    model = build(name, (BINS, FRAMES), **params).eval()
    features = torch.randn(2, BINS, FRAMES)
    expected = model(features)
    frames_an_output = -(-FRAMES // expected.shape[2])
    for frame in range(block, FRAMES, block):
        heard = frame // frames_an_output
        found = model(change_after(features, frame))
        torch.testing.assert_close(found[:, :, :heard], expected[:, :, :heard], atol=EXACT, rtol=0)
        assert not torch.allclose(found[:, :, heard], expected[:, :, heard], atol=100 * EXACT)


@pytest.mark.parametrize("case", WHOLE)
@torch.no_grad()
def test_by_default_all_outputs_depend_on_later_frames(case: str) -> None:
    """The negative of the test above: it would notice."""
    name, params = WHOLE[case]
    assert stream_block(name, load_plugin("models", name).Params(**params)) is None
    model = build(name, (BINS, FRAMES), **params).eval()
    features = torch.randn(2, BINS, FRAMES)
    expected, found = model(features), model(change_after(features, 48))
    before = 48 // -(-FRAMES // expected.shape[2])
    assert not torch.allclose(found[:, :, before - 1], expected[:, :, before - 1], atol=100 * EXACT)


@pytest.mark.parametrize("case", STREAMING)
@pytest.mark.parametrize("blocks", [[1] * 6, [3, 1, 2], [2], []])
@torch.no_grad()
def test_parts_give_what_the_whole_gives(case: str, blocks: list[int]) -> None:
    """Of clips that end in the middle of a block, too, and of one that is shorter than a block."""
    name, params, block = STREAMING[case]
    model = build(name, (BINS, FRAMES), **params).eval()
    for features in (torch.randn(2, BINS, 6 * block + 3), torch.randn(1, BINS, 7 * block)):
        found = hear(model, features, [block * n for n in blocks])
        torch.testing.assert_close(found, model(features), atol=EXACT, rtol=0)
    short = torch.randn(1, BINS, 1)
    torch.testing.assert_close(hear(model, short, []), model(short), atol=EXACT, rtol=0)


@torch.no_grad()
def test_chunks_see_as_far_back_as_they_say() -> None:
    """By attention; convolutions, of which those of each layer are behind the last, must see but their own frame."""
    params = {"chunk_frames": 3, "left_chunks": 2, "layers": 1, "kernel": 1}
    model = build("conformer", (BINS, 120), **params).eval()
    features = torch.randn(1, BINS, 120)
    expected, changed = model(features), features.clone()
    changed[:, :, :12] += 1.0
    differs = (model(changed) - expected).abs().amax(dim=(0, 1)) > EXACT
    # The convolutions in front let the first frame of the second chunk see the last frames of the first.
    assert differs[:9].all()
    assert not differs[12:].any()


@pytest.mark.parametrize("case", [("crnn", {"bidirectional": False}), ("conformer", {})])
def test_weights_are_those_of_the_model_of_whole_clips(case: tuple[str, dict[str, Any]]) -> None:
    """So that one can start from the other."""
    name, params = case
    assert {"causal", "chunk_frames", "left_chunks"} < FREE_KEYS
    causal = {"crnn": {"causal": True}, "conformer": {"chunk_frames": 4}}[name]
    whole, streaming = (build(name, (BINS, FRAMES), **params, **more) for more in ({}, causal))
    streaming.load_state_dict(whole.state_dict())


def test_both_directions_are_not_causal() -> None:
    with pytest.raises(ValueError, match="causal is true, but bidirectional"):
        load_plugin("models", "crnn").Params(causal=True)


@pytest.mark.parametrize("params", [{"chunk_frames": 0}, {"left_chunks": -1}])
def test_chunks_have_frames(params: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="greater than or equal"):
        load_plugin("models", "conformer").Params(**params)


def test_models_that_do_not_say_need_whole_clips() -> None:
    silent = {name for name in plugin_names("models") if not hasattr(load_plugin("models", name), "stream_block")}
    assert silent == set(plugin_names("models")) - {"gru", "lstm", "crnn", "conformer"}
    assert stream_block("rescnn", load_plugin("models", "rescnn").Params()) is None


@torch.no_grad()
def test_a_strided_convolution_is_that_of_torch() -> None:
    """Padded by one frame on either side, it sees no frame after those that it makes one of."""
    causal = CausalConv2d(1, 3, 3, stride=2)
    plain = nn.Conv2d(1, 3, 3, stride=2, padding=1)
    plain.load_state_dict(causal.state_dict())
    for frames in (1, 2, 7, 8):
        x = torch.randn(2, 1, 5, frames)
        torch.testing.assert_close(causal(x), plain(x))


@torch.no_grad()
def test_a_causal_convolution_is_a_sum_over_the_past() -> None:
    layer = CausalConv1d(1, 1, 3, bias=False)
    a, b, c = layer.weight[0, 0]
    found = layer(torch.tensor([[[1.0, 10.0, 100.0]]]))
    assert found[0, 0].tolist() == pytest.approx([float(c), float(b + 10 * c), float(a + 10 * b + 100 * c)])
