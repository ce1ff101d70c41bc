"""Work by commands of audioml in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.errors import ParamsError, StepError
from audioml.pipeline.commands import Command, run_commands, work_by_commands
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.step import Item


@pytest.fixture
def ctx(tmp_path: Path, minimal_params: dict[str, Any]) -> Context:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params))
    return Context.load(tmp_path)


def test_one_that_fails_is_named_with_its_error_and_the_others_are_done(
    ctx: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    done: list[None] = []
    commands = [
        Command("good", "the good one", ("runs", "end", "some-run")),
        Command("bad", "the bad one", ("run", "split", "--item", "nothing")),
    ]
    with pytest.raises(
        StepError, match=r"work: the bad one failed: split: no planned item .* \(1 of 2 failed"
    ) as caught:
        run_commands(ctx, "work", commands, 2, lambda: done.append(None))
    assert "Plan first: audioml run split --plan" in str(caught.value)
    assert len(done) == 2
    told = capfd.readouterr().err
    assert all(line.startswith("bad: ") for line in told.splitlines())


def test_torchrun_starts_one_training_only(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ParamsError, match=r"train has 2 items\. Plan with: audioml run train --plan"):
        work_by_commands(ctx, find_step("train"), [Item("fit", ""), Item("fold-1", "")], 1)
