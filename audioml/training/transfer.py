"""Start from the weights of another training: its checkpoint says which model it is of, and what it learned.

Standardisation is measured on the new training clips, not taken over: another corpus has other levels, and what the
first layer sees then has the mean and the scale that it was trained with.
"""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from audioml.errors import ParamsError, StepError
from audioml.params import FILE_NAME, Params
from audioml.store.files import write_atomic
from audioml.training.network import Network

FREE_KEYS = frozenset({"dropout", "pretrain_epochs", "hidden_share", "causal", "chunk_frames", "left_chunks"})
"""Keys of a model that change how it is trained, or how far its layers see, but none of its weights."""


def describe_network(params: Params, targets: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its network: a JSON value."""
    model = params.plugin_section("models").model_dump(mode="json")
    return {"model": {"name": params.model.name, "params": model}, "task": params.task.name, "targets": targets}


def save_weights(network: Network, description: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of weights alone; equal weights make equal files."""
    weights = {f"network.{name}": value.detach().cpu().clone() for name, value in network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": weights, "network": description}, buffer)
    with write_atomic(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def start_from(network: Network, checkpoint: Path, params: Params, targets: dict[str, Any]) -> bool:
    """Give a network the weights of a checkpoint's model, and of its head where task and targets are the same.

    Returns
    -------
    Whether the head was taken too.

    Raises
    ------
    StepError
        When the file is no checkpoint of audioml.
    ParamsError
        When it is of another model, or of one with other params; they are named.
    """
    found = _read(checkpoint)
    theirs, ours = found["network"], describe_network(params, targets)
    _check_same_model(theirs["model"], ours["model"], found["state_dict"], network)
    same_head = (theirs["task"], theirs["targets"]) == (ours["task"], targets)
    taken = ("model.", "head.") if same_head else ("model.",)
    state = {name.removeprefix("network."): value for name, value in found["state_dict"].items()}
    network.load_state_dict({**network.state_dict(), **{k: v for k, v in state.items() if k.startswith(taken)}})
    return same_head


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ParamsError(f"{FILE_NAME}: training.init_from names {path}, but there is no such file.")
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return {"state_dict": found["state_dict"], "network": found["network"]}
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError) as error:
        raise StepError(
            f"{path} can't be started from ({type(error).__name__}: {error}): it is no checkpoint that audioml writes "
            "to models/checkpoint.ckpt. Train the source anew, or name another with training.init_from."
        ) from None


def _check_same_model(theirs: dict[str, Any], ours: dict[str, Any], state: dict[str, Any], network: Network) -> None:
    advice = "Set the section 'model' as the source has it, or choose another training.init_from."
    if theirs["name"] != ours["name"]:
        raise ParamsError(
            f"{FILE_NAME}: training.init_from is a {theirs['name']!r}, but model.name is {ours['name']!r}. {advice}"
        )
    keys = sorted((theirs["params"].keys() | ours["params"].keys()) - FREE_KEYS)
    pairs = {key: (theirs["params"].get(key), ours["params"].get(key)) for key in keys}
    if different := [f"model.{k} ({old} there, {new} here)" for k, (old, new) in pairs.items() if old != new]:
        raise ParamsError(
            f"{FILE_NAME}: training.init_from was made with other params: {', '.join(different)}. {advice}"
        )
    shapes = {f"network.model.{name}": value.shape for name, value in network.model.state_dict().items()}
    if wrong := [name for name, shape in shapes.items() if name not in state or state[name].shape != shape]:
        raise ParamsError(
            f"{FILE_NAME}: training.init_from has other weights than this model, such as {wrong[0]}: its features have "
            "another shape. Set the section 'features' as the source has it."
        )
