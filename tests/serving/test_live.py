from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from audioml.errors import RegistryError, ServiceError, StoreError
from audioml.params import ServingParams
from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.runs import training_run
from audioml.registry.training_sets import Learner, mark_withdrawn
from audioml.registry.versions import register_package, resolve
from audioml.registry.workspace import ModelUser
from audioml.serving.live import CANARY, PRIMARY, SHADOW, LiveModels, Refusal
from audioml.serving.model import LoadedModel, load_model


@pytest.fixture
def versions(
    registered: Context, tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> Iterator[Callable[..., None]]:
    """A function that points aliases of `tones` at versions, of which there are three; afterwards champion is 1."""
    import mlflow

    client = mlflow.MlflowClient()
    with training_run(registered) as tracker:
        pass
    for i in range(2, 4):
        package = tmp_path / f"package-{i}"
        description = {**tone_model[1], "temperature": float(i)}
        save_package(package, onnx=tone_model[0], description=description, example_audio=tone_wav(200.0))
        register_package(registered, package, tracker.run_id, {})

    def point(**aliases: int | None) -> None:
        for alias, version in aliases.items():
            if version is None:
                client.delete_registered_model_alias("tones", alias)
            else:
                client.set_registered_model_alias("tones", alias, str(version))

    yield point
    point(champion=1, challenger=1)


def serving(models: LiveModels) -> dict[str, int]:
    return {role: model.version for role, model in models.models.items()}


def test_follows_aliases(registered: Context, versions: Callable[..., None]) -> None:
    versions(champion=1, challenger=1)
    params = ServingParams(canary="challenger", shadow="candidate")
    models = LiveModels(registered, load_model(registered), params=params)
    first = models.primary
    models.look()
    assert (serving(models), models.primary) == ({PRIMARY: 1}, first)
    versions(challenger=2, candidate=3)
    models.look()
    assert (serving(models), models.primary) == ({PRIMARY: 1, CANARY: 2, SHADOW: 3}, first)
    canary = models.models[CANARY]
    versions(champion=2, candidate=None)
    models.look()
    # What was loaded as canary is not loaded again.
    assert (serving(models), models.primary) == ({PRIMARY: 2}, canary)
    versions(champion=1)
    models.look()
    assert serving(models) == {PRIMARY: 1, CANARY: 2}


def test_a_card_says_what_was_withdrawn_while_its_model_serves(
    registered: Context, versions: Callable[..., None]
) -> None:
    versions(champion=2)
    models = LiveModels(registered, load_model(registered))
    assert models.primary.card is not None
    assert models.primary.card["withdrawn"] is None
    clips = pd.DataFrame({"path": ["a.wav"], "split": ["train"]})
    learner = Learner(resolve(registered, "tones/2"), clips)
    mark_withdrawn([learner], time="2026-11-22T10:00:00+00:00", by="ann", reason="consent")
    before = models.primary
    models.look()
    card = models.primary.card
    assert (card["withdrawn"]["train"], card["withdrawn"]["reason"]) == (1, "consent")
    assert models.primary.predictor is before.predictor
    assert models.swaps == 0


def test_a_version_stays_that_is_named_by_its_number(registered: Context, versions: Callable[..., None]) -> None:
    models = LiveModels(registered, load_model(registered, "tones@2"), "tones@2")
    versions(champion=3)
    models.look()
    assert serving(models) == {PRIMARY: 2}


@pytest.mark.parametrize("error", [StoreError("golden clips differ"), ValueError("a fault")])
def test_a_version_that_fails_is_refused_once_and_the_old_one_serves_on(
    registered: Context, versions: Callable[..., None], error: Exception
) -> None:
    asked: list[str] = []

    def load(ctx: ModelUser, reference: str) -> LoadedModel:
        asked.append(reference)
        if reference == "tones@2":
            raise error
        return load_model(ctx, reference)

    versions(champion=1)
    models = LiveModels(registered, load_model(registered), load=load)
    versions(champion=2)
    for _ in range(2):
        models.look()
    assert (serving(models), models.refused) == ({PRIMARY: 1}, {PRIMARY: Refusal(2, str(error))})
    assert asked == ["tones@2"]
    versions(champion=3)
    models.look()
    assert (serving(models), models.refused) == ({PRIMARY: 3}, {})


def test_going_back_to_what_serves_ends_a_refusal(registered: Context, versions: Callable[..., None]) -> None:
    def load(ctx: ModelUser, reference: str) -> LoadedModel:
        raise StoreError("damaged")

    versions(champion=1)
    models = LiveModels(registered, load_model(registered), load=load)
    versions(champion=2)
    models.look()
    assert models.refused
    versions(champion=1)
    models.look()
    assert not models.refused


def test_a_server_that_is_away_is_asked_again(registered: Context, versions: Callable[..., None]) -> None:
    away = [True]

    def load(ctx: ModelUser, reference: str) -> LoadedModel:
        if away.pop() if away else False:
            raise ServiceError("away")
        return load_model(ctx, reference)

    versions(champion=1)
    models = LiveModels(registered, load_model(registered), load=load)
    versions(champion=2)
    with pytest.raises(ServiceError):
        models.look()
    assert serving(models) == {PRIMARY: 1}
    models.look()
    assert serving(models) == {PRIMARY: 2}


def test_an_alias_that_is_taken_away_leaves_what_serves(registered: Context, versions: Callable[..., None]) -> None:
    versions(candidate=2)
    models = LiveModels(registered, load_model(registered, "tones@candidate"), "tones@candidate")
    versions(candidate=None)
    with pytest.raises(RegistryError, match="no version or alias 'candidate'"):
        models.look()
    assert serving(models) == {PRIMARY: 2}


def test_the_registry_is_not_asked_while_its_database_stays_as_it_is(
    registered: Context, versions: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a server and asking it changes nothing, or each look would be followed by another."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        models = LiveModels(registered, load_model(registered))
        models.look()
    find, asked = models._find, list[str]()
    models._find = lambda role: asked.append(role) or find(role)  # type: ignore[method-assign,func-returns-value]
    models.look()
    assert not asked
    versions(champion=2)
    models.look()
    assert (asked, serving(models)) == ([PRIMARY], {PRIMARY: 2})
    # MLflow makes a database of its own where it is asked without a server.
    assert not list(tmp_path.glob("*.db"))


def test_canary_answers_its_share() -> None:
    class Nobody:
        state, model_name = Path(), "tones"

    models = LiveModels(Nobody(), LoadedModel(None, "tones", 1), params=ServingParams(canary_share=0.2))  # type: ignore[arg-type]
    assert {models.choose()[0] for _ in range(50)} == {PRIMARY}
    models._put(CANARY, LoadedModel(None, "tones", 2))  # type: ignore[arg-type]
    drawn = Counter(models.choose()[0] for _ in range(5000))
    # Six standard deviations.
    assert abs(drawn[CANARY] - 1000) < 6 * math.sqrt(5000 * 0.2 * 0.8)
