from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from audioml.errors import RegistryError
from audioml.pipeline.context import Context
from audioml.registry.promotion import list_candidates
from audioml.registry.provenance import trace_version
from audioml.registry.run_facts import read_run_facts
from audioml.registry.runs import training_run
from audioml.registry.training_sets import (
    FOLDER,
    Learner,
    find_learners,
    keep_training_set,
    mark_withdrawn,
    read_training_set,
)
from audioml.registry.versions import RegisteredVersion, list_versions, register_package
from audioml.store.training_clips import INIT_FROM_TAG, write_training_clips

pytestmark = pytest.mark.usefixtures("configured")


def clips_of(**splits: str) -> pd.DataFrame:
    """Clips called by a letter or several, of these splits; the first is in the package."""
    return pd.DataFrame(
        [
            {
                "clip_id": name,
                "path": f"{name}.wav",
                "start_s": 0.0,
                "group": "g",
                "split": split,
                "features": "f.arrow",
                "packaged": i == 0,
            }
            for i, (name, split) in enumerate(splits.items())
        ]
    )


@pytest.fixture
def register(
    make_workspace: Callable[[str], Context], package: Path, tmp_path: Path
) -> Callable[..., tuple[Context, RegisteredVersion]]:
    """A function that registers a model of a name, trained on some clips, from the weights of another."""

    def make(
        name: str, init_from: str | None = None, ctx: Context | None = None, **splits: str
    ) -> tuple[Context, RegisteredVersion]:
        ctx = ctx or make_workspace(name)
        own = tmp_path / f"package-{name}"
        shutil.copytree(package, own, dirs_exist_ok=True)
        (own / "requirements.txt").write_text(f"mlflow\n# {splits}\n")
        with training_run(ctx) as tracker:
            if init_from:
                tracker.set_tags({INIT_FROM_TAG: init_from})
        version = register_package(ctx, own, tracker.run_id, {})
        write_training_clips(tmp_path / "table.parquet", clips_of(**splits))
        keep_training_set(version, tmp_path / "table.parquet")
        return ctx, version

    return make


def met(learners: list[Learner]) -> dict[str, tuple[dict[str, int], tuple[str, ...]]]:
    return {learner.version.key: (learner.counts(), learner.via) for learner in learners}


def test_the_registry_alone_says_what_a_version_learned_from(register: Any, tmp_path: Path) -> None:
    ctx, version = register("exact", k="train", l="validation", m="test")
    for path in ctx.workspace.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = read_training_set(ctx, version)
    pd.testing.assert_frame_equal(found, clips_of(k="train", l="validation", m="test"), check_dtype=False)
    assert read_training_set(ctx, version).equals(found)


def test_a_version_without_a_list_has_none(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("early")
    with training_run(ctx) as tracker:
        pass
    assert read_training_set(ctx, register_package(ctx, package, tracker.run_id, {})) is None


def test_registered_again_with_another_test_set_it_has_both(register: Any, tmp_path: Path) -> None:
    ctx, version = register("again", n="train", o="test")
    write_training_clips(tmp_path / "table.parquet", clips_of(n="train", p="test"))
    for _ in range(2):
        keep_training_set(version, tmp_path / "table.parquet")
    found = read_training_set(ctx, version)
    assert dict(zip(found["clip_id"], found["split"], strict=True)) == {"n": "train", "o": "test", "p": "test"}


def test_a_table_that_was_changed_on_the_server_is_no_answer(register: Any, tmp_path: Path) -> None:
    ctx, version = register("changed", q="train")
    client = mlflow.MlflowClient()
    (info,) = client.list_artifacts(version.run_id, FOLDER)
    other = tmp_path / Path(info.path).name
    write_training_clips(other, clips_of(r="train"))
    client.log_artifact(version.run_id, str(other), FOLDER)
    with pytest.raises(RegistryError, match="changed on the server"):
        read_training_set(ctx, version)
    # For the tests that ask all versions.
    client.delete_registered_model("changed")


def test_who_met_a_clip_itself_or_by_the_weights_it_started_from(register: Any) -> None:
    ctx, _ = register("teacher", s="train", t="test")
    register("pupil", init_from="teacher/1", u="train")
    register("grandchild", init_from="pupil/1", s="validation")
    register("late", init_from="grandchild/1", v="train")
    register("stranger", w="train")
    one = {"train": 1, "validation": 0, "test": 0}
    assert met(find_learners(ctx, ["s"])) == {
        "teacher/1": (one, ()),
        "pupil/1": (one, ("teacher/1",)),
        "grandchild/1": ({**one, "train": 0, "validation": 1}, ()),
        "late/1": (one, ("grandchild/1", "pupil/1", "teacher/1")),
    }
    assert met(find_learners(ctx, ["t"])) == {"teacher/1": ({**one, "train": 0, "test": 1}, ())}
    assert find_learners(ctx, ["nobody"]) == []


def test_a_cut_recording_is_known_by_its_path_to_the_models_of_its_workspace_only(
    register: Any, tmp_path: Path
) -> None:
    ctx, version = register("cut", x="train")
    _, other = register("elsewhere", y="train")
    table = clips_of(x1="train", x2="train").assign(path="talk.wav", start_s=[0.0, 10.0])
    write_training_clips(tmp_path / "table.parquet", table)
    for each in (version, other):
        keep_training_set(each, tmp_path / "table.parquet")
    # Cut otherwise now, so none of its clips is known by its id.
    assert list(met(find_learners(ctx, ["x9"], ["talk.wav"]))) == ["cut/1"]
    # A recording that was taken whole is its bytes, not its path.
    assert find_learners(ctx, ["x9"], ["x.wav"]) == []


def test_marked_versions_say_so_everywhere(register: Any) -> None:
    ctx, version = register("marked", z="train", za="validation")
    said = {"time": "2026-11-22T10:00:00+00:00", "by": "ann", "reason": "consent"}
    mark_withdrawn(find_learners(ctx, ["z", "za"]), **said)
    expected = {"recordings": 2, "train": 1, "validation": 1, "test": 0, "via": [], **said}
    assert trace_version(version).withdrawn == expected
    assert [candidate.withdrawn for candidate in list_candidates(ctx)] == [expected]


def test_all_versions_of_all_models_are_listed_with_their_aliases(register: Any) -> None:
    ctx, first = register("zz-listed", zb="train")
    _, second = register("zz-listed", ctx=ctx, zc="train")
    listed = {version.key: version for version in list_versions()}
    assert listed[first.key].aliases == ("champion",)
    assert listed[second.key].aliases == ("challenger",)


def test_what_a_run_was_given(register: Any) -> None:
    _, version = register("given", zd="train")
    facts = read_run_facts(version)
    assert facts.params["model.name"] == "bcresnet"
    assert facts.environment[0].startswith("python==3.")
    assert facts.environment[1:] == ("mlflow",)
