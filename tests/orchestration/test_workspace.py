import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import yaml

from audioml.errors import DatasetError, ParamsError, ServiceError, SourceError, UnknownPluginError
from audioml.orchestration.dag_file import DAG_FILE
from audioml.orchestration.dvc import render_dvc_yaml
from audioml.orchestration.params_file import render_params
from audioml.orchestration.workspace import Choices, create_workspace
from audioml.params import load_params, parse_params


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "birds"


def test_a_folder_alone_is_enough(folder, tones):
    created = create_workspace(folder, Choices(source=str(tones)))
    params = load_params(folder)
    assert (created.layout, params.name, params.data.source) == ("folder", "birds", str(tones))
    assert "72 recordings, 3 labels (high, low, schräg sweep)" in "\n".join(created.findings)
    assert params.features.model_dump()["duration_s"] == pytest.approx(0.7)
    assert (folder / "dvc.yaml").read_text() == render_dvc_yaml(params)
    assert (folder / "dags" / "audioml_dags.py").read_text() == DAG_FILE
    log = subprocess.run(["git", "log", "--oneline"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert log.count("\n") == 1
    assert not subprocess.run(["git", "status", "--short"], cwd=folder, capture_output=True, check=True).stdout


def test_params_say_every_key_and_what_it_means(folder, tones):
    create_workspace(folder, Choices(source=str(tones)))
    text = (folder / "params.yaml").read_text()
    params = load_params(folder)
    params.load_all_sections()
    assert set(yaml.safe_load(text)) == set(params.model_dump(by_alias=True))
    assert set(yaml.safe_load(text)["training"]) == set(type(params.training).model_fields)
    assert "  # Target rate in Hz; audio of any other rate is resampled with soxr.\n  sample_rate: " in text


def test_the_keys_of_segments_stand_in_their_place(minimal_params):
    text = render_params({**minimal_params, "ingest": {"segment": {"name": "activity", "pad_s": 0.05}}})
    assert "  segment:\n    name: activity\n    # How far above the background" in text
    section = parse_params(yaml.safe_load(text)).segment_section()
    assert (section.pad_s, section.max_s) == (0.05, 30.0)
    assert yaml.safe_load(render_params(minimal_params))["ingest"]["segment"] is None


def test_options_become_params(folder, tones):
    pattern = r"(?P<index>\d+)$"
    create_workspace(folder, Choices(source=str(tones), pattern=pattern, group="index", test="index < 5", name="b.1"))
    params = load_params(folder)
    assert (params.name, params.data.pattern, params.split.group, params.split.test) == (
        "b.1",
        pattern,
        "index",
        "index < 5",
    )


def test_a_workspace_is_never_overwritten(folder, tones):
    create_workspace(folder, Choices(source=str(tones)))
    before = (folder / "params.yaml").read_bytes()
    with pytest.raises(ParamsError, match="is a workspace already"):
        create_workspace(folder, Choices(source=str(tones), name="other"))
    assert (folder / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"source": "/nowhere/at/all"}, SourceError, "/nowhere/at/all does not exist"),
        ({}, SourceError, "--data is missing"),
        ({"layout": "foldr"}, UnknownPluginError, "Did you mean 'folder'"),
        ({"pattern": r"(?P<speaker>zz\d+)"}, SourceError, "zz"),
        ({"pattern": r"(?P<speaker"}, ParamsError, "pattern"),
        ({"group": "speaker"}, DatasetError, "--group speaker: no recording has such a column"),
        ({"fold": "fold"}, DatasetError, "--fold fold: no recording has such a column"),
        (
            {"test": "idx < 5", "pattern": r"(?P<index>\d+)$"},
            DatasetError,
            "a column 'idx'. Did you mean",
        ),
        ({"test": "index <"}, ParamsError, "is no pandas query"),
        ({"name": "a b"}, ParamsError, "'name' is 'a b'"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(folder, tones, choices, error, message):
    given = {"source": str(tones), **choices} if choices else choices
    with pytest.raises(error, match=message.replace("(", r"\(")):
        create_workspace(folder, Choices(**given))
    assert not folder.exists()


def test_an_empty_source_is_an_error(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no recordings"):
        create_workspace(folder, Choices(source=str(tmp_path / "empty")))


def test_without_git_there_is_a_clear_error(folder, tones, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServiceError, match="Install git"):
        create_workspace(folder, Choices(source=str(tones)))
    assert not folder.exists()


def test_a_file_is_no_folder(folder, tones):
    folder.write_text("mine")
    with pytest.raises(ParamsError, match="is a file"):
        create_workspace(folder, Choices(source=str(tones)))
    assert folder.read_text() == "mine"


def test_files_of_the_user_are_neither_overwritten_nor_committed(folder, tones):
    folder.mkdir()
    (folder / ".env").write_text("secret")
    (folder / ".dvcignore").write_text("mine\n")
    create_workspace(folder, Choices(source=str(tones)))
    tracked = subprocess.run(["git", "ls-files"], cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    assert ".env" not in tracked
    assert str(folder) not in (folder / ".dvc" / "config").read_text()
    assert {"params.yaml", "dvc.yaml", "dags/audioml_dags.py", ".dvc/config"} <= set(tracked)
    assert (folder / ".dvcignore").read_text().startswith("mine\n")


def test_a_folder_with_a_dvc_yaml_of_its_own_is_refused(folder, tones):
    folder.mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ParamsError, match=r"files of its own that a workspace needs: dvc\.yaml"):
        create_workspace(folder, Choices(source=str(tones)))
    assert [path.name for path in folder.iterdir()] == ["dvc.yaml"]


@pytest.mark.parametrize("source", ["data", "."])
def test_a_source_that_overlaps_the_outputs_is_refused(folder, tones, source):
    folder.mkdir()
    shutil.copytree(tones, folder / "data")
    with pytest.raises(SourceError, match="overlap"):
        create_workspace(folder, Choices(source=str(folder / source)))
    assert not (folder / "params.yaml").exists()


def test_a_folder_name_that_is_no_model_name_gets_one(tmp_path, tones):
    assert create_workspace(tmp_path / "鳥", Choices(source=str(tones))).name == "audio"


@pytest.mark.parametrize(
    ("duration_s", "segment", "length"),
    [(4.0, None, ("pad", 4.0)), (50.0, None, ("segment", 5.0)), (200.0, 10.0, ("pad", 10.0))],
)
def test_longer_recordings_are_seen_through_windows_and_hours_are_cut_into_clips(tmp_path, duration_s, segment, length):
    for label in ("low", "high"):
        (tmp_path / "src" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "src" / label / "1.wav", np.zeros(int(duration_s * 1000)), 1000, subtype="PCM_16")
    made = create_workspace(tmp_path / "space", Choices(source=str(tmp_path / "src")))
    params = load_params(tmp_path / "space")
    assert (params.segment_section() and params.segment_section().length_s) == segment
    features = params.plugin_section("features")
    assert (features.length, features.duration_s) == length
    assert any("cut into clips of 10 s" in line for line in made.findings) == bool(segment)


def test_a_landing_zone_is_partitioned(folder, tones, tmp_path):
    for day in ("2026-01-01", "2026-01-02"):
        shutil.copytree(tones, tmp_path / "landing" / day)
    created = create_workspace(folder, Choices(source=str(tmp_path / "landing"), partition="%Y-%m-%d"))
    assert load_params(folder).data.partition == "%Y-%m-%d"
    assert "144 recordings, 3 labels (high, low, schräg sweep)" in "\n".join(created.findings)
    stage = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["ingest"]
    assert stage["always_changed"]
    assert "${data.source}" not in stage["deps"]
    with pytest.raises(SourceError, match=r"None of 144 files .* lies in a folder like %Y/%m\. Correct"):
        create_workspace(tmp_path / "other", Choices(source=str(tmp_path / "landing"), partition="%Y/%m"))
    with pytest.raises(ParamsError, match=r"'data.partition' is 'days'"):
        create_workspace(tmp_path / "other", Choices(source=str(tmp_path / "landing"), partition="days"))


def test_a_table_of_events_is_for_detection(folder, tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(70 * 8000), 8000)
    rows = ["filename\tonset\toffset\tevent_label", "a.wav\t1\t2.5\towl", "a.wav\t60\t61\tfox", "b.wav\t\t\t"]
    (tmp_path / "events.tsv").write_text("\n".join(rows) + "\n")
    created = create_workspace(folder, Choices(source=str(tmp_path / "events.tsv")))
    params = load_params(folder)
    assert (params.data.layout, params.task.name) == ("events", "detection")
    assert "2 recordings, 2 labels (fox, owl)" in "\n".join(created.findings)
    # Recordings of any length are answered for through windows.
    assert params.features.model_dump()["length"] == "segment"
    assert params.features.model_dump()["duration_s"] == 5.0
    assert params.ingest.segment.name == "fixed"
    assert yaml.safe_load((folder / "params.yaml").read_text())["task"]["alarms"] == []
