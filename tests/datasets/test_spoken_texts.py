"""The corpora of spoken texts: digit strings and sentences."""

import numpy as np
import pytest

from audioml.audio.decode import decode, probe
from audioml.audio.prepare import mix_to_mono
from audioml.datasets import spoken_digit_strings, spoken_sentences
from audioml.datasets._spoken import TWO_ACCENTS
from audioml.errors import ParamsError
from audioml.params import parse_section

CORPORA = [spoken_digit_strings, spoken_sentences]
SMALL = {"voices": ["en-us+f1", "en-029+f1", "en-gb-x-rp+m2"], "takes": 3}


def params(corpus, **keys):
    return corpus.Params(layout=corpus.__name__.rpartition(".")[2], **keys)


@pytest.mark.parametrize("corpus", CORPORA)
def test_there_are_many_voices_of_speakers_with_two_each(corpus):
    records = corpus.scan(params(corpus, takes=1), None)
    assert len(records) == len({r.columns["voice"] for r in records}) == len(TWO_ACCENTS) == 96
    speakers = [r.columns["speaker"] for r in records]
    assert {speakers.count(speaker) for speaker in speakers} == {2}


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_clip_is_what_its_columns_say(corpus):
    data = params(corpus, **SMALL)
    records = corpus.scan(data, None)
    assert len(records) == len({r.columns["label"] for r in records}) == 9
    for record in records[:3]:
        words = corpus.word_times(data, record)
        assert [word.name for word in words] == record.columns["label"].split()
        assert record.columns["phonemes"].count("|") == len(words) - 1
        audio = corpus.read(data, None, record)
        info = probe(audio)
        assert (info.format, info.subtype, info.sample_rate, info.channels) == ("WAV", "PCM_16", 16000, 1)
        assert 0 <= words[0].onset_s < words[-1].offset_s <= info.n_samples / 16000 + 0.01


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_clip_depends_on_seed_and_name_alone(corpus):
    data, more = params(corpus, **SMALL), params(corpus, **{**SMALL, "voices": SMALL["voices"][:2], "takes": 4})
    records = {r.path: r for r in corpus.scan(data, None)}
    others = {r.path: r for r in corpus.scan(more, None)}
    both = sorted(set(records) & set(others))
    assert len(both) == 6
    assert all(records[path] == others[path] for path in both)
    assert corpus.read(data, None, records[both[0]]) == corpus.read(more, None, others[both[0]])
    other = {r.path: r.columns["label"] for r in corpus.scan(params(corpus, **SMALL, seed=1), None)}
    assert all(other[path] != records[path].columns["label"] for path in both)


def test_words_are_heard_when_they_are_said_to_be():
    keys = {"min_snr_db": 60.0, "max_snr_db": 60.0, "room_share": 0.0, "voices": ["en-us+f1"], "takes": 3}
    data = params(spoken_sentences, **keys)
    for record in spoken_sentences.scan(data, None):
        audio, rate = decode(spoken_sentences.read(data, None, record))
        words = spoken_sentences.word_times(data, record)
        level = np.abs(mix_to_mono(audio))
        first, last = (int(seconds * rate) for seconds in (words[0].onset_s, words[-1].offset_s))
        assert level[first : first + int(0.3 * rate)].max() > 0.05
        # Before and behind there is next to nothing.
        outside = np.concatenate([level[: max(0, first - int(0.05 * rate))], level[last + int(0.2 * rate) :]])
        assert outside.size == 0 or outside.max() < 0.02


def test_rooms_change_what_is_heard_and_nothing_else():
    dry, wet = (params(spoken_digit_strings, **SMALL, room_share=share) for share in (0.0, 1.0))
    one, other = (spoken_digit_strings.scan(data, None)[0] for data in (dry, wet))
    assert one.columns == other.columns
    clips = [decode(spoken_digit_strings.read(data, None, one))[0] for data in (dry, wet)]
    assert clips[0].shape == clips[1].shape
    assert not np.allclose(clips[0], clips[1], atol=0.02)


def test_strings_have_as_many_digits_as_asked_for():
    data = params(spoken_digit_strings, min_digits=2, max_digits=4, voices=["en-us+f1"], takes=40)
    lengths = [len(r.columns["label"].split()) for r in spoken_digit_strings.scan(data, None)]
    assert set(lengths) == {2, 3, 4}
    with pytest.raises(ParamsError, match="min_digits 5 is above max_digits 4"):
        parse_section(
            spoken_digit_strings.Params, {"layout": "spoken_digit_strings", "min_digits": 5, "max_digits": 4}, "data"
        )
