from __future__ import annotations

import itertools

import numpy as np
import pytest

from audioml.tasks._ctc_decoding import WordDecoder, align, decode_greedily
from audioml.tasks._ngrams import END, NGrams

SEPARATOR = 1
LEXICON = {"a": [[2]], "ab": [[2, 3]], "b": [[3], [2, 2]]}


def path(*units: int, n_units: int = 3, sure: float = 0.9) -> np.ndarray:
    """Log-probabilities of frames in which these units are the most probable."""
    probabilities = np.full((n_units + 1, len(units)), (1 - sure) / n_units)
    probabilities[list(units), range(len(units))] = sure
    return np.log(probabilities).astype(np.float32)


def collapse(units: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(unit for unit, _ in itertools.groupby(units) if unit)


def test_greedy_decoding_drops_blanks_and_repetitions() -> None:
    assert decode_greedily(path(0, 2, 2, 0, 2, 3, 3, 0)) == [2, 2, 3]
    assert decode_greedily(path(0, 0)) == []


def find_best(
    log_probabilities: np.ndarray, model: NGrams, weight: float, bonus: float
) -> list[tuple[str, tuple[int, ...]]]:
    """The most probable words by going through all paths and all sequences of words."""
    n_units, n_frames = log_probabilities.shape
    heard: dict[tuple[int, ...], float] = {}
    for units in itertools.product(range(n_units), repeat=n_frames):
        probability = log_probabilities[list(units), range(n_frames)].sum()
        heard[collapse(units)] = np.logaddexp(heard.get(collapse(units), -np.inf), probability)
    best: tuple[float, list[tuple[str, tuple[int, ...]]]] = (-np.inf, [])
    for n_words in range(4):
        for words in itertools.product(LEXICON, repeat=n_words):
            numbers = [model.numbers[word] for word in words]
            language = sum(
                weight * model.log_probability(tuple(numbers[:i]), word) + (bonus if word != END else 0)
                for i, word in enumerate([*numbers, END])
            )
            for spelling in itertools.product(*(LEXICON[word] for word in words)):
                units: list[int] = []
                for i, spelled in enumerate(spelling):
                    units += [SEPARATOR, *spelled] if i else spelled
                for ending in [(), (SEPARATOR,)] if words else [()]:
                    score = heard.get((*units, *ending), -np.inf) + language
                    best = max(best, (score, list(zip(words, map(tuple, spelling), strict=True))))
    return best[1]


@pytest.mark.parametrize("seed", range(20))
def test_beam_search_finds_what_going_through_all_paths_finds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = 2 * generator.standard_normal((4, 6))
    log_probabilities = (logits - np.log(np.exp(logits).sum(axis=0))).astype(np.float32)
    model = NGrams.of_texts([("a", "b"), ("ab",), ("b", "a", "b")], 2)
    weight, bonus = generator.uniform(0, 2), generator.uniform(0, 2)
    decoder = WordDecoder(model, LEXICON, SEPARATOR, beam=1000, weight=weight, bonus=bonus)
    assert decoder.decode(log_probabilities) == find_best(log_probabilities, model, weight, bonus)


def test_the_language_model_decides_what_sounds_alike() -> None:
    lexicon = {"two": [[2]], "too": [[2]], "me": [[3]]}
    model = NGrams.of_texts([("me", "too"), ("me", "too"), ("two",), ("two",), ("two", "me")], 2)
    decoder = WordDecoder(model, lexicon, SEPARATOR, weight=1.0)
    assert decoder.decode(path(0, 2, 0)) == [("two", (2,))]
    assert decoder.decode(path(3, 1, 2, 0)) == [("me", (3,)), ("too", (2,))]


def test_silence_is_no_words() -> None:
    assert WordDecoder(NGrams.of_texts([("a",), ()], 1), {"a": [[2]]}, SEPARATOR).decode(path(0, 0, 0)) == []


def test_what_fits_no_words_is_none() -> None:
    model = NGrams.of_texts([("bab",)], 1)
    decoder = WordDecoder(model, {"bab": [[3, 2, 3]]}, SEPARATOR, beam=1)
    assert decoder.decode(path(3, 3, sure=0.999)) is None


def test_a_word_said_in_another_way_is_found_all_the_same() -> None:
    """The last unit is less probable than what a search follows at first."""
    model = NGrams.of_texts([("ba",)], 1)
    decoder = WordDecoder(model, {"ba": [[3, 2]]}, SEPARATOR, beam=1)
    assert decoder.decode(path(3, 3, 0, sure=0.99999)) == [("ba", (3, 2))]


def test_units_stand_where_they_are_heard() -> None:
    spans = align(path(0, 2, 2, 0, 2, 3, 3, 0), [2, 2, 3])
    assert spans.tolist() == [[1, 2], [4, 4], [5, 6]]


def test_units_are_found_where_others_are_more_probable() -> None:
    log_probabilities = path(0, 2, 2, 0, 3, 0)
    log_probabilities[1, 2] = np.log(0.05)
    assert align(log_probabilities, [2, 1, 3])[1].tolist() == [2, 2]


def test_too_few_frames_and_no_units() -> None:
    assert align(path(2), [2, 3]).tolist() == [[0, 0], [0, 0]]
    assert align(path(0, 0), []).shape == (0, 2)
