"""Which word follows which: an n-gram language model with Witten-Bell smoothing.

Source: Witten, Bell, "The Zero-Frequency Problem: Estimating the Probabilities of Novel Events in Adaptive Text
Compression", IEEE Transactions on Information Theory 37(4), 1991, method C; interpolated down to a uniform
distribution over the vocabulary. The vocabulary is closed: the words of the texts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

END = 0
"""Stands behind the last word of a text, and before the first one; words are numbered from 1."""
Context = tuple[int, ...]


@dataclass(frozen=True)
class NGrams:
    """Counts of words after up to ``order - 1`` others, and the probabilities that follow from them."""

    order: int
    vocabulary: list[str]
    """Sorted."""
    counts: dict[Context, Counter[int]]
    """How often each word, or the end, followed a context; contexts of all lengths below `order`."""

    @classmethod
    def of_texts(cls, texts: Iterable[Sequence[str]], order: int) -> NGrams:
        """Count the words of texts."""
        texts = [tuple(text) for text in texts]
        vocabulary = sorted({word for text in texts for word in text})
        numbers = {word: i + 1 for i, word in enumerate(vocabulary)}
        counts: dict[Context, Counter[int]] = defaultdict(Counter)
        for text in texts:
            words = [END, *(numbers[word] for word in text), END]
            for i in range(1, len(words)):
                for n in range(min(order - 1, i) + 1):
                    counts[tuple(words[i - n : i])][words[i]] += 1
        return cls(order, vocabulary, dict(counts))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NGrams:
        """Return what `as_json` described."""
        counts = {tuple(context): Counter(dict(zip(words, n, strict=True))) for context, words, n in value["counts"]}
        return cls(value["order"], value["vocabulary"], counts)

    def as_json(self) -> dict[str, Any]:
        """Return the model as JSON values: of each context the words that followed, and how often each did."""
        rows = [[list(context), list(found), list(found.values())] for context, found in sorted(self.counts.items())]
        return {"order": self.order, "vocabulary": self.vocabulary, "counts": rows}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return {word: i + 1 for i, word in enumerate(self.vocabulary)}

    def log_probability(self, before: Context, word: int) -> float:
        """Return the natural logarithm of the probability of a word, or the end, after all words before it."""
        context = (END, *before)
        return math.log(self._probability(context[max(0, len(context) - self.order + 1) :], word))

    def _probability(self, context: Context, word: int) -> float:
        shorter = self._probability(context[1:], word) if context else 1 / (len(self.vocabulary) + 1)
        found = self.counts.get(context)
        if found is None:
            return shorter
        n, kinds = found.total(), len(found)
        return (found[word] + kinds * shorter) / (n + kinds)
