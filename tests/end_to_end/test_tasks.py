"""Every task but plain classification from recordings to answers of a registered model, on sounds that are known.

The steps run in this process: what the commands add is tested elsewhere, and a start of each takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audioml.orchestration.params_file import render_params
from audioml.orchestration.presets import apply_changes
from audioml.orchestration.workspace import Choices, create_workspace
from audioml.params import read_raw_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import STEPS
from audioml.pipeline.runner import run_step
from audioml.registry.server import use_server
from audioml.serving.batch import predict_files
from audioml.store.files import read_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

from .._soundscapes import RATE, SOUNDS, draw_events, write_recording

pytestmark = pytest.mark.slow
FEATURES = {"name": "logmel", "sample_rate": RATE, "n_fft": 256, "win_length": 256, "hop_length": 80, "n_mels": 32}
TRAINING = {"batch_size": 16, "accelerator": "cpu", "warmup_epochs": 1.0}


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow server for all steps of both tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with use_server(tmp_path_factory.mktemp("server") / ".audioml") as server:
            patch.setenv("MLFLOW_TRACKING_URI", server.url)
            yield


def run_all(workspace: Path, table: Path, layout: str, **sections: Any) -> tuple[Context, dict[str, Any]]:
    """Run every step on a table of recordings; return the workspace and the metrics of the test set."""
    workspace.mkdir()
    raw = {"name": workspace.name, "data": {"layout": layout, "source": str(table)}, **sections}
    (workspace / "params.yaml").write_text(render_params(raw))
    ctx = Context.load(workspace)
    for step in STEPS:
        run_step(ctx, step, jobs=1)
    return ctx, read_json(ctx.path("reports/metrics.json"))["test"]


def predict(ctx: Context, *files: Path) -> list[dict[str, Any]]:
    return predict_files(ctx, files, f"{ctx.model_name}@challenger")


def test_tags_are_learned_judged_and_predicted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(100):
        tags = [label for label in SOUNDS if rng.random() < 0.4]
        # They may sound at once.
        events = [(onset := float(rng.uniform(0, 0.8)), onset + 0.6, tag) for tag in tags]
        write_recording(tmp_path / "wavs" / f"{i:03d}.wav", 1.5, events, rng)
        rows.append((f"wavs/{i:03d}.wav", ";".join(tags) or "(none)"))
    table = tmp_path / "clips.csv"
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(table, index=False)
    ctx, test = run_all(
        tmp_path / "tags",
        table,
        "table",
        features={**FEATURES, "duration_s": 1.5},
        task={"name": "tagging"},
        model={"name": "rescnn"},
        augment=[{"name": "mixup"}],
        training=TRAINING | {"max_epochs": 12},
        split={"test_share": 0.3, "validation_share": 0.25},
    )
    assert test["map"] > 0.9
    assert test["low"] <= test["map"] <= test["high"]
    assert set(test["ap"]) == set(SOUNDS)
    assert "Precision recall" in ctx.path("reports/evaluation/index.html").read_text()
    write_recording(tmp_path / "new.wav", 1.5, [(0.2, 0.8, "tone"), (0.6, 1.3, "hiss")], rng)
    write_recording(tmp_path / "quiet.wav", 1.5, [], rng)
    both, none = predict(ctx, tmp_path / "new.wav", tmp_path / "quiet.wav")
    assert sorted(both["tags"]) == ["hiss", "tone"]
    assert none["tags"] == []


def test_events_are_learned_judged_and_predicted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for i in range(12):
        events = [] if i == 0 else draw_events(24.0, rng)
        write_recording(tmp_path / "long" / f"{i:02d}.wav", 24.0, events, rng)
        rows += [(f"long/{i:02d}.wav", *event) for event in events or [(None, None, None)]]
    table = tmp_path / "events.tsv"
    pd.DataFrame(rows, columns=["filename", "onset", "offset", "event_label"]).to_csv(table, index=False, sep="\t")
    ctx, test = run_all(
        tmp_path / "events",
        table,
        "events",
        # Cut where they are packed, and seen through windows that overlap.
        ingest={"segment": {"name": "fixed", "length_s": 8.0}},
        features={**FEATURES, "duration_s": 4.0, "length": "segment"},
        task={"name": "detection", "alarms": [{"label": "hiss", "min_confidence": 0.5, "cooldown_s": 100.0}]},
        model={"name": "rescnn", "channels": [16, 24]},
        augment=[{"name": "time_shift"}],
        training=TRAINING | {"max_epochs": 20},
        split={"test_share": 0.25, "validation_share": 0.2},
    )
    assert test["event_f1"] > 0.8
    assert test["segment_f1"] > 0.8
    events = [(2.0, 2.6, "tone"), (5.0, 5.5, "hiss"), (8.0, 8.7, "sweep"), (11.0, 11.5, "hiss")]
    write_recording(tmp_path / "new.wav", 13.0, events, rng)
    write_recording(tmp_path / "quiet.wav", 8.0, [], rng)
    answer, quiet = predict(ctx, tmp_path / "new.wav", tmp_path / "quiet.wav")
    heard = [(event["label"], event["onset_s"]) for event in answer["events"]]
    assert [label for label, _ in heard] == ["tone", "hiss", "sweep", "hiss"]
    assert [onset_s for _, onset_s in heard] == pytest.approx([2.0, 5.0, 8.0, 11.0], abs=0.2)
    assert [round(alarm["time_s"]) for alarm in answer["alarms"]] == [5]
    assert (quiet["events"], quiet["alarms"]) == ([], [])


def test_texts_are_learned_judged_and_predicted(tmp_path: Path) -> None:
    """Sounds are the words of the texts; each is a unit of its own, by a column of pronunciations."""
    rng = np.random.default_rng(2)
    unit = {"hiss": "s", "sweep": "w", "tone": "o"}
    rows = []
    for i in range(150):
        words, at_s, events = [str(word) for word in rng.choice(SOUNDS, rng.integers(1, 5))], 0.1, []
        for word in words:
            events.append((at_s, at_s + 0.3, word))
            at_s += 0.3 + float(rng.uniform(0.1, 0.3))
        write_recording(tmp_path / "wavs" / f"{i:03d}.wav", at_s + 0.1, events, rng)
        rows.append((f"wavs/{i:03d}.wav", " ".join(words), " | ".join(unit[word] for word in words)))
    table = tmp_path / "texts.csv"
    pd.DataFrame(rows, columns=["path", "label", "spoken"]).to_csv(table, index=False)
    ctx, test = run_all(
        tmp_path / "texts",
        table,
        "table",
        features={**FEATURES, "length": "whole"},
        task={"name": "ctc", "units": "phonemes", "pronunciation": "spoken"},
        model={"name": "conformer", "layers": 2},
        training=TRAINING | {"max_epochs": 25},
        split={"test_share": 0.2, "validation_share": 0.2},
    )
    assert test["wer"] < 0.1
    assert test["low"] <= test["wer"] <= test["high"]
    events = [(0.1, 0.4, "tone"), (0.6, 0.9, "hiss"), (1.1, 1.4, "sweep")]
    write_recording(tmp_path / "new.wav", 1.6, events, rng)
    (answer,) = predict(ctx, tmp_path / "new.wav")
    assert answer["text"] == "tone hiss sweep"
    assert [word["onset_s"] for word in answer["words"]] == pytest.approx([0.1, 0.6, 1.1], abs=0.3)


def test_moods_of_speakers_that_were_never_heard(tmp_path: Path) -> None:
    """The preset for emotions: every fold is of speakers whose clips its model never saw."""
    rng = np.random.default_rng(3)
    for speaker in range(3):
        for label, sound, n in (("calm", "tone", 12), ("tense", "hiss", 5)):
            for take in range(n):
                name = f"{label}_{speaker}_{take}.wav"
                write_recording(tmp_path / "wavs" / name, 0.6, [(0.1, 0.5, sound)], rng)
    choices = Choices(
        source=str(tmp_path / "wavs"),
        layout="filename",
        pattern=r"(?P<label>[a-z]+)_(?P<speaker>\d)_\d+",
        preset="emotion",
    )
    ctx = Context.load(create_workspace(tmp_path / "moods", choices).folder)
    raw = apply_changes(read_raw_params(ctx.path("params.yaml")), {"training.max_epochs": 4, "training.batch_size": 16})
    ctx.path("params.yaml").write_text(render_params(raw))
    ctx = Context.load(ctx.workspace)
    for step in STEPS:
        run_step(ctx, step, jobs=1)
    metrics = read_json(ctx.path("reports/metrics.json"))
    assert set(metrics["folds"]["uar_by_fold"]) == {"0", "1", "2"}
    assert metrics["folds"]["uar"] > 0.9
    parts = read_splits(ctx.path(SPLITS)).merge(read_manifest(ctx.path(MANIFEST)), on="clip_id")
    assert parts.groupby("speaker")["fold_name"].nunique().eq(1).all()
    assert "uar" in ctx.path("reports/evaluation/index.html").read_text().lower()
