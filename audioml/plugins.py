"""Plug-ins by file name: `features/logmel.py` is `features.name: logmel`. No registry, no decorator.

Each plug-in module has a `Params` class (a `audioml.params.Section`) for its own section, and the
functions that its package's docstring names.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import Any

from audioml.errors import UnknownPluginError, did_you_mean

KINDS = ("datasets", "segment", "clean", "features", "augment", "tasks", "models", "gates")


def plugin_names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind, sorted, without importing any of them."""
    spec = importlib.util.find_spec(f"audioml.{kind}")
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise UnknownPluginError(f"There is no kind of plug-in called {kind!r}; there are {', '.join(KINDS)}.")
    return sorted(m.name for m in pkgutil.iter_modules(locations) if not m.name.startswith("_"))


def check_plugin(kind: str, name: str) -> str:
    """Return `name` if such a plug-in exists.

    Raises
    ------
    UnknownPluginError
        With the list of names and the nearest one.
    """
    known = plugin_names(kind)
    if name not in known:
        raise UnknownPluginError(
            f"{kind}: no plug-in is called {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
        )
    return name


def load_plugin(kind: str, name: str) -> ModuleType:
    """Import and return the plug-in module `audioml.<kind>.<name>`."""
    return importlib.import_module(f"audioml.{kind}.{check_plugin(kind, name)}")


def makes_clips(name: str) -> bool:
    """Tell whether a layout makes its clips, and so needs no source."""
    return bool(getattr(load_plugin("datasets", name), "MAKES_CLIPS", False))


def changes_audio(name: str) -> bool:
    """Tell whether an augmentation changes waveforms; others change features."""
    return hasattr(load_plugin("augment", name), "apply_audio")


def mixes_targets(name: str) -> bool:
    """Tell whether an augmentation makes one clip of two, and their targets one target."""
    return bool(getattr(load_plugin("augment", name), "MIXES", False))


def targets_mix(name: str) -> bool:
    """Tell whether a task can learn what lies between two targets."""
    return bool(getattr(load_plugin("tasks", name), "MIXABLE", True))


def answers_streams(name: str) -> bool:
    """Tell whether a task can answer while a clip is still heard."""
    return hasattr(load_plugin("tasks", name), "follow")


def gives_embeddings(name: str) -> bool:
    """Tell whether a task's answers are embeddings, by which clips are compared with each other."""
    return hasattr(load_plugin("tasks", name), "embeddings")


def features_are_audio(name: str) -> bool:
    """Tell whether a feature plug-in's features, `(n, 1, samples)`, are the samples themselves."""
    return bool(getattr(load_plugin("features", name), "IS_AUDIO", False))


def is_prunable(name: str) -> bool:
    """Tell whether whole channels can be removed from a trained network of a model."""
    return bool(getattr(load_plugin("models", name), "PRUNABLE", False))


def stream_block(name: str, params: Any) -> int | None:
    """Return how many frames of the features a model takes at a time in a stream; None if it needs whole clips.

    What it answers of a block depends on no frame after it.
    """
    plugin = load_plugin("models", name)
    block: int | None = plugin.stream_block(params) if hasattr(plugin, "stream_block") else None
    return block
