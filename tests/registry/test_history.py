from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from audioml.errors import RegistryError
from audioml.pipeline.context import Context
from audioml.registry import history
from audioml.registry.history import HISTORY_TAG, add_event, read_history
from audioml.registry.runs import training_run
from audioml.registry.server import use_server
from audioml.registry.tracking import tracking
from audioml.registry.versions import register_package, resolve

pytestmark = pytest.mark.usefixtures("configured")


class KilledError(Exception):
    """Stands for a registry, or a program, that is gone in this moment."""


@pytest.fixture
def model(make_workspace: Callable[[str], Context], package: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """A workspace with three versions, the first of which is champion."""
    ctx = make_workspace(f"h{abs(hash(request.node.name))}")
    for i in range(3):
        copy = tmp_path / f"package-{i}"
        shutil.copytree(package, copy)
        (copy / "requirements.txt").write_text(copy.name)
        with training_run(ctx) as tracker:
            pass
        register_package(ctx, copy, tracker.run_id, {})
    with tracking(ctx):
        yield ctx


def champion_of(ctx: Context) -> int:
    return resolve(ctx).version


def break_off(monkeypatch: pytest.MonkeyPatch, ctx: Context, method: str, version: int) -> None:
    """Have a promotion die between its entry and its alias, or between its alias and its outcome."""
    client = MlflowClient()
    real = getattr(client, method)

    def die(*arguments: str) -> object:
        if method == "log_param" and arguments[1] != "000002.outcome":
            return real(*arguments)
        raise KilledError

    monkeypatch.setattr(client, method, die)
    with pytest.raises(KilledError):
        add_event(client, ctx, read_history(MlflowClient(), ctx.model_name), "promoted", version, by="ann", reason="x")


def age_last_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PATIENCE_S", -1.0)


def test_entries_name_champions_in_order_and_link_to_each_other(model):
    client = MlflowClient()
    for version, action in ((2, "promoted"), (1, "rolled back"), (3, "rejected")):
        events = read_history(client, model.model_name)
        add_event(client, model, events, action, version, by="ann", reason=f"reason {version}", failed_gates=("noise",))
    events = read_history(client, model.model_name)
    assert [(e.number, e.version, e.champion_before, e.action, e.outcome) for e in events] == [
        (1, 1, None, "promoted", "done"),
        (2, 2, 1, "promoted", "done"),
        (3, 1, 2, "rolled back", "done"),
        (4, 3, 1, "rejected", "done"),
    ]
    assert events[3].failed_gates == ("noise",)
    assert len({event.previous for event in events}) == 4
    assert champion_of(model) == 1


def test_of_two_at_once_one_wins_and_the_other_is_told(model):
    client = MlflowClient()
    events = read_history(client, model.model_name)
    barrier, won, told = threading.Barrier(2), [], []

    def promote(version: int) -> None:
        barrier.wait()
        try:
            won.append(add_event(client, model, events, "promoted", version, by=f"user {version}", reason="mine"))
        except RegistryError as error:
            told.append(str(error))

    threads = [threading.Thread(target=promote, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    (message,) = told
    assert f"meanwhile version {winner.version} was promoted by user {winner.version} (mine)" in message
    assert champion_of(model) == winner.version
    assert [event.version for event in read_history(client, model.model_name)] == [1, winner.version]


def test_broken_off_before_the_alias_moved_it_did_not_happen(model, monkeypatch):
    client = MlflowClient()
    break_off(monkeypatch, model, "set_registered_model_alias", 2)
    assert champion_of(model) == 1
    events = read_history(client, model.model_name)
    assert (events[-1].version, events[-1].outcome, events[-1].happened) == (2, "", False)
    with pytest.raises(RegistryError, match=r"Version 2 of .* is being promoted by ann at this moment"):
        add_event(client, model, events, "promoted", 3, by="bob", reason="y")
    age_last_entry(monkeypatch)
    events = read_history(client, model.model_name)
    assert events[-1].outcome == "interrupted: the champion stayed"
    add_event(client, model, events, "promoted", 3, by="bob", reason="y")
    events = read_history(client, model.model_name)
    assert [(event.version, event.happened) for event in events] == [(1, True), (2, False), (3, True)]
    assert champion_of(model) == 3


def test_broken_off_after_the_alias_moved_it_did_happen(model, monkeypatch):
    client = MlflowClient()
    break_off(monkeypatch, model, "log_param", 2)
    assert champion_of(model) == 2
    events = read_history(client, model.model_name)
    assert (events[-1].version, events[-1].outcome) == (2, "done")
    add_event(client, model, events, "rolled back", 1, by="bob", reason="y")
    events = read_history(client, model.model_name)
    assert [(event.version, event.outcome) for event in events] == [(1, "done"), (2, "done"), (1, "done")]


def test_one_that_was_written_off_meanwhile_gives_way(model, monkeypatch):
    """Its program slept between entry and alias; others have gone on since."""
    slow = MlflowClient()
    move = slow.set_registered_model_alias

    def sleep(*arguments: str) -> None:
        age_last_entry(monkeypatch)
        other = MlflowClient()
        add_event(other, model, read_history(other, model.model_name), "promoted", 3, by="bob", reason="y")
        monkeypatch.setattr(slow, "set_registered_model_alias", move)
        move(*arguments)

    monkeypatch.setattr(slow, "set_registered_model_alias", sleep)
    with pytest.raises(RegistryError, match="somebody else went on without it"):
        add_event(slow, model, read_history(slow, model.model_name), "promoted", 2, by="ann", reason="x")
    assert champion_of(model) == 3
    events = read_history(slow, model.model_name)
    assert [(event.version, event.happened) for event in events] == [(1, True), (2, False), (3, True)]


@pytest.mark.slow
def test_the_registry_dies_between_entry_and_alias(
    make_workspace: Callable[[str], Context], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed for real, and comes up again on its database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    ctx = make_workspace("dies")
    with use_server(ctx.state) as server, tracking(ctx):
        for note in ("one", "two"):
            shutil.copytree(package, tmp_path / note)
            (tmp_path / note / "requirements.txt").write_text(note)
            with training_run(ctx) as tracker:
                pass
            register_package(ctx, tmp_path / note, tracker.run_id, {})
        client = MlflowClient()
        move = client.set_registered_model_alias

        def move_on_a_dead_server(*arguments: str) -> None:
            os.kill(server.pid, signal.SIGKILL)
            move(*arguments)

        monkeypatch.setattr(client, "set_registered_model_alias", move_on_a_dead_server)
        with pytest.raises(mlflow.exceptions.MlflowException):
            add_event(client, ctx, read_history(client, "dies"), "promoted", 2, by="ann", reason="x")
    with tracking(ctx):
        client = MlflowClient()
        assert champion_of(ctx) == 1
        assert read_history(client, "dies")[-1].happened is False
        age_last_entry(monkeypatch)
        events = read_history(client, "dies")
        assert [(e.version, e.outcome) for e in events] == [(1, "done"), (2, "interrupted: the champion stayed")]
        add_event(client, ctx, events, "promoted", 2, by="ann", reason="once more")
        assert champion_of(ctx) == 2
        assert [event.happened for event in read_history(client, "dies")] == [True, False, True]


def test_a_champion_by_other_means_shows(model, monkeypatch):
    client = MlflowClient()
    break_off(monkeypatch, model, "set_registered_model_alias", 2)
    client = MlflowClient()
    client.set_registered_model_alias(model.model_name, "champion", "3")
    events = read_history(client, model.model_name)
    assert events[-1].outcome == "overtaken: version 3 was made champion by other means"
    add_event(client, model, events, "promoted", 2, by="ann", reason="x")
    assert read_history(client, model.model_name)[-1].champion_before == 3


def test_a_changed_history_is_refused(model):
    client = MlflowClient()
    add_event(client, model, read_history(client, model.model_name), "promoted", 2, by="ann", reason="x")
    run_id = client.get_registered_model(model.model_name).tags[HISTORY_TAG]
    first = json.loads(client.get_run(run_id).data.params["000001"])
    other = client.create_run(client.get_run(run_id).info.experiment_id)
    client.log_param(other.info.run_id, "000001", json.dumps(first | {"by": "nobody"}))
    client.log_param(other.info.run_id, "000002", client.get_run(run_id).data.params["000002"])
    client.set_registered_model_tag(model.model_name, HISTORY_TAG, other.info.run_id)
    with pytest.raises(RegistryError, match=r"entry 2 in MLflow.s run .* is not the one that was written"):
        read_history(client, model.model_name)
    with pytest.raises(mlflow.exceptions.MlflowException):
        client.log_param(run_id, "000001", "{}")


def test_times_are_utc_and_reasons_bounded(model):
    client = MlflowClient()
    event = add_event(client, model, read_history(client, model.model_name), "promoted", 2, by="ann", reason="ä" * 5000)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(event.time)) < timedelta(minutes=5)
    assert (len(event.reason), event.reason[-1]) == (2000, "…")
    assert read_history(client, model.model_name)[-1] == event
