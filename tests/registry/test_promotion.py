from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from audioml.errors import RegistryError
from audioml.params import PluginSection
from audioml.pipeline.context import Context
from audioml.registry.comparison import compare
from audioml.registry.promotion import list_candidates, list_events, promote, reject, rollback
from audioml.registry.runs import training_run
from audioml.registry.versions import register_package, resolve

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def add_version(package: Path, tmp_path: Path) -> Callable[..., int]:
    """A function that registers a version with an accuracy on the test set."""

    def add(ctx: Context, **metrics: float) -> int:
        copy = tmp_path / f"package-{len(list(tmp_path.glob('package-*')))}"
        shutil.copytree(package, copy)
        (copy / "requirements.txt").write_text(copy.name)
        with training_run(ctx) as tracker:
            pass
        return register_package(ctx, copy, tracker.run_id, metrics).version

    return add


@pytest.mark.parametrize(("accuracy", "better"), [(0.9, "challenger"), (0.8, "equal"), (0.7, "champion")])
def test_the_primary_metric_of_the_test_set_decides(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int], accuracy: float, better: str
) -> None:
    ctx = make_workspace(f"decides-{better}")
    add_version(ctx, test_accuracy=0.8, test_macro_f1=0.5)
    add_version(ctx, test_accuracy=accuracy, test_macro_f1=0.6)
    found = compare(ctx)
    assert (found["primary"], found["better"]) == ("test_accuracy", better)
    assert found["promotable"] is (better != "champion")
    assert (found["challenger"]["version"], found["champion"]["version"]) == (2, 1)
    assert found["challenger"]["metrics"] == {"test_accuracy": accuracy, "test_macro_f1": 0.6}
    assert f"{accuracy:.4g}" in found["reason"]
    assert (found["same_dataset"], found["same_test_set"]) == (True, True)


def test_a_metric_that_should_be_low(make_workspace: Callable[[str], Context], add_version: Callable[..., int]) -> None:
    ctx = make_workspace("low")
    ctx = replace(ctx, params=ctx.params.model_copy(update={"task": PluginSection(name="ctc")}))
    add_version(ctx, test_wer=0.2)
    add_version(ctx, test_wer=0.1)
    assert compare(ctx)["better"] == "challenger"


@pytest.mark.parametrize("metrics", [{}, {"test_accuracy": float("nan")}])
def test_what_can_not_be_compared_is_not_promoted(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int], metrics: dict[str, float]
) -> None:
    ctx = make_workspace(f"incomparable-{len(metrics)}")
    add_version(ctx, test_accuracy=0.8)
    add_version(ctx, **metrics)
    assert compare(ctx)["better"] is None
    with pytest.raises(RegistryError, match=r"version 2 has no test_accuracy.*--force"):
        promote(ctx, by="ann", reason="new")


def test_promoting_moves_the_champion_and_keeps_who_and_why(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("moves")
    add_version(ctx, test_accuracy=0.8)
    add_version(ctx, test_accuracy=0.9)
    answer = promote(ctx, by="ann", reason="heard it")
    assert (answer["promoted"], resolve(ctx).version) == (True, 2)
    promotion = answer["promotion"]
    assert (promotion["by"], promotion["reason"], promotion["champion_before"]) == ("ann", "heard it", 1)
    assert (promotion["action"], promotion["forced"], promotion["outcome"]) == ("promoted", False, "done")
    # Back, and forth again: no promotion overwrites the record of another.
    promote(ctx, 1, by="bob", reason="back", force=True)
    promote(ctx, 2, by="eve", reason="forth")
    newest, oldest = list_candidates(ctx)
    assert [event["by"] for event in newest.history] == ["ann", "eve"]
    first, second = oldest.history
    assert (first["by"], first["reason"]) == ("audioml run register", "the first version")
    assert (second["by"], second["forced"], second["champion_before"]) == ("bob", True, 2)
    assert (newest.aliases, oldest.aliases) == (("challenger", "champion"), ())


def test_the_champion_is_champion_already(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("already")
    add_version(ctx, test_accuracy=0.8)
    answer = promote(ctx, by="ann", reason="once more")
    assert (answer["promoted"], answer["promotable"]) == (False, False)
    assert answer["reason"] == "Version 1 of 'already' is champion already."
    assert len(list_candidates(ctx)[0].history) == 1


def test_a_worse_one_needs_force(make_workspace: Callable[[str], Context], add_version: Callable[..., int]) -> None:
    ctx = make_workspace("worse")
    add_version(ctx, test_accuracy=0.8)
    add_version(ctx, test_accuracy=0.7)
    with pytest.raises(RegistryError, match=r"is worse: test_accuracy 0\.7, the champion \(version 1\) has 0\.8"):
        promote(ctx, by="ann", reason="newer")
    assert resolve(ctx).version == 1
    answer = promote(ctx, by="ann", reason="newer", force=True)
    assert (resolve(ctx).version, answer["promotion"]["forced"]) == (2, True)


def test_nothing_to_promote(make_workspace: Callable[[str], Context], add_version: Callable[..., int]) -> None:
    ctx = make_workspace("nothing")
    assert compare(ctx)["reason"] == "Model 'nothing' has no challenger."
    with pytest.raises(RegistryError, match="audioml run register"):
        promote(ctx, by="ann", reason="go")
    add_version(ctx, test_accuracy=0.8)
    with pytest.raises(RegistryError, match=r"no version or alias '7'.*Versions: 1"):
        promote(ctx, 7, by="ann", reason="go")
    with pytest.raises(RegistryError, match="--by"):
        promote(ctx, by=" ", reason="go")


def test_other_data_and_other_splits_are_noticed(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("data")
    add_version(ctx, test_accuracy=0.8)
    params = ctx.params.model_copy(update={"split": ctx.params.split.model_copy(update={"test_share": 0.3})})
    add_version(Context(ctx.workspace, params), test_accuracy=0.9)
    found = compare(ctx)
    assert (found["same_dataset"], found["same_test_set"]) == (True, False)
    client = mlflow.MlflowClient()
    client.set_model_version_tag("data", "2", "audioml.dataset_digest", "other")
    assert (compare(ctx)["same_dataset"], compare(ctx)["same_test_set"]) == (False, False)


def test_a_learning_curve_changes_no_test_set(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("curve")
    add_version(ctx, test_accuracy=0.8)
    params = ctx.params.model_copy(update={"split": ctx.params.split.model_copy(update={"train_shares": [0.5]})})
    add_version(Context(ctx.workspace, params), test_accuracy=0.9)
    assert compare(ctx)["same_test_set"]


def test_links_lead_where_people_reach_mlflow(
    make_workspace: Callable[[str], Context],
    add_version: Callable[..., int],
    configured: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx = make_workspace("links")
    add_version(ctx, test_accuracy=0.8)
    candidate = list_candidates(ctx)[0]
    assert candidate.run_url == f"{configured}/#/runs/{candidate.run_id}"
    assert candidate.version_url == f"{configured}/#/models/links/versions/1"
    monkeypatch.setenv("AUDIOML_MLFLOW_URL", "https://mlflow.example.org/")
    assert list_candidates(ctx)[0].version_url == "https://mlflow.example.org/#/models/links/versions/1"


def test_a_decision_that_another_one_overtook_is_refused(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("overtaken")
    for accuracy in (0.8, 0.9, 0.7):
        add_version(ctx, test_accuracy=accuracy)
    promote(ctx, 2, by="ann", reason="better", instead_of=1)
    with pytest.raises(RegistryError, match="was to follow version 1, but version 2 is champion by now"):
        promote(ctx, 3, by="ben", reason="approved", force=True, instead_of=1)
    assert resolve(ctx, "overtaken@champion").version == 2


def test_rolling_back_goes_to_the_champion_before_and_keeps_the_bad_one_out(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("back")
    for accuracy in (0.7, 0.8, 0.9):
        add_version(ctx, test_accuracy=accuracy)
        promote(ctx, by="ann", reason="better")
    event = rollback(ctx, by="bob", reason="fails at night")
    assert (event.version, event.champion_before, event.action, resolve(ctx).version) == (2, 3, "rolled back", 2)
    with pytest.raises(RegistryError, match=r"bob went back from it: fails at night.*--force"):
        promote(ctx, 3, by="dag", reason="is better")
    assert rollback(ctx, by="bob", reason="that too").version == 1
    with pytest.raises(RegistryError, match="first champion of 'back'"):
        rollback(ctx, by="bob", reason="and that")
    promote(ctx, 3, by="ann", reason="night is mended", force=True)
    assert rollback(ctx, 1, by="ann", reason="was not").version == 1
    with pytest.raises(RegistryError, match="none to go back to"):
        rollback(ctx, 2, by="ann", reason="try")
    assert [event.number for event in list_events(ctx)] == list(range(1, 8))


def test_what_is_rejected_is_no_challenger_any_more(
    make_workspace: Callable[[str], Context], add_version: Callable[..., int]
) -> None:
    ctx = make_workspace("rejected")
    add_version(ctx, test_accuracy=0.8)
    add_version(ctx, test_accuracy=0.9)
    with pytest.raises(RegistryError, match="Version 1 of 'rejected' is champion"):
        reject(ctx, 1, by="ann", reason="old")
    reject(ctx, by="ann", reason="hears no children")
    assert [(c.aliases, c.rejected) for c in list_candidates(ctx)] == [
        ((), "ann rejected it: hears no children"),
        (("champion",), ""),
    ]
    assert compare(ctx)["challenger"] is None
    with pytest.raises(RegistryError, match=r"hears no children.*--force"):
        promote(ctx, 2, by="bob", reason="better")
    answer = promote(ctx, 2, by="bob", reason="children are rare", force=True)
    assert (answer["promotion"]["forced"], resolve(ctx).version) == (True, 2)
    assert list_candidates(ctx)[0].rejected == ""
