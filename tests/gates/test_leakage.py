import pandas as pd
import pytest

from audioml.gates import leakage
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, SPLITS, write_manifest, write_splits

from ._evidence import make_evidence


@pytest.fixture
def evidence(tmp_path):
    def make(speakers, splits, paths=None, group=None):
        n = len(speakers)
        clips = {column: [kind.to_pandas_dtype()()] * n for column, kind in MANIFEST_TYPES.items()}
        ids = [f"clip{i}" for i in range(n)]
        clips |= {"clip_id": ids, "path": paths or ids, "label": ["low"] * n, "speaker": speakers}
        (tmp_path / "data").mkdir()
        write_manifest(tmp_path / MANIFEST, pd.DataFrame(clips))
        fold = pd.array([pd.NA] * n, dtype="Int64")
        write_splits(tmp_path / SPLITS, pd.DataFrame({"clip_id": ids, "split": splits, "fold": fold}))
        params = make_evidence({}).params
        split = params.split.model_copy(update={"group": group})
        return make_evidence({}, workspace=tmp_path, params=params.model_copy(update={"split": split}))

    return make


def test_nothing_is_shared(evidence):
    verdict = leakage.check(leakage.Params(), evidence(["ann", "bob"], ["train", "test"], group="speaker"))
    assert verdict.passed
    assert verdict.said == "1 training clips and 1 test clips share none of: clip_id, path, speaker."


@pytest.mark.parametrize("by", ["group", "columns"])
def test_a_speaker_in_two_splits(evidence, by):
    found = evidence(["ann", "ann", "bob"], ["train", "test", "test"], group="speaker" if by == "group" else None)
    params = leakage.Params(columns=("speaker",) if by == "columns" else ())
    verdict = leakage.check(params, found)
    assert (verdict.passed, verdict.said) == (False, "1 values of speaker stand in more than one split: ann.")


def test_segments_of_a_recording_in_two_splits(evidence):
    found = evidence(["ann", "ann"], ["train", "validation"], paths=["a.wav", "a.wav"])
    verdict = leakage.check(leakage.Params(), found)
    assert (verdict.passed, "path" in verdict.said) == (False, True)


def test_a_column_that_is_not_there(evidence):
    verdict = leakage.check(leakage.Params(columns=("room",)), evidence(["ann"], ["train"]))
    assert (verdict.passed, "no column room" in verdict.said) == (False, True)


def test_without_data_nobody_knows(tmp_path):
    verdict = leakage.check(leakage.Params(), make_evidence({}, workspace=tmp_path))
    assert (verdict.passed, "is missing" in verdict.said) == (False, True)
