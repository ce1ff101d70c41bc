"""Windows that overlap to one track of probabilities a clip, tracks to events, and events to alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Events = NDArray[np.float64]
"""`(events, 4)`: position of the label, onset and offset in seconds, confidence; by onset."""


def lay_windows(windows: Floats, offsets_s: Events, durations_s: Events, step_s: float) -> Floats:
    """Return one track of a clip: the mean of the windows that cover each step, each interpolated between its frames.

    A clip shorter than its window, which zeros were put around, gets a track of its own length.

    Parameters
    ----------
    windows
        `(windows, labels, frames)`: probabilities, evenly spaced over each window.
    offsets_s, durations_s
        `(windows,)`: where each window starts in its clip, and how long it is, in seconds.
    step_s
        Of the track, in seconds.

    Returns
    -------
    ndarray
        float32 `(labels, steps)`: step `i` is from ``i * step_s`` on; 0 where no window is.
    """
    n_labels, n_frames = windows.shape[1:]
    # Zeros before the clip, as many as after it, are cut off.
    ends_s = offsets_s + durations_s + np.minimum(offsets_s, 0.0)
    n_steps = max(1, math.ceil(ends_s.max() / step_s - 1e-6))
    total, covered = np.zeros((n_labels, n_steps)), np.zeros(n_steps)
    for window, offset_s, duration_s in zip(windows, offsets_s, durations_s, strict=True):
        first = max(0, math.ceil(offset_s / step_s - 0.5))
        last = min(n_steps, math.ceil((offset_s + duration_s) / step_s - 0.5))
        middles_s = (np.arange(first, last) + 0.5) * step_s - offset_s
        place = np.clip(middles_s / duration_s * n_frames - 0.5, 0, n_frames - 1)
        before = np.minimum(place.astype(int), max(n_frames - 2, 0))
        after = np.minimum(before + 1, n_frames - 1)
        weight = place - before
        total[:, first:last] += window[:, before] * (1 - weight) + window[:, after] * weight
        covered[first:last] += 1
    track: Floats = (total / np.maximum(covered, 1)).astype(np.float32)
    return track


def find_events(track: Floats, thresholds: Sequence[float], decoding: Mapping[str, float], step_s: float) -> Events:
    """Return the events of a track, by hysteresis: an event reaches `high` once and stays above `low`.

    Parameters
    ----------
    track
        `(labels, steps)`: probabilities.
    thresholds
        `high` of each label.
    decoding
        ``low_share`` (`low` as a share of `high`), ``median_s``, ``min_gap_s``, ``min_duration_s``, as in the params.
    step_s
        Of the track, in seconds.
    """
    smooth = _smooth(track, decoding["median_s"] / step_s)
    found = [
        (label, *span)
        for label, high in enumerate(thresholds)
        for span in _find_spans(smooth[label], high, high * decoding["low_share"], decoding, step_s)
    ]
    events = np.array(sorted(found, key=lambda event: (event[1], event[0])), dtype=np.float64)
    return events.reshape(-1, 4)


def raise_alarms(
    events: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]
) -> list[dict[str, str | float]]:
    """Return the alarms of a clip by time: label, time_s, confidence.

    An event that is sure and long enough raises an alarm as soon as it has lasted so long, unless the same rule has
    raised one less than its ``cooldown_s`` before.

    Parameters
    ----------
    events
        As a prediction lists them, by onset.
    rules
        ``label``, ``min_confidence``, ``min_duration_s``, ``cooldown_s`` of each.
    """
    alarms: list[dict[str, str | float]] = []
    for rule in rules:
        quiet_until_s = -math.inf
        for event in events:
            lasted_s = event["offset_s"] - event["onset_s"]
            if event["label"] != rule["label"] or event["confidence"] < rule["min_confidence"]:
                continue
            time_s = round(event["onset_s"] + rule["min_duration_s"], 3)
            if lasted_s >= rule["min_duration_s"] and time_s >= quiet_until_s:
                alarms.append({"label": rule["label"], "time_s": time_s, "confidence": event["confidence"]})
                quiet_until_s = time_s + rule["cooldown_s"]
    return sorted(alarms, key=lambda alarm: alarm["time_s"])


def _smooth(track: Floats, width_steps: float) -> Floats:
    width = 2 * round((width_steps - 1) / 2) + 1
    if width < 3:
        return track
    from scipy.ndimage import median_filter

    smooth: Floats = median_filter(track, size=(1, width), mode="nearest")
    return smooth


def _find_spans(
    probabilities: Floats, high: float, low: float, decoding: Mapping[str, float], step_s: float
) -> list[tuple[float, float, float]]:
    """Return onset, offset (seconds) and mean probability of each event of one label."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], probabilities >= low, [False]]).astype(np.int8)))
    spans = [(start, stop) for start, stop in edges.reshape(-1, 2) if probabilities[start:stop].max() >= high]
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and (start - joined[-1][1]) * step_s < decoding["min_gap_s"] - 1e-9:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return [
        (start * step_s, stop * step_s, float(probabilities[start:stop].mean()))
        for start, stop in joined
        if (stop - start) * step_s >= decoding["min_duration_s"] - 1e-9
    ]
