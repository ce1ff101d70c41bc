"""From log-probabilities of units over frames to units, words and times: greedily, by beam search, by alignment.

Sources: Graves, Fernández, Gomez, Schmidhuber, "Connectionist Temporal Classification", ICML 2006 (greedy decoding
and the lattice of the alignment); Hannun, Maas, Jurafsky, Ng, "First-Pass Large Vocabulary Continuous Speech
Recognition using Bi-Directional Recurrent DNNs", 2014 (arXiv 1408.2873), the prefix beam search; words are held in a
tree of their units, so that only words of the vocabulary are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audioml.tasks._ngrams import END, NGrams

BLANK = 0
"""The unit that stands for none; others are numbered from 1."""
WIDER_BEAM = 4
"""Times as many prefixes where the first search ends in no whole word."""
MIN_LOG_PROBABILITY = -9.0
"""Units less probable than this in a frame are not followed there, the most probable one aside."""

Floats = NDArray[np.float32]
Units = list[int]


def decode_greedily(log_probabilities: Floats, before: int = BLANK) -> Units:
    """Return the most probable unit of each frame, repetitions and blanks left out.

    Parameters
    ----------
    log_probabilities
        float32 (units, frames), the first row for the blank.
    before
        The most probable unit of the frame before the first one, if these are but a part.
    """
    best = log_probabilities.argmax(axis=0)
    kept = np.flatnonzero(np.diff(best, prepend=before) != 0)
    return [int(unit) for unit in best[kept] if unit != BLANK]


@dataclass
class _Node:
    """A place in the tree of words."""

    units: tuple[int, ...] = ()
    """What led here from the root."""
    children: dict[int, _Node] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)
    """The words that end here, as the language model numbers them."""


class Spoken(NamedTuple):
    """A word, and of the ways to say it the one that was heard."""

    word: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class _Prefix:
    """What was heard so far: whole words, and the units of the next one."""

    words: tuple[Spoken, ...]
    units: tuple[int, ...]


@dataclass
class _Score:
    """Log-probabilities of all alignments of a prefix: those that end on a blank, and those that do not."""

    node: _Node
    language: float
    """What the language model and the bonus say of the whole words."""
    blank: float = -np.inf
    unit: float = -np.inf

    @property
    def heard(self) -> float:
        return float(np.logaddexp(self.blank, self.unit))

    @property
    def total(self) -> float:
        return self.heard + self.language


@dataclass(frozen=True)
class WordDecoder:
    """Finds words of a vocabulary by what is heard and by what usually follows what."""

    language: NGrams
    lexicon: Mapping[str, Sequence[Sequence[int]]]
    """How each word of the vocabulary may be made of units."""
    separator: int
    """The unit between words."""
    beam: int = 16
    """Prefixes that are followed at once."""
    weight: float = 0.5
    """Of the language model's log-probabilities."""
    bonus: float = 0.0
    """For each word, against the language model's liking for few."""

    @cached_property
    def tree(self) -> _Node:
        """The root of all words."""
        root = _Node()
        for word, spellings in self.lexicon.items():
            for units in spellings:
                node = root
                for unit in units:
                    node = node.children.setdefault(unit, _Node((*node.units, unit)))
                node.words.append(self.language.numbers[word])
        return root

    def decode(self, log_probabilities: Floats) -> list[tuple[str, tuple[int, ...]]] | None:
        """Return the most probable words and their units; None if what is heard fits no sequence of whole words.

        Where a unit that was hardly heard is needed, as of a word that is said in another way than the lexicon knows,
        the search is made again with all units and more prefixes.

        Parameters
        ----------
        log_probabilities
            float32 (units, frames), the first row for the blank.
        """
        found = self._search(log_probabilities, self.beam, MIN_LOG_PROBABILITY)
        if found is None:
            # No words at all are no answer where something was heard.
            found = self._search(log_probabilities, WIDER_BEAM * self.beam, -np.inf) or None
        return found

    def _search(self, log_probabilities: Floats, width: int, least: float) -> list[tuple[str, tuple[int, ...]]] | None:
        """Return what `decode` does, following `width` prefixes by units of at least a log-probability."""
        beam = {_Prefix((), ()): _Score(self.tree, 0.0, blank=0.0)}
        for frame in log_probabilities.T.astype(np.float64):
            likely = np.flatnonzero(frame[1:] >= least) + 1
            if len(likely) == 0:
                likely = np.array([frame[1:].argmax() + 1])
            beam = self._keep_best(self._follow(beam, frame, likely.tolist()), width)
        finished = [found for prefix, score in beam.items() for found in self._finish(prefix, score)]
        # A score without a way to it is no answer.
        finished = [answer for answer in finished if answer[0] > -np.inf]
        if not finished:
            return None
        _, words = max(finished)
        return [(self.language.vocabulary[word - 1], units) for word, units in words]

    def _follow(
        self, beam: Mapping[_Prefix, _Score], frame: NDArray[np.float64], likely: Sequence[int]
    ) -> dict[_Prefix, _Score]:
        """Return the prefixes after one more frame."""
        found: dict[_Prefix, _Score] = {}

        def reach(words: tuple[Spoken, ...], node: _Node, language: float) -> _Score:
            return found.setdefault(_Prefix(words, node.units), _Score(node, language))

        for prefix, score in beam.items():
            node, words, heard = score.node, prefix.words, score.heard
            # Behind a whole word stands the separator; before the first one nothing was heard.
            last = node.units[-1] if node.units else self.separator if words else None
            same = reach(words, node, score.language)
            same.blank = float(np.logaddexp(same.blank, heard + frame[BLANK]))
            for unit in likely:
                if unit == last:
                    same.unit = float(np.logaddexp(same.unit, score.unit + frame[unit]))
                # A unit that comes twice has a blank between.
                gain = (score.blank if unit == last else heard) + frame[unit]
                if gain == -np.inf:
                    continue
                reached = [reach(words, node.children[unit], score.language)] if unit in node.children else []
                if unit == self.separator:
                    for word in node.words:
                        language = score.language + self._judge(words, word)
                        reached.append(reach((*words, Spoken(word, node.units)), self.tree, language))
                for other in reached:
                    other.unit = float(np.logaddexp(other.unit, gain))
        return found

    def _judge(self, before: tuple[Spoken, ...], word: int) -> float:
        context = tuple(spoken.word for spoken in before[-self.language.order :])
        bonus = 0.0 if word == END else self.bonus
        return self.weight * self.language.log_probability(context, word) + bonus

    def _finish(self, prefix: _Prefix, score: _Score) -> list[tuple[float, tuple[Spoken, ...]]]:
        """Return the sequences of whole words that a prefix may be, with their scores."""
        if score.node is self.tree:
            return [(score.total + self._judge(prefix.words, END), prefix.words)]
        finished = []
        for word in score.node.words:
            words = (*prefix.words, Spoken(word, score.node.units))
            finished.append((score.total + self._judge(prefix.words, word) + self._judge(words, END), words))
        return finished

    def _keep_best(self, found: Mapping[_Prefix, _Score], width: int) -> dict[_Prefix, _Score]:
        best = sorted(found.items(), key=lambda item: -item[1].total)[:width]
        return dict(best)


def align(log_probabilities: Floats, units: Sequence[int]) -> NDArray[np.int64]:
    """Return the first and the last frame of each unit on the most probable path through them, int64 (units, 2).

    Where there are too few frames for the units, the last ones stand on the last frame.

    Parameters
    ----------
    log_probabilities
        float32 (units, frames), the first row for the blank.
    units
        What was said, without blanks.
    """
    n_frames = log_probabilities.shape[1]
    if not units or not n_frames:
        return np.zeros((len(units), 2), dtype=np.int64)
    # Blank, unit, blank, unit, ..., blank.
    states = np.zeros(2 * len(units) + 1, dtype=np.int64)
    states[1::2] = units
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    emitted = log_probabilities[states].astype(np.float64)
    score = np.full(len(states), -np.inf)
    score[:2] = emitted[:2, 0]
    came = np.zeros((n_frames, len(states)), dtype=np.int8)
    for frame in range(1, n_frames):
        steps = np.stack([score, _shift(score, 1), np.where(may_skip, _shift(score, 2), -np.inf)])
        came[frame] = steps.argmax(axis=0)
        score = steps.max(axis=0) + emitted[:, frame]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    if score[state] == -np.inf:
        state = int(np.flatnonzero(score > -np.inf)[-1])
    path = np.zeros(n_frames, dtype=np.int64)
    for frame in range(n_frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    spans = np.full((len(units), 2), n_frames - 1, dtype=np.int64)
    for unit in range(len(units)):
        if len(frames := np.flatnonzero(path == 2 * unit + 1)):
            spans[unit] = frames[0], frames[-1]
    return spans


def _shift(values: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    return np.concatenate([np.full(by, -np.inf), values[:-by]])
