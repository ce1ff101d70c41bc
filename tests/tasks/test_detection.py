from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import DatasetError, ParamsError
from audioml.tasks import detection as task
from audioml.tasks._decoding import find_events, lay_windows, raise_alarms
from audioml.tasks._matching import add, count_events, count_segments
from audioml.tasks._outputs import divide, sum_scores

PARAMS = task.Params(step_s=0.1, min_gap_s=0.0, min_duration_s=0.0)
TARGETS = {"labels": ["dog", "rain"], "thresholds": [0.5, 0.5], "params": PARAMS.model_dump(mode="json")}
PLAIN = {"low_share": 1.0, "median_s": 0.0, "min_gap_s": 0.0, "min_duration_s": 0.0}


def manifest(*labels: str, **columns: list[float]) -> pd.DataFrame:
    paths = [f"{i}.wav" for i in range(len(labels))]
    return pd.DataFrame({"clip_id": paths, "path": paths, "label": labels, **columns})


def track(*probabilities: float) -> np.ndarray:
    return np.array([probabilities], np.float32)


def events(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1) if rows else np.empty((0, 3))


def objects(*clips: np.ndarray) -> np.ndarray:
    found = np.empty(len(clips), dtype=object)
    for i, clip in enumerate(clips):
        found[i] = clip
    return found


def test_labels_are_those_of_the_events() -> None:
    table = manifest("0-1 rain; 2-3 dog; 4-5 dog", "(none)")
    assert task.labels_of(PARAMS, table) == [["dog", "rain"], []]
    targets = task.fit_targets(PARAMS, table)
    assert targets["labels"] == ["dog", "rain"]
    assert json.loads(json.dumps(targets)) == targets


def test_a_recording_with_bad_events_is_named() -> None:
    with pytest.raises(DatasetError, match=r"1\.wav: The label 'dog' is no event"):
        task.labels_of(PARAMS, manifest("0-1 rain", "dog"))


def test_silence_that_is_answered_with_nothing_scores_0_and_breaks_nothing() -> None:
    nothing = objects(events(), events())
    outputs = np.zeros((2, 2, 10), np.float32)
    assert divide(*sum_scores(task, TARGETS, nothing, outputs)) == 0
    there = objects(events((0, 0.1, 0.4)), events())
    outputs[0, 0, 1:4] = 0.9
    assert divide(*sum_scores(task, TARGETS, there, outputs)) == 1


def test_no_event_at_all_is_an_error() -> None:
    with pytest.raises(DatasetError, match="none of 2 has any"):
        task.fit_targets(PARAMS, manifest("(none)", "(none)"))


def test_an_alarm_for_no_label_is_an_error() -> None:
    params = task.Params(alarms=[{"label": "dgo"}])
    with pytest.raises(ParamsError, match=r"'dgo'.*Did you mean 'dog'"):
        task.fit_targets(params, manifest("0-1 dog"))


def test_segments_take_the_events_that_lie_in_them() -> None:
    text = "0.5-1.5 dog; 3-9 rain; 5.95-6.2 dog"
    table = manifest(text, text, text, start_s=[0.0, 1.0, 6.0], duration_s=[1.0, 5.0, 4.0])
    truth = task.truth(TARGETS, table)
    # The dog's last 50 ms in the second segment are too little to count.
    expected = [[[0, 0.5, 1.0]], [[0, 0.0, 0.5], [1, 2.0, 5.0]], [[1, 0.0, 3.0], [0, 0.0, 0.2]]]
    for found, rows in zip(truth, expected, strict=True):
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(np.array(rows), axis=0), atol=1e-9)


def test_window_targets_are_the_share_of_each_step() -> None:
    clips = objects(events((0, 0.25, 0.5)), events((0, 1.0, 9.0), (1, 1.95, 2.0)), events())
    encoded = task.encode_windows(PARAMS, TARGETS, clips, np.array([0.0, 1.6, 0.0]), np.array([0.6, 0.4, 0.2]))
    assert encoded.shape == (3, 2, 6)
    np.testing.assert_allclose(encoded[0], [[0, 0, 0.5, 1, 1, 0], [0] * 6], atol=1e-5)
    np.testing.assert_allclose(encoded[1], [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0.5, 0, 0]], atol=1e-5)
    assert not encoded[2].any()


def test_loss_compares_each_output_frame_with_the_mean_of_its_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(3, 2, 4, generator=generator), torch.rand(3, 2, 12, generator=generator)
    pooled = targets.reshape(3, 2, 4, 3).mean(dim=3).numpy()
    p = scipy.special.expit(outputs.numpy().astype(np.float64))
    expected = -(pooled * np.log(p) + (1 - pooled) * np.log(1 - p)).mean()
    assert float(task.loss(PARAMS, outputs, targets)) == pytest.approx(expected, rel=1e-5)


def test_head_answers_for_each_frame() -> None:
    head = task.build_head(PARAMS, TARGETS, 8)
    x = torch.randn(3, 8, 11)
    expected = torch.einsum("lw,nwf->nlf", head.weight[:, :, 0], x) + head.bias[None, :, None]
    assert torch.allclose(head(x), expected, atol=1e-6)


@given(st.integers(1, 40), st.integers(2, 9), st.sampled_from([0.5, 1.0]))
def test_windows_of_a_linear_course_are_laid_on_it(n_frames: int, n_windows: int, hop_share: float) -> None:
    """Each window shows the same course of time, so their mean is that course, whatever their overlap."""
    duration_s, step_s = 2.0, 0.1
    offsets_s = np.arange(n_windows) * duration_s * hop_share
    middles_s = (np.arange(n_frames) + 0.5) / n_frames * duration_s
    windows = ((offsets_s[:, None] + middles_s) / 100)[:, None].astype(np.float32)
    laid = lay_windows(windows, offsets_s, np.full(n_windows, duration_s), step_s)
    times_s = (np.arange(laid.shape[1]) + 0.5) * step_s
    assert laid.shape[1] == round((offsets_s[-1] + duration_s) / step_s)
    # Beyond the middles of its first and last frame a window can only repeat them.
    np.testing.assert_allclose(laid[0], times_s / 100, atol=duration_s / n_frames / 2 / 100 + 1e-6)


def test_the_track_of_a_padded_clip_is_as_long_as_the_clip() -> None:
    window = np.zeros((1, 1, 20), np.float32)
    window[0, 0, 5:15] = 1.0
    laid = lay_windows(window, np.array([-0.5]), np.array([2.0]), 0.1)
    assert laid.shape == (1, 10)
    assert laid.min() > 0.9


def test_hysteresis_starts_high_and_lasts_while_it_is_not_low() -> None:
    probabilities = track(0.1, 0.4, 0.9, 0.4, 0.2, 0.4, 0.4, 0.1, 0.8)
    found = find_events(probabilities, [0.7], {**PLAIN, "low_share": 0.5}, 0.1)
    np.testing.assert_allclose(found[:, :3], [[0, 0.1, 0.4], [0, 0.8, 0.9]], atol=1e-9)
    assert found[0, 3] == pytest.approx((0.4 + 0.9 + 0.4) / 3)


def test_short_gaps_are_closed_before_short_events_are_dropped() -> None:
    probabilities = track(0.9, 0.9, 0, 0.9, 0, 0, 0, 0.9, 0)
    found = find_events(probabilities, [0.5], {**PLAIN, "min_gap_s": 0.2, "min_duration_s": 0.2}, 0.1)
    np.testing.assert_allclose(found[:, :3], [[0, 0.0, 0.4]], atol=1e-9)


def test_a_median_filter_takes_out_single_steps() -> None:
    probabilities = track(0, 0.9, 0, 0, 0.9, 0.9, 0.9, 0)
    found = find_events(probabilities, [0.5], {**PLAIN, "median_s": 0.3}, 0.1)
    np.testing.assert_allclose(found[:, 1:3], [[0.4, 0.7]], atol=1e-9)


def best_match(there: np.ndarray, found: np.ndarray, collar_s: float, share: float | None) -> int:
    """The most pairs by trying all assignments."""
    fits = [
        [
            a[0] == b[0]
            and abs(a[1] - b[1]) <= collar_s + 1e-6
            and (share is None or abs(a[2] - b[2]) <= max(collar_s, share * (a[2] - a[1])) + 1e-6)
            for b in found
        ]
        for a in there
    ]
    columns = [*range(len(found)), *[None] * len(there)]
    return max(
        (
            sum(column is not None and fits[row][column] for row, column in enumerate(chosen))
            for chosen in itertools.permutations(columns, len(there))
        ),
        default=0,
    )


@pytest.mark.parametrize("share", [None, 0.2])
@pytest.mark.parametrize("seed", range(12))
def test_event_counts_are_those_of_the_best_matching(seed: int, share: float | None) -> None:
    rng = np.random.default_rng(seed)

    def draw(n: int) -> np.ndarray:
        onsets = rng.integers(0, 12, n) / 10
        return np.stack([rng.integers(0, 2, n), onsets, onsets + rng.integers(2, 15, n) / 10], axis=1)

    there, found = draw(rng.integers(0, 4)), draw(rng.integers(0, 4))
    counts = count_events(there, found, 2, 0.2, share)
    assert counts.hits.sum() == best_match(there, found, 0.2, share)
    assert (counts.found.sum(), counts.there.sum()) == (len(found), len(there))


def test_segments_count_each_second_that_an_event_touches() -> None:
    there, found = events((0, 0.5, 2.5), (1, 3.0, 4.0)), events((0, 1.0, 3.2), (1, 7.9, 8.0))
    counts = count_segments(there, found, 2, 1.0)
    assert counts.hits.tolist() == [2, 0]
    assert counts.found.tolist() == [3, 1]
    assert counts.there.tolist() == [3, 1]


def draw_clips(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    outputs, truth = [], []
    for _ in range(5):
        n = int(rng.integers(30, 60))
        smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(5) / 5, "same"), 1, rng.random((2, n)))
        outputs.append(smooth.astype(np.float32))
        onsets = np.sort(rng.random(3)) * n / 20
        truth.append(np.stack([rng.integers(0, 2, 3), onsets, onsets + 0.5], axis=1))
    return objects(*truth), objects(*outputs)


def test_the_primary_metric_is_the_ratio_of_the_clips_scores() -> None:
    truth, outputs = draw_clips()
    scores = task.score_clips(TARGETS, truth, outputs)
    assert scores.shape == (5, 2)
    measured = task.measure(TARGETS, truth, outputs)
    assert measured[task.PRIMARY] == pytest.approx(scores[:, 0].sum() / scores[:, 1].sum())
    precision, recall = measured["event_precision"], measured["event_recall"]
    assert measured["event_f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_frame_ap_is_that_of_sklearn() -> None:
    truth, outputs = draw_clips(1)
    measured = task.measure(TARGETS, truth, outputs)
    each = []
    for label in range(2):
        there = np.concatenate(
            [
                [any(e[0] == label and e[1] <= (i + 0.5) * 0.1 < e[2] for e in clip) for i in range(output.shape[1])]
                for clip, output in zip(truth, outputs, strict=True)
            ]
        )
        each.append(sklearn.metrics.average_precision_score(there, np.concatenate([o[label] for o in outputs])))
    assert measured["frame_map"] == pytest.approx(np.mean(each), abs=0.03)  # steps half covered may differ


def test_thresholds_are_tuned_to_the_highest_event_f1() -> None:
    truth, outputs = draw_clips(2)
    tuned = task.tune_outputs(PARAMS, TARGETS, truth, outputs)
    for label in range(2):
        f1 = {}
        for threshold in task.TRIED_THRESHOLDS:
            thresholds = [threshold if i == label else 0.5 for i in range(2)]
            per_label = task.tables({**TARGETS, "thresholds": thresholds}, truth, outputs)["per_label"]
            f1[threshold] = per_label["f1"][label]
        assert f1[tuned["thresholds"][label]] == max(f1.values()) > 0
    silent = objects(*(np.zeros_like(output) for output in outputs))
    assert task.tune_outputs(PARAMS, TARGETS, truth, silent)["thresholds"] == [0.5, 0.5]


def test_description_is_json_with_events_by_onset() -> None:
    output = np.zeros((2, 20), np.float32)
    output[1, 3:7], output[0, 10:12] = 0.8, 0.6
    found = task.describe(TARGETS, output)
    assert json.loads(json.dumps(found)) == {
        "events": [
            {"label": "rain", "onset_s": 0.3, "offset_s": 0.7, "confidence": 0.8},
            {"label": "dog", "onset_s": 1.0, "offset_s": 1.2, "confidence": 0.6},
        ]
    }
    rules = [{"label": "rain", "min_confidence": 0.7, "min_duration_s": 0.2, "cooldown_s": 5.0}]
    targets = {**TARGETS, "params": {**TARGETS["params"], "alarms": rules}}
    assert task.describe(targets, output)["alarms"] == [{"label": "rain", "time_s": 0.5, "confidence": 0.8}]


def test_alarms_need_confidence_and_length_and_wait_for_their_cooldown() -> None:
    def event(onset_s: float, length_s: float, confidence: float, label: str = "dog") -> dict[str, object]:
        return {"label": label, "onset_s": onset_s, "offset_s": onset_s + length_s, "confidence": confidence}

    heard = [event(0, 5, 0.4), event(6, 0.5, 0.9), event(8, 2, 0.9), event(12, 2, 0.9), event(18, 2, 0.9)]
    heard += [event(19, 2, 0.9, "cat")]
    rule = {"label": "dog", "min_confidence": 0.5, "min_duration_s": 1.0, "cooldown_s": 10.0}
    assert [alarm["time_s"] for alarm in raise_alarms(heard, [rule])] == [9.0, 19.0]


def test_tables_and_figures_are_of_all_labels() -> None:
    truth, outputs = draw_clips(3)
    per_label = task.tables(TARGETS, truth, outputs)["per_label"]
    assert per_label["label"].tolist() == ["dog", "rain"]
    assert per_label["events"].sum() == 15
    figures = task.figures(TARGETS, truth, outputs)
    assert set(task.REPORTED) <= set(figures)
    assert len(figures["timelines"].axes) == 5


def test_import_needs_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = "{'torch', 'sklearn', 'matplotlib', 'pandas'}"
    code = f"import sys, audioml.tasks.detection; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def draw_recording(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Events there and found, three of each for nothing."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> np.ndarray:
        onsets = rng.random(n) * 20
        return np.stack([rng.integers(0, 3, n), onsets, onsets + 0.5 + rng.random(n) * 3], axis=1)

    there = draw(12)
    moved = np.outer(rng.normal(0, 0.15, 9), [0, 1, 1]) + np.outer(rng.normal(0, 0.15, 9), [0, 0, 1])
    found = np.concatenate([there[:9] + moved, draw(3)])
    found[:, 1] = np.maximum(found[:, 1], 0)
    return there, found


@pytest.mark.parametrize(
    ("share", "micro", "macro"),
    [(None, 0.6666666666666666, 0.6573200442967885), (0.2, 0.5791666666666667, 0.5644296788482834)],
)
def test_metrics_are_those_of_sed_eval(share: float | None, micro: float, macro: float) -> None:
    """What sed_eval 0.2.1 gives for these recordings, with optimal matching; it does not run on numpy 2 as it is."""
    clips = [draw_recording(seed) for seed in range(20)]
    counts = add([count_events(there, found, 3, 0.2, share) for there, found in clips], 3)
    segments = add([count_segments(there, found, 3, 1.0) for there, found in clips], 3)
    f1 = [2 * c.hits.sum() / (c.found.sum() + c.there.sum()) for c in (counts, segments)]
    assert f1 == pytest.approx([micro, 0.8243478260869566])
    assert [counts.f1().mean(), segments.f1().mean()] == pytest.approx([macro, 0.8213508147579879])
