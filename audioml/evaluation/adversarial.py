"""Noise that is made against one network: as loud as stated, and such that its loss grows fastest.

Sources: the fast gradient sign method (Goodfellow, Shlens and Szegedy 2015, arXiv 1412.6572) and projected gradient
descent (Madry et al. 2018, arXiv 1706.06083), on the waveform that features are made from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Attack = Literal["fgsm", "pgd"]
REACH = 2.5
"""Of all steps together, in bounds: from anywhere within them a place at the other end can be reached."""


def attack_audio(
    loss_of: Callable[[Tensor], Tensor],
    audio: Tensor,
    snr_db: float,
    attack: Attack = "pgd",
    steps: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return audio that a network gets wrong more likely, for noise that is `snr_db` below the audio or quieter.

    Parameters
    ----------
    loss_of
        From audio float32 (n, samples) to one loss, by which gradients are taken.
    audio
        float32 (n, samples); no sample changes by more than its row's RMS divided by ``10 ** (snr_db / 20)``.
    snr_db
        Ratio of the powers of audio and noise, in dB.
    attack
        ``fgsm`` takes one step to the bounds. ``pgd`` starts anywhere within them and takes several.
    steps
        Of ``pgd``.
    generator
        Draws where ``pgd`` starts.
    """
    import torch

    bound = audio.square().mean(dim=1, keepdim=True).sqrt() * 10 ** (-snr_db / 20)
    if attack == "fgsm":
        return (audio + bound * _ascent(loss_of, audio)).detach()
    noise = bound * (2 * torch.rand(audio.shape, generator=generator) - 1)
    for _ in range(steps):
        noise = noise + REACH / steps * bound * _ascent(loss_of, audio + noise)
        noise = torch.minimum(torch.maximum(noise, -bound), bound)
    return (audio + noise).detach()


def _ascent(loss_of: Callable[[Tensor], Tensor], audio: Tensor) -> Tensor:
    """Return the sign of the loss's gradient."""
    import torch

    given = audio.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(given), given)
    return gradient.nan_to_num().sign()
