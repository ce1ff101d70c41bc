"""Sound events in recordings of any length: what is heard, from when to when, and which alarms that raises.

The column `label` holds a recording's events (`audioml.labels`): ``0.5-1.2 dog; 3-3.4 rain``. Clips that are segments
of a recording take those that lie in them. `targets` holds the ``labels``, sorted, the ``thresholds`` of each, and what
turns outputs into events and judges them; a clip's output is a track of probabilities, ``(labels, steps)``, as long as
the clip. torch, scikit-learn, pandas and matplotlib are imported where they are used: serving needs none of them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioml.errors import DatasetError, ParamsError, did_you_mean
from audioml.labels import Event, parse_events
from audioml.params import Section, Share
from audioml.tasks._decoding import find_events, lay_windows, raise_alarms
from audioml.tasks._matching import Counts, add, count_events, count_segments
from audioml.tasks._ranking import average_precisions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "event_f1"
"""Over all events of all labels: twice those found, over those there and those claimed."""
MIN_LABELS = 1
LISTS = {
    "events": {"label": str, "onset_s": float, "offset_s": float, "confidence": float},
    "alarms": {"label": str, "time_s": float, "confidence": float},
}
"""What the lists of an answer hold, by name."""
REPORTED = ("timelines",)
"""Figures that the report shows beside the tables."""
THRESHOLD = 0.5
"""Until `tune_outputs` has chosen others."""
TRIED_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
SEGMENT_S = 1.0
"""Of the segment-based F1, as in the DCASE challenges."""
MIN_PIECE_S = 0.1
"""What a segment's edge leaves of an event is not counted when it is shorter than this."""
SHOWN_CLIPS = 6

Floats = NDArray[np.float32]
Objects = NDArray[np.object_]
"""`(clips,)`: of each clip float64 `(events, 3)`: position of the label, onset and offset in seconds in the clip."""


class Alarm(Section):
    """When an event raises an alarm."""

    label: str
    min_confidence: Share = 0.0
    """Mean probability over the event."""
    min_duration_s: Annotated[float, Field(ge=0)] = 0.0
    """How long it must last; the alarm comes then."""
    cooldown_s: Annotated[float, Field(ge=0)] = 0.0
    """After an alarm of this rule, time until the next."""


class Params(Section):
    """How events are told from outputs, how they are judged, and which raise alarms."""

    step_s: Annotated[float, Field(gt=0)] = 0.02
    """Of targets and of the tracks that outputs become, in seconds; a model that is coarser is interpolated."""
    low_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """An event lasts while its probability is above this share of the label's threshold; 1: of the threshold."""
    median_s: Annotated[float, Field(ge=0)] = 0.0
    """Length of a median filter over the track; 0 for none."""
    min_gap_s: Annotated[float, Field(ge=0)] = 0.1
    """Events of one label that are closer than this are one."""
    min_duration_s: Annotated[float, Field(ge=0)] = 0.1
    """Events shorter than this are dropped."""
    collar_s: Annotated[float, Field(ge=0)] = 0.2
    """An event is found when its onset is off by this at most."""
    offset_share: Share | None = None
    """And its offset by this share of its length, or `collar_s` if that is more (0.2 in the DCASE challenges); None:
    offsets do not matter."""
    alarms: tuple[Alarm, ...] = ()
    """Rules, such as {label: glass, min_confidence: 0.8, min_duration_s: 0.2, cooldown_s: 60}."""


def labels_of(params: Params, manifest: pd.DataFrame) -> list[list[str]]:
    """Return the labels of each clip's events, sorted, each once."""
    return [sorted({event.label for event in events}) for events in _read_events(manifest)]


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the labels of the training clips' events, sorted, a threshold of 0.5 each, and the params.

    Raises
    ------
    DatasetError
        When there is no event.
    ParamsError
        When an alarm is for a label that there is not.
    """
    labels = sorted({label for own in labels_of(params, manifest) for label in own})
    if not labels:
        raise DatasetError(
            f"Detection needs training clips with events, but none of {len(manifest)} has any. Annotate some, or "
            "choose another column with data.label."
        )
    for alarm in params.alarms:
        if alarm.label not in labels:
            raise ParamsError(
                f"params.yaml: 'task.alarms' has a rule for {alarm.label!r}, but no training clip has such an event."
                f"{did_you_mean(alarm.label, labels)} Labels: {', '.join(labels)}."
            )
    return {"labels": labels, "thresholds": [THRESHOLD] * len(labels), "params": params.model_dump(mode="json")}


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> Floats:
    """Return float32 (clips, labels): 1 where the clip has an event of the label, else 0."""
    encoded = np.zeros((len(manifest), len(targets["labels"])), dtype=np.float32)
    for clip, events in enumerate(truth(targets, manifest)):
        encoded[clip, events[:, 0].astype(int)] = 1.0
    return encoded


def encode_windows(
    params: Params,
    targets: dict[str, Any],
    truth: Objects,
    offsets_s: NDArray[np.float64],
    durations_s: NDArray[np.float64],
) -> Floats:
    """Return float32 (windows, labels, steps): the share of each step that an event of the label covers.

    Parameters
    ----------
    truth
        (windows,): the events of each window's clip.
    offsets_s, durations_s
        (windows,): where each window starts in its clip, and how long it is, in seconds.
    """
    n_steps = np.maximum(1, np.round(durations_s / params.step_s).astype(int))
    encoded = np.zeros((len(truth), len(targets["labels"]), n_steps.max()), dtype=np.float32)
    for window, (events, offset_s, n) in enumerate(zip(truth, offsets_s, n_steps, strict=True)):
        starts, stops = ((events[:, i] - offset_s) / params.step_s for i in (1, 2))
        for i in np.flatnonzero((stops > 0) & (starts < n)):
            first, last = max(0, math.floor(starts[i])), min(n, math.ceil(stops[i]))
            steps = np.arange(first, last)
            share = np.minimum(steps + 1, stops[i]) - np.maximum(steps, starts[i])
            row = encoded[window, int(events[i, 0]), first:last]
            np.maximum(row, share, out=row, casting="same_kind")
    return encoded


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return a linear layer on each frame: (n, width, frames) to logits (n, labels, frames)."""
    from torch import nn

    return nn.Conv1d(width, len(targets["labels"]), 1)


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits (n, labels, frames) against soft targets (n, labels, steps).

    The targets are averaged over each frame of the outputs.
    """
    from torch.nn.functional import adaptive_avg_pool1d, binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(outputs, adaptive_avg_pool1d(targets, outputs.shape[2]))


def merge_tracks(
    targets: dict[str, Any], outputs: Floats, offsets_s: NDArray[np.float64], durations_s: NDArray[np.float64]
) -> Floats:
    """Return float32 (labels, steps): the mean of the sigmoids of the windows' logits (windows, labels, frames)."""
    from scipy.special import expit

    return lay_windows(expit(outputs), offsets_s, durations_s, targets["params"]["step_s"])


def tune_outputs(params: Params, targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, Any]:
    """Return the targets with the thresholds that give each label its highest event F1 on these clips.

    Of those that do as well, the middle one; a label of which nothing is found keeps its threshold.
    """
    n_labels = len(targets["labels"])
    scores = np.stack(
        [
            _count(count_events, {**targets, "thresholds": [threshold] * n_labels}, truth, outputs).f1()
            for threshold in TRIED_THRESHOLDS
        ]
    )
    thresholds = list(targets["thresholds"])
    for label in np.flatnonzero(scores.max(axis=0)):
        best = np.flatnonzero(scores[:, label] == scores[:, label].max())
        thresholds[label] = TRIED_THRESHOLDS[best[len(best) // 2]]
    return {**targets, "thresholds": thresholds}


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the events by onset: label, onset_s, offset_s, confidence; and the alarms, where there are rules."""
    events = [
        {
            "label": targets["labels"][int(label)],
            "onset_s": round(onset_s, 3),
            "offset_s": round(offset_s, 3),
            "confidence": round(confidence, 4),
        }
        for label, onset_s, offset_s, confidence in _decode(targets, output).tolist()
    ]
    rules = targets["params"]["alarms"]
    return {"events": events, **({"alarms": raise_alarms(events, rules)} if rules else {})}


def truth(targets: dict[str, Any], manifest: pd.DataFrame) -> Objects:
    """Return the events of each clip, float64 (events, 3), in an array of objects (clips,).

    Raises
    ------
    DatasetError
        When there is an event of a label that no training clip has.
    """
    position = {label: i for i, label in enumerate(targets["labels"])}
    clips = _read_events(manifest)
    if unknown := sorted({event.label for events in clips for event in events} - set(position)):
        raise DatasetError(
            f"The labels {unknown} have no clip for training, so they cannot be learned or judged "
            f"(there are: {', '.join(targets['labels'])}). Add clips of them, remove them, or split otherwise."
        )
    found = np.empty(len(clips), dtype=object)
    for i, events in enumerate(clips):
        rows = [(position[event.label], event.onset_s, event.offset_s) for event in events]
        found[i] = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return found


def describe_truth(targets: dict[str, Any], truth: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the events of a clip as a prediction lists them."""
    return [
        {"label": targets["labels"][int(label)], "onset_s": onset_s, "offset_s": offset_s}
        for label, onset_s, offset_s in truth.tolist()
    ]


def score_clips(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64 (clips, 2): twice the events found; and those there and those claimed. Their ratio is F1."""
    each = [_count(count_events, targets, truth[i : i + 1], outputs[i : i + 1]) for i in range(len(truth))]
    return np.array([(2 * c.hits.sum(), c.found.sum() + c.there.sum()) for c in each], dtype=np.float64).reshape(-1, 2)


def measure(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, float]:
    """Return event F1 with precision and recall, segment F1 (1 s), macro means of both, and mean frame AP.

    And ``f1/<label>`` (event-based) and ``ap/<label>`` (frames) of each label that these clips have.
    """
    events, segments = (_count(count, targets, truth, outputs) for count in (count_events, count_segments))
    per_label = _score_labels(targets, events, segments, truth, outputs)
    seen = per_label[per_label["events"] > 0]
    hits, found, there = (int(values.sum()) for values in events)
    segment_hits, segments_found, segments_there = (int(values.sum()) for values in segments)
    metrics = {
        "event_f1": 2 * hits / max(found + there, 1),
        "event_precision": hits / max(found, 1),
        "event_recall": hits / max(there, 1),
        "segment_f1": 2 * segment_hits / max(segments_found + segments_there, 1),
        "macro_event_f1": float(seen["f1"].mean()),
        "macro_segment_f1": float(seen["segment_f1"].mean()),
        "frame_map": float(seen["ap"].mean()),
    }
    for name in ("f1", "ap"):
        metrics |= {f"{name}/{label}": float(value) for label, value in zip(seen["label"], seen[name], strict=True)}
    return metrics


def tables(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, pd.DataFrame]:
    """Return `per_label`: f1, precision, recall (events), segment_f1, ap (frames), threshold, events, found."""
    events, segments = (_count(count, targets, truth, outputs) for count in (count_events, count_segments))
    return {"per_label": _score_labels(targets, events, segments, truth, outputs)}


def figures(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, Figure]:
    """Return the figures `f1_per_label`, and `timelines` of the clips that went worst."""
    from audioml.tasks._figures import draw_bars, draw_timelines

    counts = _count(count_events, targets, truth, outputs)
    seen = np.flatnonzero(counts.there)
    drawn = {}
    if len(seen):
        labels = [targets["labels"][i] for i in seen]
        drawn["f1_per_label"] = draw_bars(counts.f1()[seen], labels, counts.there[seen], "Event F1", "events")
    right, weight = score_clips(targets, truth, outputs).T
    worst = np.argsort(right - weight, kind="stable")[:SHOWN_CLIPS]
    clips = [(truth[i], _decode(targets, outputs[i]), outputs[i].shape[1] * _step_s(targets)) for i in worst]
    return {**drawn, "timelines": draw_timelines(clips, targets["labels"])}


def _read_events(manifest: pd.DataFrame) -> list[list[Event]]:
    """Return the events of each clip: of a segment those of its recording that lie in it, from its start."""
    n = len(manifest)
    starts_s = manifest["start_s"].tolist() if "start_s" in manifest else [0.0] * n
    durations_s = manifest["duration_s"].tolist() if "duration_s" in manifest else [math.inf] * n
    paths = manifest["path"].tolist() if "path" in manifest else manifest["clip_id"].tolist()
    parsed: dict[str, list[Event]] = {}
    clips = []
    for path, text, start_s, duration_s in zip(paths, manifest["label"], starts_s, durations_s, strict=True):
        # Segments of a recording share their text.
        if text not in parsed:
            try:
                parsed[text] = parse_events(str(text))
            except DatasetError as error:
                raise DatasetError(f"{path}: {error}") from None
        pieces = (_cut(event, start_s, duration_s) for event in parsed[text])
        clips.append([piece for piece in pieces if piece is not None])
    return clips


def _cut(event: Event, start_s: float, duration_s: float) -> Event | None:
    """Return what a clip holds of an event; None for nothing, or too little of what goes on beyond its edges."""
    onset_s, offset_s = max(event.onset_s - start_s, 0.0), min(event.offset_s - start_s, duration_s)
    whole_s = event.offset_s - event.onset_s
    return Event(onset_s, offset_s, event.label) if offset_s - onset_s >= min(MIN_PIECE_S, whole_s) else None


def _step_s(targets: dict[str, Any]) -> float:
    return float(targets["params"]["step_s"])


def _decode(targets: dict[str, Any], output: Floats) -> NDArray[np.float64]:
    return find_events(output, targets["thresholds"], targets["params"], _step_s(targets))


def _count(how: Any, targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> Counts:
    """Return the counts of `count_events` or `count_segments` over clips."""
    judge, n_labels = targets["params"], len(targets["labels"])
    if how is count_events:
        count = partial(count_events, collar_s=judge["collar_s"], offset_share=judge["offset_share"])
    else:
        count = partial(count_segments, segment_s=SEGMENT_S)
    clips = zip(truth, outputs, strict=True)
    return add([count(there, _decode(targets, output), n_labels) for there, output in clips], n_labels)


def _score_labels(
    targets: dict[str, Any], events: Counts, segments: Counts, truth: Objects, outputs: NDArray[Any]
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "label": targets["labels"],
            "f1": events.f1(),
            "precision": events.hits / np.maximum(events.found, 1),
            "recall": events.hits / np.maximum(events.there, 1),
            "segment_f1": segments.f1(),
            "ap": _score_frames(targets, truth, outputs),
            "threshold": targets["thresholds"],
            "events": events.there,
            "found": events.found,
        }
    )


def _score_frames(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> list[float]:
    """Return the average precision of each label over the steps of all tracks."""
    params = Params(step_s=_step_s(targets))
    durations_s = np.array([output.shape[1] for output in outputs]) * params.step_s
    covered = [
        encode_windows(params, targets, truth[i : i + 1], np.zeros(1), durations_s[i : i + 1])[0] >= 0.5
        for i in range(len(truth))
    ]
    scores = []
    for label in range(len(targets["labels"])):
        there, probabilities = (np.concatenate([clip[label] for clip in clips]) for clips in (covered, outputs))
        scores.append(float(average_precisions(there, probabilities, np.ones((1, len(there))))[0]))
    return scores
