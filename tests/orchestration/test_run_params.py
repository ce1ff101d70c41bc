from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audioml.errors import ParamsError
from audioml.orchestration import run_params
from audioml.orchestration.dvc import decide, record_step
from audioml.orchestration.run_params import begin_run, end_run, kept_params, list_runs, load_own_params
from audioml.orchestration.workspace import Choices, create_workspace
from audioml.params import load_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import STEPS
from audioml.pipeline.runner import run_step
from audioml.store.files import write_text

SETTINGS = ["training.max_epochs=3"]
KILLED = 137


@pytest.fixture
def params(workspace: Path) -> Path:
    """The params.yaml of a workspace, with line ends and a comment that no rendering would make."""
    path = workspace / "params.yaml"
    path.write_bytes(path.read_bytes() + b"# as I left it\r\n")
    return path


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings become a comment, so that no plug-in is imported."""
    monkeypatch.setattr(run_params, "override_file", lambda path, given: path.read_text() + f"# {given}\n")


def kill_at(rename: int, when: str, function: Callable[[], Any]) -> int:
    """Call a function in a process of its own that ends, with nothing cleaned up, before or after its n-th rename."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    real, calls = Path.replace, iter(range(100))

    def replace(self: Path, target: Any) -> Path:
        last = next(calls) == rename
        if last and when == "before":
            os._exit(KILLED)
        done = real(self, target)
        if last:
            os._exit(KILLED)
        return done

    status = 1
    try:
        Path.replace = replace  # type: ignore[method-assign, assignment]
        function()
        status = 0
    finally:
        os._exit(status)


def test_settings_hold_for_the_run_and_are_kept(params: Path) -> None:
    folder, before = params.parent, params.read_bytes()
    begun = begin_run(folder, "birds/manual__2026-11-21T18:00:00+00:00", SETTINGS)
    assert load_params(folder).training.max_epochs == 3
    assert (folder / begun["params"]).read_bytes() == params.read_bytes()
    record = end_run(folder, begun["key"])
    assert (record.outcome, record.settings) == ("restored", tuple(SETTINGS))
    assert params.read_bytes() == before
    kept = kept_params(folder, "manual__2026-11-21T18:00:00+00:00")
    assert load_params(kept.parent).training.max_epochs == 3
    assert end_run(folder, begun["key"]) == record


def test_without_settings_the_file_is_not_touched(params: Path) -> None:
    before, stat = params.read_bytes(), params.stat()
    begin_run(params.parent, "one", [])
    assert (params.read_bytes(), params.stat().st_mtime_ns, params.stat().st_ino) == (
        before,
        stat.st_mtime_ns,
        stat.st_ino,
    )
    assert kept_params(params.parent, "one").read_bytes() == before
    assert end_run(params.parent, "one").outcome == "unchanged"
    assert params.stat().st_ino == stat.st_ino


def test_a_wrong_setting_changes_nothing(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(ParamsError, match="max_epochs"):
        begin_run(params.parent, "one", ["training.max_epochs=none"])
    assert params.read_bytes() == before
    assert list_runs(params.parent) == []
    assert end_run(params.parent, "one").outcome == "unknown"


@pytest.mark.usefixtures("cheap")
def test_an_edit_during_the_run_stays(params: Path) -> None:
    begin_run(params.parent, "one", SETTINGS)
    edited = params.read_bytes() + b"seed: 7\n"
    params.write_bytes(edited)
    assert end_run(params.parent, "one").outcome == "edited"
    assert params.read_bytes() == edited


@pytest.mark.usefixtures("cheap")
def test_the_next_run_ends_one_that_never_ended(params: Path) -> None:
    before = params.read_bytes()
    begin_run(params.parent, "one", SETTINGS)
    begun = begin_run(params.parent, "two", ["seed=1"])
    assert begun["ended"] == ["one"]
    assert params.read_text().count("# [") == 1
    assert "seed=1" in params.read_text()
    two, one = list_runs(params.parent)
    assert (one.outcome, one.ended_by, two.ended) == ("restored", "two", None)
    assert end_run(params.parent, "one") == one
    assert "seed=1" in params.read_text()
    end_run(params.parent, "two")
    assert params.read_bytes() == before


@pytest.mark.usefixtures("cheap")
def test_a_run_that_begins_again_begins_from_the_original(params: Path) -> None:
    before = params.read_bytes()
    for _ in range(2):
        begin_run(params.parent, "one", SETTINGS)
        assert params.read_text().count("# [") == 1
    end_run(params.parent, "one")
    assert params.read_bytes() == before


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("killed", ["begin", "end"])
@pytest.mark.parametrize("next_run", [None, "one", "two"])
def test_killed_at_any_write_nothing_is_lost(params: Path, when: str, killed: str, next_run: str | None) -> None:
    folder, before = params.parent, params.read_bytes()
    for rename in range(100):
        if killed == "begin":
            status = kill_at(rename, when, lambda: begin_run(folder, "one", SETTINGS))
        else:
            begin_run(folder, "one", SETTINGS)
            status = kill_at(rename, when, lambda: end_run(folder, "one"))
        if next_run:
            begin_run(folder, next_run, ["seed=1"])
            assert params.read_text().count("# [") == 1
            end_run(folder, next_run)
        end_run(folder, "one")
        assert params.read_bytes() == before
        assert all(record.ended for record in list_runs(folder))
        if status == 0:
            break
        assert status == KILLED
    # Renames of begin: two files and the record, their folder, params.yaml. Of end: params.yaml and the record.
    assert rename >= {"begin": 5, "end": 2}[killed]


@pytest.mark.usefixtures("cheap")
def test_the_newest_runs_are_kept(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_params, "MAX_KEPT", 3)
    for key in "abcde":
        begin_run(params.parent, key, SETTINGS)
    assert [record.key for record in list_runs(params.parent)] == ["e", "d", "c"]
    assert len(list((params.parent / ".audioml" / "runs").iterdir())) == 3


def test_any_key_has_a_folder_of_its_own(params: Path) -> None:
    keys = ["..", ".", ".hidden", "a/b", "a%2Fb", "a_b", "x" * 500, "x" * 501, "é:+ ?"]
    for key in keys:
        begin_run(params.parent, key, [])
    assert {record.key for record in list_runs(params.parent)} == set(keys)
    assert len({kept_params(params.parent, key) for key in keys}) == len(keys)


def test_an_unknown_or_ambiguous_run_is_named(params: Path) -> None:
    for key in ("birds/manual__1", "birds.train/manual__1"):
        begin_run(params.parent, key, [])
    with pytest.raises(ParamsError, match="2 runs are called 'manual__1'"):
        kept_params(params.parent, "manual__1")
    with pytest.raises(ParamsError, match="Did you mean 'manual__1'"):
        kept_params(params.parent, "manual_1")


@pytest.mark.slow
def test_what_a_run_kept_is_up_to_date_under_dvc(tones: Path, tmp_path: Path) -> None:
    folder = create_workspace(tmp_path / "tones", Choices(source=str(tones))).folder
    steps = STEPS[:4]

    def up_to_date() -> dict[str, bool]:
        return {step.name: not decide(Context.load(folder), step)[0].run for step in steps}

    for settings in ([], ["features.n_mels=20", "split.test_share=0.25", "training.max_epochs=1"]):
        begin_run(folder, f"with {len(settings)} settings", settings)
        ctx = Context.load(folder)
        for step in steps:
            if decide(ctx, step)[0].run:
                run_step(ctx, step, jobs=1)
                record_step(ctx, step)
        end_run(folder, f"with {len(settings)} settings")

    changed = {"ingest": True, "validate": True, "split": False, "featurize": False}
    assert up_to_date() == changed
    write_text(folder / "params.yaml", kept_params(folder, "with 3 settings").read_text())
    assert all(up_to_date().values())
    status = subprocess.run(["dvc", "status", *changed], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "up to date" in status


def test_the_workspaces_own_params_can_be_read_while_a_run_has_others(params: Path) -> None:
    folder, own = params.parent, load_params(params.parent)
    key = begin_run(folder, "birds/1", SETTINGS)["key"]
    assert load_params(folder).training.max_epochs == 3
    assert load_own_params(folder) == own
    end_run(folder, key)
    assert load_own_params(folder) == own
