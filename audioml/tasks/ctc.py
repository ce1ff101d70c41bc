"""Speech recognition: what was said in a clip, and when, learned from clips with their text.

The column `label` (`data.label`) holds a clip's text. A network gives the probabilities of units, characters or
phonemes, over frames, trained by connectionist temporal classification: nobody says when a unit is heard. `targets`
holds the ``units``, how texts become units, the ``lexicon`` and the ``language`` model of the training clips' texts;
`tune_outputs` adds ``decoder``, how much the language model counts. Until then, as while a model is trained, outputs
are decoded greedily. A clip's output is float32 ``(2 + units, frames)``: log-probabilities, the first row for the
blank, and in the last row the time at which each frame ends, in seconds.

Source: Graves, Fernández, Gomez, Schmidhuber, "Connectionist Temporal Classification", ICML 2006. torch, pandas,
rapidfuzz and matplotlib are imported where they are used: serving needs none of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioml.errors import DatasetError, ParamsError, StepError, did_you_mean
from audioml.params import Section
from audioml.phonemes import split_phonemes
from audioml.tasks._ctc_decoding import BLANK, WordDecoder, align, decode_greedily
from audioml.tasks._ngrams import NGrams
from audioml.tasks._text_so_far import TextSoFar
from audioml.tasks._texts import (
    SPACE,
    Spelling,
    Words,
    join_units,
    read_phonemes,
    split_units,
    split_words,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "wer"
"""Word error rate: words that were changed, left out or added, over words that were said."""
HIGHER_IS_BETTER = False
MIN_LABELS = 0
MIXABLE = False
"""Of two texts at once there is no text."""
LISTS = {"words": {"word": str, "onset_s": float, "offset_s": float, "confidence": float}}
"""What the lists of an answer hold, by name."""
TRIED_WEIGHTS = (0.25, 0.5, 1.0, 1.5)
TRIED_BONUSES = (0.0, 1.5)
TUNED_CLIPS = 100
PADDING = -1
KEPT_DECODERS = 2
SHOWN_WORDS, FEWEST_WORDS, SHOWN_BARS, SHOWN_CLIPS = 200, 20, 30, 4
REPORTED = ("alignments",)
"""Figures that the report shows beside the tables."""

Floats = NDArray[np.float32]
Objects = NDArray[np.object_]
"""`(clips,)`: what is said in each, a `Said`."""


class Params(Section):
    """What texts are made of, and how they are found in outputs."""

    units: Literal["characters", "phonemes"] = "characters"
    """What the network tells apart. phonemes: from `pronunciation`, or from espeak-ng's pronunciation of each word."""
    pronunciation: str | None = None
    """Column of phonemes, separated by spaces, with | between words; None asks espeak-ng."""
    voice: str = "en-us"
    """Of espeak-ng, by whose pronunciation words become phonemes."""
    lowercase: bool = True
    """Take upper-case and lower-case letters for the same."""
    language_order: Annotated[int, Field(ge=0, le=6)] = 3
    """Of the n-gram model of words that is made from the training clips' texts; with it, words are those of these
    texts. 0: no such model, and any sequence of units is a word."""
    beam: Annotated[int, Field(ge=1)] = 16
    """Beginnings of texts that are followed at once where there is a language model."""


def labels_of(params: Params, manifest: pd.DataFrame) -> list[list[str]]:
    """Return no label for any clip: texts are no classes to count or to keep in equal shares."""
    return [[] for _ in range(len(manifest))]


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the units, how words are made of them, and the language model of the training clips' texts.

    Raises
    ------
    DatasetError
        When no clip has a text, or a clip's phonemes are missing.
    ParamsError
        When there is no column of that name.
    """
    texts = _read_texts(params, manifest)
    spellings = _spell(params, manifest, texts)
    units = sorted({unit for words in spellings for word in words for unit in word})
    if not units:
        raise DatasetError(
            f"Speech recognition needs clips with a text, but none of {len(manifest)} has any. "
            "Name the column of texts with data.label."
        )
    lexicon = _make_lexicon(texts, spellings)
    targets: dict[str, Any] = {"units": [SPACE, *units], "params": params.model_dump(mode="json")}
    if params.units == "phonemes":
        targets["lexicon"] = {word: [list(s) for s in found] for word, found in lexicon.items()}
    if params.language_order:
        targets["language"] = NGrams.of_texts(texts, params.language_order).as_json()
    return targets


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> NDArray[np.int64]:
    """Return int64 (clips, longest): the numbers of the units of each clip, from 1, followed by -1.

    Raises
    ------
    DatasetError
        When a clip has a unit that no training clip has.
    """
    number = {unit: i + 1 for i, unit in enumerate(targets["units"])}
    spellings = _spell(params, manifest, _read_texts(params, manifest))
    rows = [join_units(words) for words in spellings]
    if unknown := sorted({unit for row in rows for unit in row} - set(number)):
        raise DatasetError(
            f"The {params.units} {unknown} are in no training clip, so they cannot be learned. Correct the texts, or "
            "split otherwise."
        )
    encoded = np.full((len(rows), max(map(len, rows), default=0)), PADDING, dtype=np.int64)
    for clip, row in enumerate(rows):
        encoded[clip, : len(row)] = [number[unit] for unit in row]
    return encoded


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return a linear layer on each frame: (n, width, frames) to logits (n, 1 + units, frames), first the blank."""
    from torch import nn

    return nn.Conv1d(width, 1 + len(targets["units"]), 1)


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over clips of the negative log-probability of their units, each divided by their number.

    Frames of padding are heard as any others: what follows a clip in its batch is silence, and that is blank.

    Raises
    ------
    StepError
        When a clip has fewer frames than its text needs.
    """
    from torch.nn.functional import ctc_loss, log_softmax

    n, _, n_frames = outputs.shape
    lengths = (targets != PADDING).sum(dim=1)
    repeated = ((targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != PADDING)).sum(dim=1)
    if int((lengths + repeated).max()) > n_frames:
        raise StepError(
            f"A text of {int(lengths.max())} {params.units} needs {int((lengths + repeated).max())} frames, but the "
            f"model gives {n_frames} of its clip. Choose a model that joins fewer frames (model: channels, "
            "time_pooling), lower features.hop_length, or correct the text."
        )
    log_probabilities = log_softmax(outputs.float(), dim=1).permute(2, 0, 1)
    frames = outputs.new_full((n,), n_frames, dtype=lengths.dtype)
    return ctc_loss(log_probabilities, targets.clamp(min=BLANK), frames, lengths, blank=BLANK)


def merge_tracks(
    targets: dict[str, Any], outputs: Floats, offsets_s: NDArray[np.float64], durations_s: NDArray[np.float64]
) -> Floats:
    """Return float32 (2 + units, frames): the log-probabilities of the one window, and when its frames end.

    Raises
    ------
    ParamsError
        When a clip has several windows.
    """
    if len(outputs) != 1:
        raise ParamsError(
            f"params.yaml: 'features.length' cut a clip into {len(outputs)} windows, but the task ctc hears a clip as "
            "a whole. Set it to whole."
        )
    logits = outputs[0].astype(np.float64)
    shifted = logits - logits.max(axis=0)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=0))
    n_frames = logits.shape[1]
    times = offsets_s[0] + durations_s[0] * np.arange(1, n_frames + 1) / max(1, n_frames)
    return np.concatenate([log_probabilities, times[np.newaxis]]).astype(np.float32)


def tune_outputs(params: Params, targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, Any]:
    """Return the targets with the weight of the language model and the bonus of a word that make fewest word errors.

    They are chosen on `TUNED_CLIPS` of these clips at most. Without a language model the targets stay as they are.
    """
    if "language" not in targets:
        return targets
    chosen = np.unique(np.linspace(0, len(truth) - 1, TUNED_CLIPS).astype(int))
    tried = []
    for weight in TRIED_WEIGHTS:
        for bonus in TRIED_BONUSES:
            candidate = {**targets, "decoder": {"beam": params.beam, "weight": weight, "bonus": bonus}}
            errors = score_clips(candidate, truth[chosen], outputs[chosen])[:, 0].sum()
            tried.append((errors, weight, bonus, candidate))
    return min(tried, key=lambda found: found[:3])[3]


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the text, its confidence, and the words with their times in seconds; of phonemes these too.

    A word's confidence is the mean probability of its units where they are most probable; the text's is that of its
    words.
    """
    log_probabilities, ends_s = output[:-1], output[-1]
    found = _recognize(targets, log_probabilities)
    number = {unit: i + 1 for i, unit in enumerate(targets["units"])}
    units = [number[unit] for unit in join_units(found.spellings)]
    spans = align(log_probabilities, units)
    starts_s = np.concatenate([[2 * ends_s[0] - ends_s[1] if len(ends_s) > 1 else 0.0], ends_s[:-1]])
    sure = [
        float(np.exp(log_probabilities[unit, first : last + 1].max()))
        for unit, (first, last) in zip(units, spans, strict=True)
    ]
    words, place = [], 0
    for word, spelling in zip(found.words, found.spellings, strict=True):
        stop = place + len(spelling)
        words.append(
            {
                "word": word,
                "onset_s": round(float(starts_s[spans[place, 0]]), 3),
                "offset_s": round(float(ends_s[spans[stop - 1, 1]]), 3),
                "confidence": round(float(np.mean(sure[place:stop])), 4),
            }
        )
        place = stop + 1
    confidence = round(float(np.mean([word["confidence"] for word in words])), 4) if words else 0.0
    spoken = {"phonemes": " ".join(map("".join, found.spellings))} if _of_phonemes(targets) else {}
    return {"text": " ".join(found.words), "confidence": confidence, "words": words, **spoken}


def follow(targets: dict[str, Any]) -> Callable[[Floats], dict[str, Any]]:
    """Return what takes the outputs of a clip part by part, float32 (1 + units, frames), and gives its text so far.

    The text is that of the most probable units: the language model is asked when all is heard, so the answer may be of
    other words.
    """
    return TextSoFar(targets["units"]).feed


def truth(targets: dict[str, Any], manifest: pd.DataFrame) -> Objects:
    """Return what is said in each clip, a `Said` each, in an array of objects (clips,)."""
    params = Params(**targets["params"])
    texts = _read_texts(params, manifest)
    said = np.empty(len(texts), dtype=object)
    for clip, (words, spellings) in enumerate(zip(texts, _spell(params, manifest, texts), strict=True)):
        said[clip] = Said(words, tuple(spellings))
    return said


def describe_truth(targets: dict[str, Any], truth: Said) -> str:
    """Return the text of a clip."""
    return " ".join(truth.words)


def score_clips(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64 (clips, 2): words changed, left out or added; and words that were said. Their ratio is the WER."""
    counts = [_compare(targets, said, output) for said, output in zip(truth, outputs, strict=True)]
    return np.array([(c.words.errors, c.words.n) for c in counts], dtype=np.float64).reshape(-1, 2)


def measure(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, float]:
    """Return error rates: of words, with each kind of error apart, of characters or phonemes, of whole texts.

    ``cer`` and ``per`` count the characters of words and the spaces between, or phonemes. ``unknown_words`` is the
    share of the words said that the vocabulary has not, which cannot be found with a language model.
    """
    counts = [_compare(targets, said, output) for said, output in zip(truth, outputs, strict=True)]
    n_words = max(1, sum(c.words.n for c in counts))
    kinds = ("substitutions", "deletions", "insertions")
    known = set(targets["language"]["vocabulary"]) if "language" in targets else None
    unknown = 0 if known is None else sum(word not in known for said in truth for word in said.words)
    units = sum(c.units.errors for c in counts) / max(1, sum(c.units.n for c in counts))
    return {
        PRIMARY: sum(c.words.errors for c in counts) / n_words,
        **{kind: sum(getattr(c.words, kind) for c in counts) / n_words for kind in kinds},
        "per" if _of_phonemes(targets) else "cer": units,
        "text_error_rate": float(np.mean([c.words.errors > 0 for c in counts])),
        **({} if known is None else {"unknown_words": unknown / n_words}),
    }


def tables(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, pd.DataFrame]:
    """Return `words` that went wrong, the most often first, or `FEWEST_WORDS`: word, n, wrong, error_rate, heard_as."""
    import pandas as pd

    said: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    heard_as: dict[str, Counter[str]] = defaultdict(Counter)
    for there, output in zip(truth, outputs, strict=True):
        reference, found = _words_of(targets, there), _recognize(targets, output[:-1]).words
        said.update(reference)
        for kind, i, j in edit(reference, found):
            if kind != "insert":
                wrong[reference[i]] += 1
                heard_as[reference[i]][found[j] if kind == "replace" else "–"] += 1
    n_shown = min(SHOWN_WORDS, max(FEWEST_WORDS, sum(n > 0 for n in wrong.values())))
    order = sorted(said, key=lambda word: (-wrong[word], -said[word], word))[:n_shown]
    usual = [heard_as[word].most_common(1)[0][0] if wrong[word] else "" for word in order]
    return {
        "words": pd.DataFrame(
            {
                "word": order,
                "n": [said[word] for word in order],
                "wrong": [wrong[word] for word in order],
                "error_rate": [wrong[word] / said[word] for word in order],
                "heard_as": usual,
            }
        )
    }


def figures(targets: dict[str, Any], truth: Objects, outputs: NDArray[Any]) -> dict[str, Figure]:
    """Return `errors_per_word`, and `alignments`: when each unit is heard in the clips that went worst."""
    from audioml.tasks._figures import draw_alignments, draw_bars

    words = tables(targets, truth, outputs)["words"].head(SHOWN_BARS)
    errors, n = score_clips(targets, truth, outputs).T
    worst = np.argsort(-errors / np.maximum(n, 1), kind="stable")[:SHOWN_CLIPS]
    found = [describe(targets, outputs[i]) for i in worst]
    clips = [
        (describe_truth(targets, truth[i]), answer["text"], answer["words"], outputs[i])
        for i, answer in zip(worst, found, strict=True)
    ]
    rates, names, n_said = words["error_rate"].to_numpy(), list(words["word"]), words["n"].to_numpy()
    bars = draw_bars(rates, names, n_said, "Error rate", "times said", "word")
    return {"errors_per_word": bars, "alignments": draw_alignments(clips, targets["units"])}


class Said(NamedTuple):
    """What is said in a clip."""

    words: Words
    spellings: tuple[Spelling, ...]
    """The units of each word."""


@dataclass(frozen=True)
class Edits:
    """How one sequence differs from another."""

    n: int
    """Length of what was said."""
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """Of all kinds."""
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True)
class _Comparison:
    words: Edits
    units: Edits


def edit(reference: Sequence[str], found: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the fewest edits from one sequence to the other: replace, delete or insert, and both positions."""
    from rapidfuzz.distance import Levenshtein

    return [
        (operation.tag, operation.src_pos, operation.dest_pos) for operation in Levenshtein.editops(reference, found)
    ]


def _count_edits(reference: Sequence[str], found: Sequence[str]) -> Edits:
    kinds = Counter(kind for kind, _, _ in edit(reference, found))
    return Edits(len(reference), kinds["replace"], kinds["delete"], kinds["insert"])


def _compare(targets: dict[str, Any], said: Said, output: Floats) -> _Comparison:
    found = _recognize(targets, output[:-1])
    units = _count_edits(join_units(said.spellings), join_units(found.spellings))
    return _Comparison(_count_edits(_words_of(targets, said), found.words), units)


def _words_of(targets: dict[str, Any], said: Said) -> Words:
    """Return the words that are to be found; where nothing tells which word phonemes are, the phonemes of each."""
    return tuple(map("".join, said.spellings)) if _of_phonemes(targets) and "decoder" not in targets else said.words


def _of_phonemes(targets: dict[str, Any]) -> bool:
    return bool(targets["params"]["units"] == "phonemes")


def _recognize(targets: dict[str, Any], log_probabilities: Floats) -> Said:
    """Return words and their units: with a tuned decoder by beam search, without by the most probable units."""
    names = targets["units"]
    if "decoder" in targets:
        decoder = _decoder_of(targets)
        found = decoder.decode(log_probabilities)
        if found is not None:
            spelled = tuple(tuple(names[unit - 1] for unit in units) for _, units in found)
            return Said(tuple(word for word, _ in found), spelled)
    spelled = tuple(split_units([names[unit - 1] for unit in decode_greedily(log_probabilities)]))
    return Said(tuple(map("".join, spelled)), spelled)


_decoders: list[tuple[dict[str, Any], WordDecoder]] = []
"""Of the last targets: building the tree of words takes longer than decoding a clip."""


def _decoder_of(targets: dict[str, Any]) -> WordDecoder:
    for known, decoder in _decoders:
        if known is targets:
            return decoder
    number = {unit: i + 1 for i, unit in enumerate(targets["units"])}
    language = NGrams.from_json(targets["language"])
    spelled = targets.get("lexicon") or {word: [list(word)] for word in language.vocabulary}
    lexicon = {word: [[number[unit] for unit in units] for units in found] for word, found in spelled.items()}
    decoder = WordDecoder(language, lexicon, number[SPACE], **targets["decoder"])
    _decoders[:] = [(targets, decoder), *_decoders[: KEPT_DECODERS - 1]]
    return decoder


def _read_texts(params: Params, manifest: pd.DataFrame) -> list[Words]:
    return [split_words(str(text), lowercase=params.lowercase) for text in manifest["label"]]


def _spell(params: Params, manifest: pd.DataFrame, texts: Sequence[Words]) -> list[list[Spelling]]:
    """Return the units of each word of each clip."""
    if params.units == "characters":
        return [[tuple(word) for word in words] for words in texts]
    if params.pronunciation is None:
        from audioml.audio.synthesize import text_to_phonemes

        known: dict[str, Spelling] = {}
        for word in {word for words in texts for word in words}:
            known[word] = split_phonemes(text_to_phonemes(word, params.voice))
        return [[known[word] for word in words] for words in texts]
    if params.pronunciation not in manifest:
        columns = [str(column) for column in manifest.columns]
        raise ParamsError(
            f"params.yaml: 'task.pronunciation' is {params.pronunciation!r}, but the manifest has no such column."
            f"{did_you_mean(params.pronunciation, columns)} Columns: {', '.join(columns)}."
        )
    missing = manifest[params.pronunciation].isna()
    if missing.any():
        path = manifest.loc[missing, "path" if "path" in manifest else "clip_id"].iloc[0]
        raise DatasetError(
            f"{int(missing.sum())} of {len(manifest)} clips have no phonemes in the column {params.pronunciation!r}, "
            f"such as {path}. Fill it, or set task.pronunciation to null: espeak-ng then says how words are pronounced."
        )
    return [read_phonemes(str(text)) for text in manifest[params.pronunciation]]


def _make_lexicon(texts: Sequence[Words], spellings: Sequence[list[Spelling]]) -> dict[str, list[Spelling]]:
    """Return the spellings of each word, the most frequent first, from clips with as many pronounced words."""
    found: dict[str, Counter[Spelling]] = defaultdict(Counter)
    for words, spelled in zip(texts, spellings, strict=True):
        if len(words) == len(spelled):
            for word, spelling in zip(words, spelled, strict=True):
                found[word][spelling] += 1
    return {word: [spelling for spelling, _ in counts.most_common()] for word, counts in sorted(found.items())}
