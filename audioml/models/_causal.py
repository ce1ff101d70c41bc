"""Layers that wait for no later frame, and what they keep of a stream from one part of it to the next.

A network of such layers hears a clip as a whole or part by part and answers the same, within rounding. What is left
of a clip before its first frame is zeros, so all that a layer keeps starts as zeros too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Memory:
    """What layers kept of the parts of a stream before this one, and what they keep of it.

    Layers are called in the same order for each part, so what each of them keeps is known by its place in that order.

    Parameters
    ----------
    before
        `after` of the part before; None for the first.
    """

    def __init__(self, before: Sequence[Tensor] | None = None) -> None:
        self._before = None if before is None else list(before)
        self.after: list[Tensor] = []
        """What is kept, in the order of the layers."""

    def recall(self, zeros: Tensor) -> Tensor:
        """Return what the layer whose turn it is kept, or `zeros`, of the same shape, at the start of a stream."""
        return zeros if self._before is None else self._before.pop(0)

    def keep(self, value: Tensor) -> None:
        """Keep a tensor for the next part."""
        self.after.append(value)


def prepend(x: Tensor, n_frames: int, memory: Memory | None) -> Tensor:
    """Return x (..., frames) behind the `n_frames` frames that came before it: zeros where there are none."""
    if n_frames == 0:
        return x
    if memory is None:
        return pad(x, (n_frames, 0))
    joined = torch.cat([memory.recall(x.new_zeros(*x.shape[:-1], n_frames)), x], dim=-1)
    memory.keep(joined[..., -n_frames:])
    return joined


class CausalConv1d(nn.Conv1d):
    """A convolution over frames that sees a frame and those before it, with weights named as those of `nn.Conv1d`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, groups=groups, bias=bias)
        self.past = kernel - 1

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, inputs, frames) to (n, outputs, frames)."""
        return super().forward(prepend(x, self.past, memory))


class CausalConv2d(nn.Conv2d):
    """A convolution over bins and frames that makes one frame of `stride` frames, and sees no frame after these.

    Over bins it is padded as usual. Its weights are named as those of `nn.Conv2d`. Where the frames of a stream come in
    parts, all but the last must have a multiple of `stride`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=(kernel // 2, 0), bias=bias)
        self.past = kernel - stride
        self.missing = stride - 1
        """Frames that the last group of a clip may lack."""

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, inputs, bins, frames) to (n, outputs, bins', frames / stride, rounded up)."""
        return super().forward(pad(prepend(x, self.past, memory), (0, self.missing)))


def run(layers: nn.Sequential, x: Tensor, memory: Memory | None) -> Tensor:
    """Return what layers, and those within them, make of x; causal ones with what they kept in `memory`."""
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            x = run(layer, x, memory)
        else:
            x = layer(x, memory) if isinstance(layer, CausalConv1d | CausalConv2d) else layer(x)
    return x
