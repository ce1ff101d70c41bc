"""Long short-term memory over frames, by default in both directions.

Sources: Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; both directions, on
speech: Graves, Schmidhuber, "Framewise Phoneme Classification with Bidirectional LSTM and Other Neural Network
Architectures", Neural Networks 18(5-6), 2005.
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
    return RecurrentNetwork(nn.LSTM, params, input_shape[0])
