from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from audioml.errors import DatasetError, ParamsError, StepError
from audioml.tasks import ctc as task
from audioml.tasks._outputs import stack

PARAMS = task.Params()
TEXTS = ["no one", "one two", "two", "no"]


def manifest(*texts: str, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(texts))], "label": texts, **columns})


def speak(targets: dict[str, Any], *units: str, sure: float = 0.9, frame_s: float = 0.1) -> np.ndarray:
    """The output for a clip in which each frame has one unit; "" is the blank."""
    rows = [0 if unit == "" else targets["units"].index(unit) + 1 for unit in units]
    n = len(targets["units"]) + 1
    probabilities = np.full((n, len(rows)), (1 - sure) / (n - 1))
    probabilities[rows, range(len(rows))] = sure
    ends_s = [np.arange(1, len(rows) + 1) * frame_s]
    return np.concatenate([np.log(probabilities), ends_s]).astype(np.float32)


@pytest.fixture
def targets() -> dict[str, Any]:
    return json.loads(json.dumps(task.fit_targets(PARAMS, manifest(*TEXTS))))


def test_units_are_the_characters_of_the_training_texts(targets: dict[str, Any]) -> None:
    assert targets["units"] == [" ", "e", "n", "o", "t", "w"]
    assert targets["language"]["vocabulary"] == ["no", "one", "two"]
    assert "decoder" not in targets


def test_units_may_be_phonemes_of_a_column() -> None:
    params = task.Params(units="phonemes", pronunciation="ipa")
    clips = manifest("too two", "two", ipa=["t uː | t uː", "t ʊ"])
    targets = task.fit_targets(params, clips)
    assert targets["units"] == [" ", "t", "uː", "ʊ"]
    assert targets["lexicon"] == {"too": [["t", "uː"]], "two": [["t", "uː"], ["t", "ʊ"]]}
    assert task.encode_targets(params, targets, clips).tolist() == [[2, 3, 1, 2, 3], [2, 4, -1, -1, -1]]


def test_units_may_be_phonemes_of_espeak() -> None:
    params = task.Params(units="phonemes")
    targets = task.fit_targets(params, manifest("no one"))
    assert targets["lexicon"]["one"] == [["w", "ʌ", "n"]]


def test_missing_phonemes_are_named() -> None:
    params = task.Params(units="phonemes", pronunciation="ipa")
    with pytest.raises(ParamsError, match=r"'task.pronunciation' is 'ipa'.*Did you mean 'ip'"):
        task.fit_targets(params, manifest("no", ip=["n"]))
    with pytest.raises(DatasetError, match=r"1 of 2 clips have no phonemes.*such as c1"):
        task.fit_targets(params, manifest("no", "on", ipa=["n oʊ", None]))  # type: ignore[list-item]


def test_clips_without_text_and_units_without_training_are_named(targets: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="none of 2 has any"):
        task.fit_targets(PARAMS, manifest("", "..."))
    with pytest.raises(DatasetError, match=r"\['f', 'x'\] are in no training clip"):
        task.encode_targets(PARAMS, targets, manifest("fox"))


def test_encoded_targets_are_numbers_of_units(targets: dict[str, Any]) -> None:
    encoded = task.encode_targets(PARAMS, targets, manifest("No, one!", "two"))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [[3, 4, 1, 4, 3, 2], [5, 6, 4, -1, -1, -1]]


def test_loss_is_that_of_all_alignments() -> None:
    # Two frames and one unit: heard in either or both.
    logits = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(dim=1)[0].double()
    expected = -torch.log(p[1, 0] * p[0, 1] + p[0, 0] * p[1, 1] + p[1, 0] * p[1, 1])
    assert float(task.loss(PARAMS, logits, torch.tensor([[1, -1]]))) == pytest.approx(float(expected), rel=1e-5)


def test_texts_longer_than_their_frames_are_refused() -> None:
    with pytest.raises(StepError, match="A text of 2 characters needs 3 frames, but the model gives 2"):
        task.loss(PARAMS, torch.zeros(1, 3, 2), torch.tensor([[1, 1]]))


def test_a_track_has_log_probabilities_and_times(targets: dict[str, Any]) -> None:
    logits = np.random.default_rng(0).standard_normal((1, 7, 4)).astype(np.float32)
    merged = task.merge_tracks(targets, logits, np.array([0.0]), np.array([2.0]))
    assert merged.dtype == np.float32
    np.testing.assert_allclose(np.exp(merged[:-1]).sum(axis=0), 1, rtol=1e-5)
    assert merged[-1].tolist() == [0.5, 1.0, 1.5, 2.0]
    with pytest.raises(ParamsError, match=r"cut a clip into 2 windows.*Set it to whole"):
        task.merge_tracks(targets, np.zeros((2, 7, 4), np.float32), np.zeros(2), np.ones(2))


def test_an_answer_has_text_words_and_times(targets: dict[str, Any]) -> None:
    output = speak(targets, "", "n", "n", "o", "", " ", "o", "n", "e", "")
    assert task.describe(targets, output) == {
        "text": "no one",
        "confidence": 0.9,
        "words": [
            {"word": "no", "onset_s": 0.1, "offset_s": 0.4, "confidence": 0.9},
            {"word": "one", "onset_s": 0.6, "offset_s": 0.9, "confidence": 0.9},
        ],
    }
    assert task.describe(targets, speak(targets, "", "")) == {"text": "", "confidence": 0.0, "words": []}


def test_a_text_is_followed_by_its_most_probable_units(targets: dict[str, Any]) -> None:
    """In parts of any size it is what is described without a language model in the end."""
    units = ["", "n", "n", "o", "", " ", " ", "o", "n", "", "n", "e", " ", "", "t", "w", "o"]
    output = speak(targets, *units)
    assert task.describe(targets, output)["text"] == "no onne two"
    for sizes in ([1] * 17, [3, 5, 9], [2, 1, 8, 6], [17]):
        feed, stops = task.follow(targets), np.cumsum(sizes)
        texts = [feed(output[:-1, stop - size : stop])["text"] for size, stop in zip(sizes, stops, strict=True)]
        assert texts == [task.describe(targets, output[:, :stop])["text"] for stop in stops]
        assert texts[-1] == "no onne two"


def test_the_language_model_mends_what_was_misheard(targets: dict[str, Any]) -> None:
    outputs = [speak(targets, "o", "n", "", "n", sure=0.6), speak(targets, "t", "w", "o")]
    outputs[0][2, 3] = np.log(0.3)
    truth = task.truth(targets, manifest("one", "two"))
    assert task.describe(targets, outputs[0])["text"] == "onn"
    tuned = task.tune_outputs(PARAMS, targets, truth, stack(outputs))
    assert tuned["decoder"]["beam"] == PARAMS.beam
    assert task.describe(tuned, outputs[0])["text"] == "one"
    assert task.measure(tuned, truth, stack(outputs))["wer"] == 0


def test_without_a_language_model_nothing_is_tuned() -> None:
    params = task.Params(language_order=0)
    targets = task.fit_targets(params, manifest(*TEXTS))
    assert "language" not in targets
    assert task.tune_outputs(params, targets, task.truth(targets, manifest("no")), np.zeros((1, 8, 2))) == targets


def test_phonemes_become_words() -> None:
    params = task.Params(units="phonemes", pronunciation="ipa")
    clips = manifest("too late", "two", ipa=["t uː | l eɪ t", "t uː"])
    targets = task.fit_targets(params, clips)
    outputs = stack([speak(targets, "t", "uː", " ", "l", "eɪ", "t"), speak(targets, "", "t", "uː")])
    truth = task.truth(targets, clips)
    # Until the decoder is tuned, words are what phonemes say.
    assert task.measure(targets, truth, outputs)["wer"] == 0
    tuned = {**targets, "decoder": {"beam": 8, "weight": 1.0, "bonus": 0.0}}
    answers = [task.describe(tuned, output) for output in outputs]
    assert [answer["text"] for answer in answers] == ["too late", "two"]
    assert answers[0]["phonemes"] == "tuː leɪt"
    assert task.measure(tuned, truth, outputs)["per"] == 0


def test_errors_are_counted_by_kind(targets: dict[str, Any]) -> None:
    truth = task.truth(targets, manifest("no one", "two two", "one"))
    outputs = stack(
        [
            speak(targets, "n", "o", " ", "t", "w", "o"),  # one became two
            speak(targets, "t", "w", "o"),  # a two is missing
            speak(targets, "o", "n", "e", " ", "n", "o"),  # a no came in
        ]
    )
    metrics = task.measure(targets, truth, outputs)
    assert metrics["wer"] == pytest.approx(3 / 5)
    assert [metrics[kind] for kind in ("substitutions", "deletions", "insertions")] == pytest.approx([0.2] * 3)
    assert metrics["text_error_rate"] == 1
    assert metrics["cer"] == pytest.approx((3 + 4 + 3) / (6 + 7 + 3))
    assert metrics["unknown_words"] == 0
    assert task.score_clips(targets, truth, outputs).tolist() == [[1, 2], [1, 2], [1, 1]]
    words = task.tables(targets, truth, outputs)["words"].set_index("word")
    assert words.loc["one", ["n", "wrong", "heard_as"]].tolist() == [2, 1, "two"]
    assert words.loc["two", ["n", "wrong", "heard_as"]].tolist() == [2, 1, "–"]
    assert words["wrong"].sum() == 2


def test_words_that_no_training_text_has_are_told(targets: dict[str, Any]) -> None:
    truth = task.truth(targets, manifest("net", "one"))
    outputs = stack([speak(targets, "n", "e", "t"), speak(targets, "o", "n", "e")])
    assert task.measure(targets, truth, outputs)["unknown_words"] == 0.5


def test_figures_are_drawn(targets: dict[str, Any]) -> None:
    truth = task.truth(targets, manifest("no one", "two"))
    outputs = stack([speak(targets, "n", "o", " ", "t", "w", "o"), speak(targets, "")])
    drawn = task.figures(targets, truth, outputs)
    assert set(drawn) == {"errors_per_word", "alignments"}
    titles = [axes.get_title(loc="left") for axes in drawn["alignments"].axes]
    assert titles == ["said: two\nfound: ", "said: no one\nfound: no two"]
