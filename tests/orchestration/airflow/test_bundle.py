"""A file for each workspace, so that a broken one harms no other."""

import pytest

from audioml.orchestration.workspaces import VARIABLE, name_workspaces

from ..conftest import write_workspace


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read the DAGs of workspaces as Airflow does; returns DAG ids and import errors by the workspace of their file."""
    from airflow.dag_processing.dagbag import DagBag

    from audioml.orchestration.airflow.bundle import WorkspacesBundle, file_name

    bundle = WorkspacesBundle(name="audioml")
    monkeypatch.setattr(bundle, "base_dir", tmp_path / "bundles")

    def read(*folders):
        monkeypatch.setenv(VARIABLE, name_workspaces(folders))
        bundle.initialize() if not bundle.is_initialized else bundle.refresh()
        bag = DagBag(str(bundle.path), bundle_path=bundle.path, bundle_name="audioml")
        names = {file_name(folder): folder.name for folder in folders}
        assert {path.name for path in bundle.path.iterdir() if path.is_file()} == set(names)
        errors = {names[name]: error for name, error in bag.import_errors.items()}
        dags = {names[name]: set() for name in names}
        for dag in bag.dags.values():
            dags[names[dag.relative_fileloc]].add(dag.dag_id)
        return dags, errors

    return read


def dags_of(name):
    return {name, *(f"{name}.{stage}" for stage in ("ingest", "features", "train", "promote", "monitor"))}


def test_each_broken_workspace_is_an_import_error_of_its_own(tmp_path, read):
    good = write_workspace(tmp_path / "good", "good")
    seed, training = (write_workspace(tmp_path / key, key, f"{key}: 1\n") for key in ("sed", "trainin"))
    dags, errors = read(seed, good, training)
    assert dags == {"good": dags_of("good"), "sed": set(), "trainin": set()}
    assert set(errors) == {"sed", "trainin"}
    assert "unknown key 'sed'" in errors["sed"]
    assert "unknown key 'trainin'" in errors["trainin"]

    (seed / "params.yaml").write_text((good / "params.yaml").read_text().replace("name: good", "name: mended"))
    dags, errors = read(seed, good)
    assert dags == {"good": dags_of("good"), "sed": dags_of("mended")}
    assert errors == {}


@pytest.mark.parametrize("name", ["birds", "birds.train"])
def test_a_second_workspace_of_a_name_is_told_and_spares_the_first(tmp_path, read, name):
    first, second = write_workspace(tmp_path / "first", "birds"), write_workspace(tmp_path / "second", name)
    dags, errors = read(first, second)
    assert dags == {"first": dags_of("birds"), "second": set()}
    assert f"{first} is called 'birds'" in errors["second"]


def test_any_path_is_a_file_of_its_own(tmp_path, read):
    folders = [write_workspace(tmp_path / name / "birds ü'", name) for name in "ab"]
    dags, errors = read_by_path(read, folders)
    assert errors == {}
    assert dags == dags_of("a") | dags_of("b")


def read_by_path(read, folders):
    found, errors = [], {}
    for folder in folders:
        dags, more = read(folder)
        found += [dag_id for ids in dags.values() for dag_id in ids]
        errors |= more
    return set(found), errors
