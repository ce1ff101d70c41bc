from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from matplotlib.figure import Figure
from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException

from audioml.params import load_params
from audioml.pipeline.context import Context
from audioml.registry.lineage import dataset_digest, effective_params
from audioml.registry.runs import log_evaluation, log_search, nest_runs, open_search_run, training_run

pytestmark = pytest.mark.usefixtures("configured")


def test_run_has_params_tags_dataset_and_metrics(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-content")
    with training_run(ctx) as tracker:
        tracker.log_params({"weights": 1234})
        tracker.log_metrics({"train/loss": 2.0, "f1/c#": 0.5}, step=0)
        tracker.log_metrics({"train/loss": 1.0, "validation/loss": math.nan}, step=1)
    client = mlflow.MlflowClient()
    run = client.get_run(tracker.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "run-content"
    assert run.info.status == "FINISHED"
    assert run.data.params == {**effective_params(ctx.params), "weights": "1234"}
    assert run.data.tags["audioml.dataset_digest"] == dataset_digest(ctx)
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    assert [m.value for m in client.get_metric_history(tracker.run_id, "train/loss")] == [2.0, 1.0]
    assert run.data.metrics["f1/c_23_"] == 0.5
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("run-content", dataset_digest(ctx))
    assert (
        Path(client.download_artifacts(tracker.run_id, "params.yaml")).read_bytes()
        == ctx.path("params.yaml").read_bytes()
    )


def test_a_dataset_that_two_runs_name_at_once_is_named_by_both(
    make_workspace: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    log_inputs = mlflow.MlflowClient.log_inputs

    def refuse_once(client: mlflow.MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
        if not refused:
            refused.append(run_id)
            raise MlflowException("BAD_REQUEST: (sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
        log_inputs(client, run_id, inputs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", refuse_once)
    with training_run(make_workspace("run-race")) as tracker:
        pass
    assert refused == [tracker.run_id]
    assert len(mlflow.MlflowClient().get_run(tracker.run_id).inputs.dataset_inputs) == 1


def test_params_edited_since_the_start_are_not_those_of_the_run(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-edited")
    path = ctx.path("params.yaml")
    path.write_text(path.read_text() + "seed: 9\n")
    with training_run(ctx) as tracker:
        pass
    logged = Path(mlflow.MlflowClient().download_artifacts(tracker.run_id, "params.yaml"))
    assert load_params(logged.parent) == ctx.params


def test_error_ends_the_run_as_failed_and_its_id_takes_it_up_again(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-retry")
    with pytest.raises(RuntimeError, match="power"), training_run(ctx) as first:
        raise RuntimeError("power")
    assert mlflow.MlflowClient().get_run(first.run_id).info.status == "FAILED"
    with training_run(ctx, first.run_id) as second:
        second.log_metrics({"loss": 1.0}, step=0)
    assert second.run_id == first.run_id
    assert mlflow.MlflowClient().get_run(first.run_id).info.status == "FINISHED"


def test_other_params_or_an_unknown_id_make_a_new_run(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-new")
    with training_run(ctx) as first:
        pass
    changed = replace(ctx, params=ctx.params.model_copy(update={"seed": 7}))
    with training_run(changed, first.run_id) as second:
        pass
    with training_run(ctx, "0" * 32) as third:
        pass
    assert len({first.run_id, second.run_id, third.run_id}) == 3


def test_system_metrics(make_workspace: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    ctx = make_workspace("run-system")
    client = mlflow.MlflowClient()
    with training_run(ctx) as tracker:
        while "system/cpu_utilization_percentage" not in client.get_run(tracker.run_id).data.metrics:
            pass
    assert client.get_run(tracker.run_id).data.metrics["system/system_memory_usage_megabytes"] > 0


def test_evaluation_is_logged_to_the_training_run(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-evaluation")
    with training_run(ctx) as tracker:
        pass
    report = ctx.path("reports/evaluation")
    report.mkdir(parents=True)
    (report / "index.html").write_text("<p>good</p>")
    figure = Figure()
    figure.subplots().plot([0, 1])
    log_evaluation(ctx, tracker.run_id, {"test/accuracy": 0.75}, {"confusion": figure}, report)
    client = mlflow.MlflowClient()
    assert client.get_run(tracker.run_id).data.metrics == {"test/accuracy": 0.75}
    assert [a.path for a in client.list_artifacts(tracker.run_id, "figures")] == ["figures/confusion.png"]
    path = client.download_artifacts(tracker.run_id, "evaluation/index.html")
    with open(path) as file:  # noqa: PTH123 (MLflow returns a string)
        assert file.read() == "<p>good</p>"


def test_a_run_of_another_server_gets_a_stand_in_once(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("run-elsewhere")
    report = ctx.path("reports")
    report.mkdir()
    for accuracy in (0.5, 0.75):
        log_evaluation(ctx, "f" * 32, {"accuracy": accuracy}, {}, report)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("run-elsewhere")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["audioml.stands_for_run"] == "f" * 32
    assert run.data.metrics == {"accuracy": 0.75}


def test_folds_and_trials_are_shown_below_their_run(make_workspace: Callable[[str], Context], tmp_path: Path) -> None:
    ctx = make_workspace("run-nested")
    client = mlflow.MlflowClient()
    with training_run(ctx) as model:
        pass
    with training_run(ctx, None, "fold ann") as fold:
        pass
    nest_runs(ctx, model.run_id, [fold.run_id, "0" * 32])
    of_fold = client.get_run(fold.run_id)
    assert of_fold.data.tags["mlflow.parentRunId"] == model.run_id
    assert of_fold.info.run_name.endswith(" fold ann")
    search = open_search_run(ctx, None)
    assert open_search_run(ctx, search) == search
    with training_run(ctx, None, "trial 0", search) as trial:
        pass
    assert client.get_run(trial.run_id).data.tags["mlflow.parentRunId"] == search
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<html>")
    log_search(ctx, search, {"best_value": 0.5}, {"search": Figure()}, tmp_path / "report")
    run = client.get_run(search)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_value"] == 0.5
    assert [file.path for file in client.list_artifacts(search, "search")] == ["search/index.html"]
    assert [file.path for file in client.list_artifacts(search, "figures")] == ["figures/search.png"]
