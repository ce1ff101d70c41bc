"""The step around the splitting: files, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from audioml.errors import DatasetError, StepError
from audioml.params import PluginSection, parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps import split
from audioml.store.files import write_json
from audioml.store.manifest import (
    MANIFEST,
    MANIFEST_TYPES,
    SPLITS,
    read_manifest,
    read_splits,
    write_manifest,
    write_splits,
)

STEP = find_step("split")


@pytest.fixture
def ctx(tmp_path, minimal_params):
    rows = []
    for i in range(60):
        values = dict.fromkeys(MANIFEST_TYPES, 0) | dict.fromkeys(("shard", "format", "subtype"), "x")
        values |= {"clip_id": f"{i:064x}", "path": f"{i:02}.wav", "label": "ab"[i % 2]}
        rows.append(values | {"speaker": f"s{i % 15}", "fold": i % 15 // 3 + 1})
    write_manifest(tmp_path / MANIFEST, pd.DataFrame(rows))
    write_json(tmp_path / "reports/validation.json", {"success": True})
    return Context(tmp_path, parse_params(minimal_params | {"split": {"group": "speaker", "fold": "fold"}}))


def test_splits_are_written_and_counted(ctx):
    summary = run_step(ctx, STEP)
    splits = read_splits(ctx.path(SPLITS))
    assert summary == splits["split"].value_counts().to_dict()
    assert summary["test"] == 12
    assert set(splits.loc[splits["split"] == "test", "fold"]) == {5}
    assert splits["fold"].dtype == "int64"


def test_folds_and_shares_are_counted(ctx):
    more = {"fold": None, "folds": 3, "train_shares": [0.5, 0.2]}
    params = ctx.params.model_copy(update={"split": ctx.params.split.model_copy(update=more)})
    run_step(replace(ctx, params=params), STEP)
    summary = split.collect(ctx)
    assert (summary["folds"], summary["shares"]) == (3, 2)
    assert set(read_splits(ctx.path(SPLITS))["share"].dropna()) == {0.2, 0.5}


def test_the_same_splits_make_the_same_file(ctx):
    run_step(ctx, STEP)
    before = ctx.path(SPLITS).read_bytes()
    run_step(ctx, STEP)
    assert ctx.path(SPLITS).read_bytes() == before


def test_a_leak_in_what_was_written_is_found(ctx):
    run_step(ctx, STEP)
    splits = read_splits(ctx.path(SPLITS))
    splits.loc[splits.index[splits["split"] == "test"][0], "split"] = "train"
    write_splits(ctx.path(SPLITS), splits)
    with pytest.raises(DatasetError, match="Leak: 1 values of 'speaker'"):
        split.collect(ctx)


def test_what_failed_its_checks_is_not_split(ctx):
    write_json(ctx.path("reports/validation.json"), {"success": False})
    with pytest.raises(DatasetError, match="has failed its checks"):
        run_step(ctx, STEP)
    assert not ctx.path(SPLITS).exists()


def test_what_was_not_checked_is_not_split(ctx):
    ctx.path("reports/validation.json").unlink()
    with pytest.raises(StepError, match="audioml run validate"):
        run_step(ctx, STEP)


def test_speakers_of_the_test_set_need_no_training_clips(ctx):
    held_out = ctx.params.split.model_copy(update={"group": None, "fold": None, "test": "label == 'c'"})
    params = ctx.params.model_copy(update={"split": held_out})
    manifest = read_manifest(ctx.path(MANIFEST))
    write_manifest(ctx.path(MANIFEST), manifest.assign(label=["abc"[i % 3] for i in range(len(manifest))]))
    with pytest.raises(DatasetError, match="have no clips to train on, all are in the test set: c"):
        run_step(replace(ctx, params=params), STEP)
    params = params.model_copy(update={"task": PluginSection(name="speaker")})
    assert run_step(replace(ctx, params=params), STEP)["test"] == 20
    splits = read_splits(ctx.path(SPLITS))
    assert set(splits.loc[splits["split"] != "test", "split"]) == {"train", "validation"}
