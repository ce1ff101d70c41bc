"""Conformer: self-attention for what is far apart, convolutions for what is near.

Source: Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020 (arXiv
2005.08100), sections 2.1 to 2.4, far smaller. Positions are sines that are added once, and not relative ones in each
layer as in the paper; kernels are shorter, as frames are 40 ms apart after the convolutions in front.

With `chunk_frames` it can answer a stream: attention is over chunks, as in Chen, Wu, Wang, Liu, Li, "Developing
Real-Time Streaming Transformer Transducer for Speech Recognition on Large-Scale Dataset", ICASSP 2021 (arXiv
2010.11395), and depthwise convolutions are causal, as in Zhang et al., "Unified Streaming and
Non-streaming Two-pass End-to-end Model for Speech Recognition" (arXiv 2012.05481). There are no positions
then, which a stream longer than training's clips would leave: the convolutions tell what comes first (Mohamed, Okhonko,
Zettlemoyer, "Transformers with Convolutional Context for ASR", arXiv 1904.11660).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._attention import AttentionParams, positions
from audioml.models._causal import CausalConv1d, CausalConv2d, Memory, prepend, run

FRONT_STRIDE = 2
"""Of each convolution in front, over bins and frames."""
FRONT_LAYERS = 2


class Params(AttentionParams):
    """How large the network is."""

    front_channels: Annotated[int, Field(ge=1)] = 16
    """Of the two convolutions in front, which take a quarter of the bins and frames."""
    kernel: Annotated[int, Field(ge=1)] = 15
    """Frames that a depthwise convolution sees; 31 in the paper."""
    chunk_frames: Annotated[int, Field(ge=1)] | None = None
    """Attend within chunks of this many frames, each 4 frames of the features, and let convolutions see no frame to
    come, so that the model can answer a stream, a chunk at a time; None attends to the whole clip."""
    left_chunks: Annotated[int, Field(ge=0)] = 4
    """With `chunk_frames`, chunks that each frame sees before its own."""


def stream_block(params: Params) -> int | None:
    """Return the frames of the features that make a chunk; None without `chunk_frames`."""
    return None if params.chunk_frames is None else params.chunk_frames * FRONT_STRIDE**FRONT_LAYERS


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is a quarter
    of the frames, rounded up.
    """
    return Conformer(params, input_shape[0])


class Conformer(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params, bins: int) -> None:
        super().__init__()
        self.width = params.width
        self.chunk_frames, self.left_chunks = params.chunk_frames, params.left_chunks
        channels, causal = params.front_channels, params.chunk_frames is not None
        self.front = nn.Sequential(_subsample(1, channels, causal), _subsample(channels, channels, causal))
        for _ in range(FRONT_LAYERS):
            bins = -(-bins // FRONT_STRIDE)
        self.project = nn.Linear(channels * bins, params.width)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.Sequential(*(Block(params) for _ in range(params.layers)))

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        x = self.project(run(self.front, features.unsqueeze(1), memory).flatten(1, 2).transpose(1, 2))
        hidden = None
        if self.chunk_frames is None:
            x = x + positions(x)
        else:
            hidden = hide_frames(x, self.chunk_frames, self.left_chunks, memory)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, hidden, memory)
        outputs: Tensor = x.transpose(1, 2)
        return outputs


def hide_frames(x: Tensor, chunk_frames: int, left_chunks: int, memory: Memory | None) -> Tensor:
    """Return which frames each one may not attend to, bool (frames, left_chunks * chunk_frames + frames).

    x is (n, frames, width) and starts with a chunk. Before its first frame stand those of the chunks before, which may
    be missing at the start of a clip.
    """
    past = left_chunks * chunk_frames
    exists = prepend(x.new_ones(x.shape[1]), past, memory) > 0
    chunk = torch.arange(x.shape[1], device=x.device)[:, None] // chunk_frames
    seen = torch.arange(past + x.shape[1], device=x.device) // chunk_frames
    return (seen < chunk) | (seen > chunk + left_chunks) | ~exists


class Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half; each is added to what it takes."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.first_half = _feed_forward(params)
        self.attention = Attention(params)
        self.convolution = Convolution(params)
        self.second_half = _feed_forward(params)
        self.norm = nn.LayerNorm(params.width)

    def forward(self, x: Tensor, hidden: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """Map (n, frames, width) to the same shape; `hidden` is that of `hide_frames`."""
        x = x + 0.5 * self.first_half(x)
        x = x + self.attention(x, hidden, memory)
        x = x + self.convolution(x, memory)
        y: Tensor = self.norm(x + 0.5 * self.second_half(x))
        return y


class Attention(nn.Module):
    """Each frame sees all others, or those of its chunk and of the `left_chunks` before."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.past = params.left_chunks * (params.chunk_frames or 0)
        self.norm = nn.LayerNorm(params.width)
        self.attention = nn.MultiheadAttention(params.width, params.heads, params.dropout, batch_first=True)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, hidden: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """Map (n, frames, width) to the same shape; `hidden` is that of `hide_frames`."""
        x = self.norm(x)
        seen = prepend(x.transpose(1, 2), self.past, memory).transpose(1, 2) if self.past else x
        y: Tensor = self.dropout(self.attention(x, seen, seen, attn_mask=hidden, need_weights=False)[0])
        return y


class Convolution(nn.Module):
    """A gated pointwise convolution, a depthwise one over frames, and a pointwise one."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.width
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(dim=1),
            _depthwise(params),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
            nn.Dropout(params.dropout),
        )

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, frames, width) to the same shape."""
        return run(self.layers, self.norm(x).transpose(1, 2), memory).transpose(1, 2)


def _depthwise(params: Params) -> nn.Module:
    width = params.width
    if params.chunk_frames is None:
        return nn.Conv1d(width, width, params.kernel, padding="same", groups=width, bias=False)
    return CausalConv1d(width, width, params.kernel, groups=width, bias=False)


def _subsample(inputs: int, outputs: int, causal: bool) -> nn.Sequential:
    convolution: nn.Module = (
        CausalConv2d(inputs, outputs, 3, stride=FRONT_STRIDE, bias=False)
        if causal
        else nn.Conv2d(inputs, outputs, 3, stride=FRONT_STRIDE, padding=1, bias=False)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _feed_forward(params: Params) -> nn.Sequential:
    wide = params.width * params.expansion
    return nn.Sequential(
        nn.LayerNorm(params.width),
        nn.Linear(params.width, wide),
        nn.SiLU(),
        nn.Dropout(params.dropout),
        nn.Linear(wide, params.width),
        nn.Dropout(params.dropout),
    )
