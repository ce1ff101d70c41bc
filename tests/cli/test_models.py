"""`audioml models`, against a real MLflow server of the workspace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from audioml.cli import app
from audioml.errors import RegistryError
from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.runs import training_run
from audioml.registry.server import use_server
from audioml.registry.versions import register_package


@pytest.fixture
def workspace(
    tmp_path: Path, minimal_params: dict[str, Any], tone_model: Any, tone_wav: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A workspace with a champion of accuracy 0.8 and a challenger of 0.7."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params))
    ctx = Context.load(tmp_path)
    package = tmp_path / "package"
    save_package(package, onnx=tone_model[0], description=tone_model[1], example_audio=tone_wav(200.0))
    with use_server(ctx.state):
        for accuracy in (0.8, 0.7):
            (package / "requirements.txt").write_text(f"# {accuracy}")
            with training_run(ctx) as tracker:
                register_package(ctx, package, tracker.run_id, {"test_accuracy": accuracy})
        shutil.rmtree(package)
        yield tmp_path


def models(workspace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments, "--workspace", str(workspace)])


def test_list_compare_and_promote(workspace: Path) -> None:
    listed = json.loads(models(workspace, "list", "--json").output)
    assert [(v["version"], v["aliases"]) for v in listed] == [(2, ["challenger"]), (1, ["champion"])]

    compared = models(workspace, "compare").output
    assert "test_accuracy" in compared
    assert "Version 2 of 'digits' is worse: test_accuracy 0.7, the champion (version 1) has 0.8." in compared
    assert json.loads(models(workspace, "compare", "--json").output)["better"] == "champion"

    refused = models(workspace, "promote", "--by", "ann", "--reason", "new")
    assert isinstance(refused.exception, RegistryError)
    forced = models(workspace, "promote", "2", "--by", "ann", "--reason", "heard [it]", "--force")
    assert "Version 2 of digits is champion now." in forced.output
    again = models(workspace, "promote", "--by", "ann", "--reason", "new", "--json")
    assert json.loads(again.output)["promoted"] is False

    shown = models(workspace, "list").output
    assert "heard [it]" in " ".join(shown.split())
    (record,) = json.loads(models(workspace, "list", "--json").output)[0]["history"]
    assert (record["by"], record["champion_before"], record["forced"]) == ("ann", 1, True)

    back = models(workspace, "rollback", "--by", "bob", "--reason", "deaf at night")
    assert "Version 1 is champion again, in place of version 2." in back.output
    assert "Version 2 is rejected." in models(workspace, "reject", "--by", "bob", "--reason", "deaf").output
    told = models(workspace, "history").output
    assert all(word in told for word in ("promoted", "force", "rolled", "rejected", "night"))
    events = json.loads(models(workspace, "history", "--json").output)
    assert [(e["action"], e["version"], e["outcome"]) for e in events] == [
        ("promoted", 1, "done"),
        ("promoted", 2, "done"),
        ("rolled back", 1, "done"),
        ("rejected", 2, "done"),
    ]


def test_who_and_why_must_be_said(tmp_path: Path) -> None:
    assert models(tmp_path, "promote").exit_code == 2
