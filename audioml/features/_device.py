"""Where features are computed, and how they get there and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioml.errors import ParamsError
from audioml.params import FeatureParams

DEV = Path("/dev")


def uses_gpu(params: FeatureParams) -> bool:
    """Tell whether features are to be computed on a GPU, as `params.device` says. CUDA devices count.

    Raises
    ------
    ParamsError
        When `device` is gpu and there is none that torch can use.
    """
    if params.device == "cpu":
        return False
    there = has_gpu()
    if params.device == "gpu" and not there:
        raise ParamsError(
            "features.device is gpu, but torch finds no CUDA device here. Set it to auto or cpu, or start where "
            "`python -c 'import torch; print(torch.cuda.is_available())'` prints True."
        )
    return there


@lru_cache(maxsize=1)
def has_gpu() -> bool:
    """Tell whether torch finds a CUDA device. Without a device file of NVIDIA's driver torch is not even imported."""
    if not any(DEV.glob("nvidia[0-9]*")) and not (DEV / "dxg").exists():
        return False
    import torch

    return torch.cuda.is_available()


def extract_on_device(
    plugin: ModuleType,
    params: Any,
    windows: Sequence[NDArray[np.float32]],
    out: Sequence[NDArray[np.float32]],
    device: str,
) -> None:
    """Do what a plug-in's `extract_into` does by its `extract_torch`, in one batch for each length of window.

    Parameters
    ----------
    plugin
        A module of `audioml.features`.
    params
        Its `Params`.
    windows, out
        As for `extract_into`.
    device
        As torch calls it, such as ``cuda``.
    """
    import torch

    of_length: dict[int, list[int]] = {}
    for index, samples in enumerate(windows):
        of_length.setdefault(len(samples), []).append(index)
    for indices in of_length.values():
        audio = torch.from_numpy(np.stack([windows[index] for index in indices]))
        features = plugin.extract_torch(params, audio.to(device)).cpu().numpy()
        for index, feature in zip(indices, features, strict=True):
            out[index][:] = feature
