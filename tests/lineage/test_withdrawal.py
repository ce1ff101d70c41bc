from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from audioml.errors import ParamsError, StoreError
from audioml.lineage.withdrawal import choose_recordings, withdraw
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.registry.promotion import list_candidates
from audioml.serving.prediction_log import FOLDER
from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine
from audioml.store.withdrawn import WITHDRAWN, read_withdrawn

from .conftest import register

SEGMENTS = {"segment": {"name": "fixed", "length_s": 0.2}}


def forget(ctx: Context, *references: str, group: str | None = None) -> Any:
    chosen = choose_recordings(ctx, references, group)
    return withdraw(ctx, chosen, by="ann", reason="consent", jobs=1)


def paths(ctx: Context) -> set[str]:
    return set(read_manifest(ctx.path(MANIFEST))["path"])


def test_a_recording_leaves_everything_and_its_models_say_so(ctx: Context, package: Path) -> None:
    register(ctx, package, f"{ctx.model_name}-second", ["train"] * 12)
    run_step(ctx, find_step("featurize"), jobs=1)
    forgotten = forget(ctx, "low/0.wav")
    assert "low/0.wav" not in paths(ctx)
    assert forgotten.shards == {"made": 1, "kept": 2}
    assert {learner.version.key for learner in forgotten.learners} == {
        f"{ctx.model_name}/1",
        f"{ctx.model_name}-second/1",
    }
    assert forgotten.audio_rows == 2
    log = pd.read_parquet(ctx.state / FOLDER).set_index("request_id")
    assert log.loc["r1", "audio"].isna().all()
    assert log.loc["r2", "audio"] == b"other"
    (mark,) = [candidate.withdrawn for candidate in list_candidates(ctx)]
    assert mark is not None
    assert (mark["recordings"], mark["train"], mark["by"], mark["reason"]) == (1, 1, "ann", "consent")

    again = forget(ctx, "low/0.wav", "low/1.wav")
    assert ([entry.path for entry in again.recordings], again.already) == (["low/1.wav"], 1)
    (mark,) = [candidate.withdrawn for candidate in list_candidates(ctx)]
    assert mark is not None
    assert mark["recordings"] == 2


def test_a_group_is_all_with_a_value(ctx: Context) -> None:
    forgotten = forget(ctx, group="label=low")
    assert len(forgotten.recordings) == 6
    assert {path.partition("/")[0] for path in paths(ctx)} == {"high"}
    with pytest.raises(StoreError, match=r"no column 'labels'\. Did you mean 'label'"):
        choose_recordings(ctx, [], "labels=low")
    with pytest.raises(StoreError, match=r"No recording has label 'lo'.*There are: high"):
        choose_recordings(ctx, [], "label=lo")


def test_a_file_that_was_never_ingested_never_will_be(ctx: Context, tmp_path: Path, tone_wav: Any) -> None:
    (tmp_path / "new.wav").write_bytes(tone_wav(777.0))
    assert forget(ctx, str(tmp_path / "new.wav")).learners == ()
    (tmp_path / "new.wav").rename(tmp_path / "recordings" / "low" / "new.wav")
    run_step(ctx, find_step("ingest"), jobs=1)
    assert "low/new.wav" not in paths(ctx)


def test_what_must_be_said(ctx: Context) -> None:
    with pytest.raises(ParamsError, match="Name recordings"):
        choose_recordings(ctx, [], None)
    with pytest.raises(ParamsError, match="COLUMN=VALUE"):
        choose_recordings(ctx, [], "label")
    with pytest.raises(StoreError, match=r"No recording is called 'low/9\.wav'\. Did you mean 'low/"):
        choose_recordings(ctx, ["low/9.wav"], None)
    with pytest.raises(ParamsError, match="who wants it and why"):
        withdraw(ctx, choose_recordings(ctx, ["low/0.wav"], None), by=" ", reason="x", jobs=1)
    assert not ctx.path(WITHDRAWN).exists()


@pytest.mark.parametrize("ctx", [SEGMENTS], indirect=True)
def test_of_a_cut_recording_all_clips_go_and_the_file_stays_out_however_it_is_cut(ctx: Context, tmp_path: Path) -> None:
    file = tmp_path / "recordings" / "low" / "0.wav"
    before = read_manifest(ctx.path(MANIFEST))
    one_clip = before.loc[before["path"] == "low/0.wav", "clip_id"].iloc[1]
    forgotten = forget(ctx, one_clip[:16])
    (entry,) = read_withdrawn(ctx.path(WITHDRAWN)).entries
    assert (entry.path, entry.sha256) == ("low/0.wav", hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(entry.clips) == 3
    assert len(read_manifest(ctx.path(MANIFEST))) == len(before) - 3
    assert forgotten.learners[0].counts()["train"] == 1

    file.rename(file.with_name("renamed.wav"))
    text = (ctx.workspace / "params.yaml").read_text().replace("0.2", "0.3")
    (ctx.workspace / "params.yaml").write_text(text)
    cut_otherwise = Context.load(ctx.workspace)
    run_step(cut_otherwise, find_step("ingest"), jobs=1)
    assert not {"low/0.wav", "low/renamed.wav"} & paths(cut_otherwise)
    reasons = read_quarantine(ctx.path(QUARANTINE)).set_index("path")["reason"].to_dict()
    assert reasons == {"low/renamed.wav": "withdrawn"}


@pytest.mark.parametrize("ctx", [SEGMENTS], indirect=True)
def test_a_cut_recording_that_is_gone_from_the_source_is_known_by_its_clips(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "recordings" / "low" / "0.wav").unlink()
    forgotten = forget(ctx, "low/0.wav")
    assert forgotten.unhashed == ("low/0.wav",)
    assert "low/0.wav" not in paths(ctx)
    assert len(forgotten.learners) == 1
