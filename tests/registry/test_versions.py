from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from audioml.errors import RegistryError, StoreError
from audioml.pipeline.context import Context
from audioml.registry.lineage import dataset_digest
from audioml.registry.logged_models import fetch_package
from audioml.registry.package import package_digest
from audioml.registry.runs import training_run
from audioml.registry.versions import RegisteredVersion, fetch_checkpoint, parse_reference, register_package, resolve

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def other_package(package: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "other"
    shutil.copytree(package, copy)
    (copy / "requirements.txt").write_text("mlflow\n")
    return copy


def register(ctx: Context, package: Path, accuracy: float = 0.9) -> RegisteredVersion:
    with training_run(ctx) as tracker:
        pass
    return register_package(ctx, package, tracker.run_id, {"accuracy": accuracy, "f1/c#": 0.5})


def test_first_version_is_challenger_and_champion(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("first")
    version = register(ctx, package)
    assert (version.name, version.version, version.aliases) == ("first", 1, ("challenger", "champion"))
    assert version.metrics == {"accuracy": 0.9, "f1/c_23_": 0.5}
    assert version.package_digest == package_digest(package)
    tags = mlflow.MlflowClient().get_model_version("first", "1").tags
    assert tags["audioml.dataset_digest"] == dataset_digest(ctx)


@pytest.mark.parametrize("promote", ["approve", "manual"])
def test_where_people_decide_the_first_version_is_no_champion_by_itself(
    make_workspace: Callable[[str], Context], package: Path, promote: str
) -> None:
    ctx = make_workspace(f"asked-{promote}")
    airflow = ctx.params.airflow.model_copy(update={"promote": promote})
    ctx = replace(ctx, params=ctx.params.model_copy(update={"airflow": airflow}))
    assert register(ctx, package).aliases == ("challenger",)


def test_the_models_page_has_run_params_and_metrics(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("page")
    version = register(ctx, package)
    client = mlflow.MlflowClient()
    model = client.get_logged_model(client.get_model_version("page", "1").source.removeprefix("models:/"))
    assert model.source_run_id == version.run_id
    assert model.params["model.name"] == "bcresnet"
    assert {metric.key: metric.value for metric in model.metrics} == {"accuracy": 0.9, "f1/c_23_": 0.5}
    assert {metric.dataset_digest for metric in model.metrics} == {dataset_digest(ctx)}
    assert str(model.status) == "READY"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "page", "version": "1"}]
    (output,) = client.get_run(version.run_id).outputs.model_outputs
    assert output.model_id == model.model_id


def test_next_version_takes_challenger_only(
    make_workspace: Callable[[str], Context], package: Path, other_package: Path
) -> None:
    ctx = make_workspace("next")
    register(ctx, package)
    second = register(ctx, other_package)
    assert (second.version, second.aliases) == (2, ("challenger",))
    assert resolve(ctx).version == 1
    assert resolve(ctx, "next@challenger") == second


def test_same_package_keeps_its_version(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("same")
    first = register(ctx, package, accuracy=0.8)
    again = register(ctx, package, accuracy=0.9)
    assert again.version == first.version == 1
    assert again.metrics["accuracy"] == 0.9
    assert len(mlflow.MlflowClient().search_model_versions("name = 'same'")) == 1


def test_broken_upload_is_replaced(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("broken")
    client = mlflow.MlflowClient()
    with training_run(ctx) as tracker:
        pass
    experiment_id = client.get_run(tracker.run_id).info.experiment_id
    digest = {"audioml.package_digest": package_digest(package)}
    pending = client.create_logged_model(experiment_id, "broken", tracker.run_id, tags=digest)
    register_package(ctx, package, tracker.run_id, {})
    (model,) = client.search_logged_models([experiment_id])
    assert model.model_id != pending.model_id


def test_plain_mlflow_loads_the_version(
    make_workspace: Callable[[str], Context], package: Path, tone_wav: Callable[[float], bytes]
) -> None:
    ctx = make_workspace("plain")
    register(ctx, package)
    model = mlflow.pyfunc.load_model("models:/plain@champion")
    assert list(model.predict(pd.DataFrame({"audio": [tone_wav(3000.0)]}))["label"]) == ["high"]
    assert model.metadata.run_id == resolve(ctx).run_id


def test_fetch_downloads_once(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("fetch")
    version = register(ctx, package)
    folder = fetch_package(ctx.state, version.uri, version.package_digest)
    assert package_digest(folder) == version.package_digest
    assert fetch_package(ctx.state, "models:/nowhere/1", version.package_digest) == folder


def test_weights_to_start_from_come_with_the_version(
    make_workspace: Callable[[str], Context], other_package: Path
) -> None:
    ctx = make_workspace("source")
    version = register(ctx, other_package)
    found, path = fetch_checkpoint(ctx, "source@challenger")
    assert found == version
    assert path.read_bytes() == b"weights"
    (other_package / "artifacts" / "checkpoint.ckpt").unlink()
    register(ctx, other_package)
    with pytest.raises(RegistryError, match="source version 2 holds no weights"):
        fetch_checkpoint(ctx, "source@challenger")


def test_changed_on_the_server_is_an_error(
    make_workspace: Callable[[str], Context], package: Path, tmp_path: Path
) -> None:
    ctx = make_workspace("changed")
    version = register(ctx, package)
    client = mlflow.MlflowClient()
    (tmp_path / "requirements.txt").write_text("other")
    model_id = client.get_model_version("changed", "1").source.removeprefix("models:/")
    client.log_model_artifact(model_id, str(tmp_path / "requirements.txt"))
    with pytest.raises(StoreError, match="was changed on the server"):
        fetch_package(ctx.state, version.uri, version.package_digest)
    assert not (ctx.state / "models" / version.package_digest).exists()


def test_unknown_names_get_the_known_ones(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("known")
    register(ctx, package)
    with pytest.raises(RegistryError, match=r"No model is called 'knwon'. Did you mean 'known'\?"):
        resolve(ctx, "knwon@champion")
    with pytest.raises(RegistryError, match=r"Did you mean 'champion'\? Aliases: challenger \(version 1\), champion"):
        resolve(ctx, "known@champoin")
    with pytest.raises(RegistryError, match=r"Versions: 1\."):
        resolve(ctx, "known/7")


def test_nothing_registered_says_how(make_workspace: Callable[[str], Context]) -> None:
    with pytest.raises(RegistryError, match="No model is called 'nothing-here'"):
        resolve(make_workspace("nothing-here"))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", ("digits", "champion")),
        ("digits", ("digits", "champion")),
        ("birds@challenger", ("birds", "challenger")),
        ("birds/3", ("birds", "3")),
        ("birds@3", ("birds", "3")),
        ("@challenger", ("digits", "challenger")),
        ("models:/birds/3", ("birds", "3")),
    ],
)
def test_references(reference: str, expected: tuple[str, str]) -> None:
    assert parse_reference(reference, "digits") == expected


@pytest.mark.parametrize("reference", ["a@b@c", "a/b/c", "digits@", "x:y"])
def test_malformed_references(reference: str) -> None:
    with pytest.raises(RegistryError, match="Write NAME@ALIAS or NAME/VERSION"):
        parse_reference(reference, "digits")
