import json

import pytest
import yaml
from typer.testing import CliRunner

from audioml.cli import app
from audioml.errors import ParamsError
from audioml.params import load_params


@pytest.fixture
def workspace(tmp_path, minimal_params):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params))
    return tmp_path


def call(workspace, *arguments):
    """Run a command in this process; return its output, and raise what it raises."""
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace)], catch_exceptions=False).output


def test_params_shows_what_it_would_write(workspace):
    before = (workspace / "params.yaml").read_text()
    assert call(workspace, "params") == before
    options = ("--set", "training.max_epochs=3", "--set", "augment=[{name: mixup}]")
    shown = call(workspace, "params", *options)
    assert (workspace / "params.yaml").read_text() == before
    assert json.loads(call(workspace, "params", *options, "--json")) == yaml.safe_load(shown)
    assert "audioml plan" in " ".join(call(workspace, "params", *options, "--write").split())
    assert (workspace / "params.yaml").read_text() == shown
    params = load_params(workspace)
    assert params.training.max_epochs == 3
    assert [name for name, _ in params.augment_sections()] == ["mixup"]
    assert "# Share of clips that are mixed at all." in shown


def test_params_checks_all_sections(workspace):
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("name: bcresnet", "name: bcresnet\n  widht: 3"))
    with pytest.raises(ParamsError, match="Did you mean 'width'"):
        call(workspace, "params")


def test_a_run_from_its_begin_to_its_reproduction(workspace):
    path = workspace / "params.yaml"
    before = path.read_text()
    begun = json.loads(call(workspace, "runs", "begin", "birds/one", "--set", "training.max_epochs=3", "--json"))
    assert (workspace / begun["params"]).read_text() == path.read_text() != before
    (listed,) = json.loads(call(workspace, "runs", "list", "--json"))
    assert (listed["key"], listed["settings"], listed["ended"]) == ("birds/one", ["training.max_epochs=3"], None)
    assert json.loads(call(workspace, "runs", "end", "birds/one", "--json"))["outcome"] == "restored"
    assert path.read_text() == before
    assert "training.max_epochs=3" in call(workspace, "runs", "list").replace("\n", "").replace(" ", "")
    call(workspace, "params", "--run", "one", "--set", "seed=4", "--write")
    assert (load_params(workspace).training.max_epochs, load_params(workspace).seed) == (3, 4)


@pytest.mark.parametrize("command", ["list", "begin", "end"])
def test_each_command_of_runs_has_help_with_an_example(command):
    assert f"audioml runs {command}" in CliRunner().invoke(app, ["runs", command, "--help"]).output
