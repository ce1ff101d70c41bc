"""A workspace on a source at a URL, with real DVC."""

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from audioml.cli import app
from audioml.errors import ParamsError, SourceError
from audioml.orchestration.dvc import LISTED, decide, record_step, render_dvc_yaml, restore_step
from audioml.orchestration.workspace import Choices, create_workspace, parse_options
from audioml.params import load_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.files import write_text


def fill(remote, tone_wav, n=4):
    for label, base in (("low", 200), ("high", 2000)):
        for i in range(n):
            remote.write(f"{label}/{i}.wav", tone_wav(base + 20 * i))


def test_init_looks_at_the_listing(remote, tone_wav, tmp_path):
    fill(remote, tone_wav)
    folder = tmp_path / "birds"
    options = [f"--storage-option={key}={value}" for key, value in remote.options.items()]
    done = CliRunner().invoke(app, ["init", str(folder), "--data", remote.url, *options, "--json"])
    assert done.exit_code == 0, done.output
    assert "Found 2 class folders of 4 to 4 files" in json.loads(done.stdout)["findings"]
    params = load_params(folder)
    assert (params.data.source, params.data.storage_options) == (remote.url, remote.options)
    assert (params.data.layout, params.features.model_dump()["sample_rate"]) == ("folder", 8000)
    stage = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["ingest"]
    assert stage["always_changed"]
    assert not [dep for dep in stage["deps"] if "source}" in dep]


def test_init_of_a_table(s3, tone_wav, tmp_path):
    for name in ("a_1.wav", "b_1.wav"):
        s3.write(name, tone_wav(440))
    s3.write("t.csv", b"file,label\na_1.wav,a\nb_1.wav,b\n")
    created = create_workspace(tmp_path / "birds", Choices(source=f"{s3.url}/t.csv", storage_options=s3.options))
    assert (created.layout, load_params(created.folder).data.model_dump()["path_column"]) == ("table", "file")


def test_options_of_the_command_line():
    assert parse_options(["anon=true", "endpoint_url=http://h:9000/?a=b"]) == {
        "anon": True,
        "endpoint_url": "http://h:9000/?a=b",
    }
    with pytest.raises(ParamsError, match="is not KEY=VALUE"):
        parse_options(["anon"])


def test_nothing_is_written_for_a_source_that_is_refused(web, tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        create_workspace(tmp_path / "birds", Choices(source=web.url + "nowhere/"))
    with pytest.raises(ParamsError, match="credentials"):
        create_workspace(tmp_path / "birds", Choices(source=web.url.replace("http://", "http://me:secret@")))
    assert not (tmp_path / "birds").exists()


@pytest.mark.slow
def test_ingest_lists_each_time_and_steps_after_it_run_only_on_changes(web, tone_wav, tmp_path):
    fill(web, tone_wav)
    create_workspace(tmp_path / "birds", Choices(source=web.url))
    ctx = Context.load(tmp_path / "birds")
    run_step(ctx, find_step("ingest"), jobs=1)
    record_step(ctx, find_step("ingest"))
    # What validate makes does not matter here, and making it takes long.
    for name in ("validation/index.html", "validation.json"):
        write_text(ctx.path(f"reports/{name}"), "made")
    record_step(ctx, find_step("validate"))
    decisions = {d.step: d for d in decide(ctx)}
    assert decisions["ingest"].reasons == (LISTED,)
    assert not decisions["validate"].run
    assert not restore_step(ctx, find_step("ingest"))

    repro = [sys.executable, "-m", "dvc", "repro", "validate"]
    done = subprocess.run(repro, cwd=ctx.workspace, capture_output=True, text=True, check=True)
    assert "Running stage 'ingest'" in done.stdout
    assert "Stage 'validate' didn't change, skipping" in done.stdout

    web.write("low/9.wav", tone_wav(390))
    run_step(Context.load(ctx.workspace), find_step("ingest"), jobs=1)
    assert decide(ctx, find_step("validate"))[0].reasons == ("input modified: data/manifest.parquet",)


def test_a_folder_here_stays_an_input(minimal_params):
    from audioml.params import parse_params

    text = render_dvc_yaml(parse_params(minimal_params))
    assert "${data.source}" in text
    assert "always_changed" not in text
