"""The DVC driver, against real DVC."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import audioml
from audioml.errors import StepError
from audioml.orchestration.dvc import decide, init_dvc, record_step, render_dvc_yaml, render_workspace, restore_step
from audioml.params import FILE_NAME, parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.fingerprint import note_start
from audioml.pipeline.graph import STEPS, find_step
from audioml.store.withdrawn import WITHDRAWN, Withdrawal, Withdrawn, write_withdrawn

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def raw(minimal_params):
    """All sections that dvc.yaml names, as `audioml init` writes them."""
    defaults = parse_params(minimal_params).model_dump(by_alias=True, mode="json")
    return {**defaults, "data": {**defaults["data"], "source": "recordings"}}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder for the workspace that all tests copy; the first of them fills it."""
    return tmp_path_factory.mktemp("recorded") / "birds"


@pytest.fixture
def ctx(recorded, tmp_path, raw):
    """A workspace whose ingest, validate and split have run and are recorded."""
    if not recorded.exists():
        record_workspace(recorded, raw)
    shutil.copytree(recorded, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Context.load(tmp_path)


def record_workspace(folder, raw):
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    init_dvc(folder)
    (folder / ".dvcignore").write_text("__pycache__\n")
    (folder / FILE_NAME).write_text(yaml.safe_dump(raw))
    (folder / "dvc.yaml").write_text(render_dvc_yaml(parse_params(raw)))
    (folder / "recordings").mkdir()
    (folder / "recordings" / "a.wav").write_bytes(b"a")
    context = Context.load(folder)
    for name in ("ingest", "validate", "split"):
        make_outputs(context, name)
        record_step(context, find_step(name))


def make_outputs(ctx, name, text="made"):
    for output in find_step(name).outputs:
        path = ctx.path(output.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text(text)
        else:
            path.mkdir(exist_ok=True)
            (path / "part").write_text(text)


def change_params(ctx, raw, section, **values):
    changed = {**raw, section: {**raw[section], **values}}
    ctx.path(FILE_NAME).write_text(yaml.safe_dump(changed))
    return Context.load(ctx.workspace)


def decision(ctx, name):
    return next(d for d in decide(ctx) if d.step == name)


def test_the_repositorys_own_dvc_yaml_is_as_rendered():
    ctx = Context.load(REPOSITORY)
    assert (REPOSITORY / "dvc.yaml").read_text() == render_dvc_yaml(ctx.params)


def test_every_step_is_a_stage_that_dvc_accepts(ctx):
    done = subprocess.run(
        ["dvc", "stage", "list", "--name-only"], cwd=ctx.workspace, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [step.name for step in STEPS]


def test_a_layout_without_source_renders_no_source(raw):
    without = {**raw, "data": {"layout": "spoken_commands", "source": None}}
    assert "${data.source}" in render_dvc_yaml(parse_params(raw))
    assert "${data.source}" not in render_dvc_yaml(parse_params(without))


def test_the_list_of_withdrawn_recordings_is_an_input_once_it_is_there(ctx):
    assert WITHDRAWN not in render_workspace(ctx)
    write_withdrawn(ctx.path(WITHDRAWN), Withdrawn())
    with pytest.raises(StepError, match="audioml render"):
        decide(ctx)
    ctx.path("dvc.yaml").write_text(render_workspace(ctx))
    assert decision(ctx, "ingest").run
    make_outputs(ctx, "ingest")
    record_step(ctx, find_step("ingest"))
    assert not decision(ctx, "ingest").run
    entry = Withdrawal("a.wav", "a" * 64, ("a" * 64,), "2026-11-22T10:00:00+00:00", "ann", "consent")
    write_withdrawn(ctx.path(WITHDRAWN), Withdrawn((entry,)))
    assert decision(ctx, "ingest").reasons == ("input modified: withdrawn.json",)


def test_a_recorded_step_is_up_to_date_for_us_and_for_dvc(ctx):
    assert not decision(ctx, "ingest").run
    done = subprocess.run(["dvc", "status", "ingest"], cwd=ctx.workspace, capture_output=True, text=True, check=True)
    assert "up to date" in done.stdout


def test_a_changed_param_is_named_with_both_values(ctx, raw):
    changed = change_params(ctx, raw, "ingest", shard_mb=32.0)
    assert decision(changed, "ingest").reasons == ("param ingest.shard_mb: 64.0 -> 32.0",)


def test_a_new_recording_is_a_reason(ctx):
    ctx.path("recordings/b.wav").write_bytes(b"b")
    assert decision(ctx, "ingest").reasons == ("input modified: recordings",)


def test_steps_after_one_that_runs_are_named(ctx):
    ctx.path("recordings/b.wav").write_bytes(b"b")
    assert decision(ctx, "split").reasons == ("validate runs before it",)
    assert not decide(ctx, find_step("split"))[0].run


def test_changed_code_is_a_reason_for_dvc_too(ctx, tmp_path_factory):
    package = tmp_path_factory.mktemp("site") / "audioml"
    shutil.copytree(Path(audioml.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    link = ctx.state / "code"
    link.unlink()
    link.symlink_to(package)
    assert not decision(ctx, "split").run
    with (package / "pipeline" / "steps" / "split.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    assert decision(ctx, "split").reasons == ("code modified: pipeline/steps/split.py",)
    assert not decision(ctx, "ingest").run


def test_outputs_come_back_from_the_run_cache(ctx, raw):
    split = find_step("split")
    other = change_params(ctx, raw, "split", test_share=0.3)
    make_outputs(other, "split", "another split")
    record_step(other, split)
    back = change_params(ctx, raw, "split", test_share=raw["split"]["test_share"])
    assert decision(back, "split").run
    assert restore_step(back, split)
    assert back.path("data/splits.parquet").read_text() == "made"
    assert not decision(back, "split").run
    assert not restore_step(change_params(ctx, raw, "split", test_share=0.4), split)


def test_a_step_without_its_output_is_not_recorded(ctx):
    ctx.path("data/splits.parquet").unlink()
    with pytest.raises(StepError, match=r"data/splits\.parquet is missing"):
        record_step(ctx, find_step("split"))


def test_outputs_of_params_that_changed_meanwhile_are_not_recorded(ctx, raw):
    split = find_step("split")
    note_start(ctx, split)
    record_step(ctx, split)
    changed = change_params(ctx, raw, "split", test_share=0.4)
    with pytest.raises(StepError, match="params or its code changed while it ran"):
        record_step(changed, split)
    note_start(changed, split)
    record_step(changed, split)


def test_registering_is_never_restored(ctx, raw):
    register = find_step("register")
    for name in ("train", "evaluate", "register"):
        make_outputs(ctx, name)
    record_step(ctx, register)
    other = change_params(ctx, raw, "registry", name="other")
    record_step(other, register)
    assert not restore_step(change_params(ctx, raw, "registry", name=None), register)


def test_an_edited_dvc_yaml_is_noticed(ctx):
    ctx.path("dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(StepError, match="audioml render"):
        decide(ctx)


def test_a_partitioned_source_is_listed_on_each_run(ctx, raw):
    """One partition makes ingest no more up to date than none; and one without a folder leaves nothing to do."""
    raw["data"]["partition"] = "%Y-%m-%d"
    ctx.path(FILE_NAME).write_text(yaml.safe_dump(raw))
    with pytest.raises(StepError, match="audioml render"):
        decide(Context.load(ctx.workspace))
    ctx.path("dvc.yaml").write_text(render_dvc_yaml(parse_params(raw)))
    record_step(Context.load(ctx.workspace), find_step("ingest"))
    (decision,) = decide(Context.load(ctx.workspace, "2026-01-01"), find_step("validate"))
    assert (decision.run, "2026-01-01 has no folder" in decision.reasons[0]) == (False, True)
    ctx.path("recordings/2026-01-01").mkdir()
    (decision,) = decide(Context.load(ctx.workspace, "2026-01-01"), find_step("ingest"))
    assert (decision.run, decision.reasons) == (True, ("the source is listed on each run",))
