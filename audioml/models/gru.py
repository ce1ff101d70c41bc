"""Gated recurrent units over frames, by default in both directions.

Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
EMNLP 2014 (arXiv 1406.1078). They have three quarters of the parameters of an `lstm` of the same size.
"""

from __future__ import annotations

from torch import nn

from audioml.models._recurrent import RecurrentNetwork, RecurrentParams
from audioml.models._recurrent import stream_block as stream_block


class Params(RecurrentParams):
    """How large the network is."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames), where `width` is an attribute: `hidden`, or twice that
    in both directions.
    """
    return RecurrentNetwork(nn.GRU, params, input_shape[0])
