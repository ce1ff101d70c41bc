"""The model's outputs for clips whose features are stored, and their agreement with the path from bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.errors import StepError
from audioml.evaluation.calibration import merger
from audioml.inference.predictor import Predictor
from audioml.store.features import FeatureSet
from audioml.tasks._outputs import join

Stored = tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]]
READ_BYTES = 32 << 20
"""Features read at a time, which bounds the memory."""


def run_stored(predictor: Predictor, features: FeatureSet, clip_ids: Sequence[str]) -> Stored:
    """Return the raw outputs of all windows of clips from their stored features.

    Parameters
    ----------
    predictor
        The model.
    features
        Stored windows, of these clips and others.
    clip_ids
        Which clips, each once.

    Returns
    -------
    raw
        ``(windows, ...)``; objects, an array each, where windows' outputs differ in shape.
    clip_of
        The position in `clip_ids` of each window's clip, ``(windows,)``; a clip's windows are in their order.
    offsets_s, frames
        Where each window starts in its clip, in seconds, and how many frames it has, ``(windows,)``.

    Raises
    ------
    StepError
        When a clip has no stored features.
    """
    clip_of_window = pd.Index(clip_ids).get_indexer(pd.Index(features.clip_ids))
    windows = np.flatnonzero(clip_of_window >= 0)
    found = np.unique(clip_of_window[windows])
    if len(found) < len(clip_ids):
        lacking = clip_ids[int(np.setdiff1d(np.arange(len(clip_ids)), found)[0])]
        raise StepError(
            f"{len(clip_ids) - len(found)} of {len(clip_ids)} clips have no stored features (the first is "
            f"{lacking[:12]}). Make them with: audioml run featurize"
        )
    # Those of one length together: nothing is padded, here as where a single clip is answered.
    windows = windows[np.argsort(features.frames[windows], kind="stable")]
    raw = join([predictor.run_features(features.take(batch)) for batch in _batches(features, windows)])
    clip_of = clip_of_window[windows].astype(np.int64)
    return raw, clip_of, features.offsets_s[windows], features.frames[windows]


def predict_stored(predictor: Predictor, features: FeatureSet, clip_ids: Sequence[str]) -> npt.NDArray[Any]:
    """Return the outputs of clips from their stored features: ``(clips, ...)``, in the order of `clip_ids`.

    They are objects, an array each, where clips' outputs differ in shape.

    Raises
    ------
    StepError
        When a clip has no stored features.
    """
    return merger(predictor, *run_stored(predictor, features, clip_ids))(predictor.description.temperature)


def _batches(features: FeatureSet, windows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield runs of windows, sorted by frames, that are of one length and bounded in bytes."""
    for alike in np.split(windows, np.flatnonzero(np.diff(features.frames[windows])) + 1):
        at_once = max(1, READ_BYTES // (4 * features.shape[0] * max(1, int(features.frames[alike[0]]))))
        for start in range(0, len(alike), at_once):
            yield alike[start : start + at_once]


def check_audio_path(predictor: Predictor, clips: Sequence[tuple[str, bytes]], stored: npt.NDArray[Any]) -> float:
    """Compare outputs made from audio bytes with those from stored features; return the largest difference.

    Parameters
    ----------
    predictor
        The model.
    clips
        Path and bytes of some clips.
    stored
        Their outputs from stored features, shape ``(clips, ...)``.

    Raises
    ------
    StepError
        When they differ by more than the model's `rounding`: what is measured is then not what is served.
    """
    served = predictor.predict_outputs([data for _, data in clips])
    difference = np.array([np.abs(one - other).max(initial=0) for one, other in zip(served, stored, strict=True)])
    worst = int(difference.argmax())
    allowed = predictor.description.rounding
    if not difference[worst] <= allowed:
        raise StepError(
            f"{clips[worst][0]}: the model's output from audio differs by {difference[worst]:.2g} from that from "
            f"stored features (at most {allowed:g} was expected), so what is measured is not what is served. "
            "Make both again with: audioml run featurize, audioml run train"
        )
    return float(difference[worst])
