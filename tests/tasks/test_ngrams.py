from __future__ import annotations

import json
import math

import pytest

from audioml.tasks._ngrams import END, NGrams

TEXTS = [("a", "b"), ("a", "c"), ("b",), ()]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_after_any_words_sum_to_one(order: int) -> None:
    model = NGrams.of_texts(TEXTS, order)
    for context in [(), (1,), (2,), (1, 2), (3, 3)]:
        words = [END, *model.numbers.values()]
        assert sum(math.exp(model.log_probability(context, word)) for word in words) == pytest.approx(1)


def test_probabilities_are_those_of_witten_and_bell() -> None:
    model = NGrams.of_texts(TEXTS, 2)
    # Of all 9 words and ends: a 2, b 2, c 1, the end 4. Of the 4 texts a begins 2, b 1, and one has no word.
    unigram = (2 + 4 * (1 / 4)) / (9 + 4)
    assert math.exp(model.log_probability((), model.numbers["a"])) == pytest.approx((2 + 3 * unigram) / (4 + 3))


def test_what_was_seen_is_more_probable() -> None:
    model = NGrams.of_texts(TEXTS, 2)
    a, b, c = (model.numbers[word] for word in "abc")
    assert model.log_probability((a,), b) > model.log_probability((b,), c)
    assert model.log_probability((b,), END) > model.log_probability((b,), a)


def test_only_the_last_words_matter() -> None:
    model = NGrams.of_texts(TEXTS, 2)
    a, b, c = (model.numbers[word] for word in "abc")
    assert model.log_probability((c, c, a), b) == model.log_probability((a,), b)
    of_words_alone = NGrams.of_texts(TEXTS, 1)
    assert of_words_alone.log_probability((c, a), b) == of_words_alone.log_probability((), b)


def test_it_survives_json() -> None:
    model = NGrams.of_texts(TEXTS, 3)
    again = NGrams.from_json(json.loads(json.dumps(model.as_json())))
    assert again == model
