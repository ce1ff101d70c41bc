"""Make a workspace: look at the source, choose params, write the files, initialise git and DVC."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from audioml.datasets._inspect import SourceSummary, inspect_source
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.errors import DatasetError, ParamsError, ServiceError, SourceError, did_you_mean
from audioml.orchestration.dag_file import DAG_FILE, DAG_FILE_PATH
from audioml.orchestration.dvc import init_dvc, render_dvc_yaml
from audioml.orchestration.params_file import render_params
from audioml.orchestration.presets import Preset, apply_changes, find_preset
from audioml.params import FILE_NAME, DataParams, Params, is_url, parse_params, parse_section
from audioml.pipeline.context import STATE_DIR, Context
from audioml.pipeline.graph import STEPS
from audioml.plugins import check_plugin, load_plugin, makes_clips
from audioml.store.files import write_text
from audioml.store.manifest import MANIFEST_TYPES

GITIGNORE = """\
/.audioml/
/data/
/features/
/models/checkpoint.ckpt
/models/model.onnx
/models/package/
/models/parts.parquet
/models/training_clips.parquet
/reports/validation/
/reports/plots/
/reports/evaluation/
/reports/tuning/
/reports/monitoring/
/dvc_plots/
__pycache__/
"""
DVCIGNORE = "# Byte code beside the package's sources is no change of code.\n__pycache__\n*.pyc\n"
WRITTEN = ("dvc.yaml", DAG_FILE_PATH, FILE_NAME)
MAX_INPUT_S = 10.0
SEGMENT_S = 5.0
"""Clips longer than the first are seen through windows of the second, and answered for as a whole."""
LONG_RECORDING_S = 60.0
CLIP_S = 10.0
"""A source with recordings longer than the first is cut into clips of the second at ingest: over minutes one answer
for a whole recording says little, and none of it may be dropped because of its length."""
TRAINING_CLIPS = 90_000
FEWEST_EPOCHS, MOST_EPOCHS = 30, 150
"""Training sees about so many clips, repeats counted: 1,400 steps of 64."""
TABLES = ("table", "events")
"""Layouts that have a column of paths."""
SHORT_CLIP_S = 2.5
"""Up to here clips are taken for single words or events, and features get the finer hop."""


@dataclass(frozen=True)
class Choices:
    """What the user said of the source; None means: look and pick."""

    source: str | None = None
    layout: str | None = None
    pattern: str | None = None
    label: str = "label"
    partition: str | None = None
    group: str | None = None
    test: str | None = None
    fold: str | None = None
    name: str | None = None
    preset: str | None = None
    """A name of `PRESETS`."""
    storage_options: dict[str, Any] = field(default_factory=dict)
    """Of fsspec, for a source at a URL."""


@dataclass(frozen=True)
class Workspace:
    """A workspace that was made."""

    folder: Path
    name: str
    layout: str
    findings: tuple[str, ...]
    """What was found in the source and what was picked, a line each."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "folder": str(self.folder), "findings": list(self.findings)}


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` strings as storage options; values are YAML.

    Raises
    ------
    ParamsError
        When one is not of this form.
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ParamsError(
                f"--storage-option {text!r} is not KEY=VALUE, such as endpoint_url=http://localhost:9000."
            )
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ParamsError(f"--storage-option {text!r}: the value is not YAML: {error}") from None
    return options


def create_workspace(folder: Path, choices: Choices) -> Workspace:
    """Make a workspace. Everything is checked before the first file is written.

    Raises
    ------
    ParamsError
        When the folder is a workspace already, or an option is not valid.
    SourceError
        When the source is missing, holds no recordings, or is not laid out as the options say.
    DatasetError
        When `group`, `fold`, `label` or `test` do not fit the columns that were found.
    ServiceError
        When git is not installed.
    """
    folder = folder.resolve()
    if (folder / FILE_NAME).exists():
        raise ParamsError(
            f"{folder} is a workspace already: it has a {FILE_NAME}. Choose another folder, or edit that file."
        )
    if folder.exists() and not folder.is_dir():
        raise ParamsError(f"{folder} is a file; a workspace is a folder. Choose another name.")
    if clash := [name for name in WRITTEN if (folder / name).exists()]:
        raise ParamsError(
            f"{folder} has files of its own that a workspace needs: {', '.join(clash)}. Choose another folder."
        )
    if shutil.which("git") is None:
        raise ServiceError("git is not on the PATH, but a workspace is a git repository. Install git.")
    raw, summary = _choose_params(folder, choices)
    params = parse_params(raw)
    found = _check_columns(folder, raw)
    text = render_params(raw)

    write_text(folder / "dvc.yaml", render_dvc_yaml(params))
    write_text(folder / DAG_FILE_PATH, DAG_FILE)
    _add_lines(folder / ".dvcignore", DVCIGNORE)
    _add_lines(folder / ".gitignore", GITIGNORE)
    # Last, because it is what makes the folder a workspace.
    write_text(folder / FILE_NAME, text)
    _init_git(folder)
    Context.load(folder)
    return Workspace(
        folder, params.name, params.data.layout, (*(summary.lines() if summary else ()), *found, _describe_choice(raw))
    )


def _choose_params(folder: Path, choices: Choices) -> tuple[dict[str, Any], SourceSummary | None]:
    source = _open_source(choices)
    preset = find_preset(choices.preset) if choices.preset is not None else Preset("", {})
    if choices.layout is not None:
        check_plugin("datasets", choices.layout)
    elif source is None:
        choices = replace(choices, layout=preset.layout)
    if source is None and (choices.layout is None or not makes_clips(choices.layout)):
        raise SourceError(
            "--data is missing: give the folder of recordings, a table of their paths, or a URL of these."
        )
    if source is not None and not source.is_remote:
        _check_apart(folder, Path(source.address))
    if choices.partition is not None:
        parse_section(DataParams, {"layout": "folder", "partition": choices.partition}, "data")
    summary = inspect_source(source, choices.partition) if source is not None else None
    layout = choices.layout or (summary.layout if summary else "")
    name = choices.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-._") or "audio"
    raw: dict[str, Any] = {
        "name": name,
        "data": {
            "layout": layout,
            "source": None if source is None else source.address,
            "storage_options": choices.storage_options,
            "pattern": choices.pattern,
            "label": choices.label,
            "partition": choices.partition,
            **({"path_column": summary.path_column} if layout in TABLES and summary and summary.path_column else {}),
        },
        "split": {"test": choices.test, "fold": choices.fold, "group": choices.group},
        "ingest": {"segment": {"name": "fixed", "length_s": CLIP_S} if _has_long_recordings(summary) else None},
        "features": {"name": "logmel", **_choose_features(summary, preset.max_sample_rate)},
        "task": {"name": "detection" if layout == "events" else "classification"},
        "model": {"name": "rescnn"},
        "training": _choose_epochs(summary),
        "augment": [{"name": "time_shift"}, {"name": "specaugment"}, {"name": "mixup"}],
    }
    changes = {**preset.changes, **(preset.made if choices.layout == preset.layout else {})}
    if choices.group is not None:
        # What a preset says of groups, in splits and in folds, is said of the column that the user names.
        changes |= {key: choices.group for key in ("split.group", "split.folds") if key in changes}
    return apply_changes(raw, changes), summary


def _open_source(choices: Choices) -> Source | None:
    if choices.source is None:
        return None
    raw = {"layout": "folder", "source": choices.source, "storage_options": choices.storage_options}
    if is_url(choices.source):
        # Credentials in it are refused before anything is asked of it.
        parse_section(DataParams, raw, "data")
        return Source.of(choices.source, storage_options=choices.storage_options)
    return Source.of(str(Path(choices.source).expanduser()), storage_options=choices.storage_options)


def _check_apart(folder: Path, source: Path) -> None:
    """Refuse a source that holds what the workspace writes, or lies in it: it would be its own output."""
    outputs = [folder / output.path for step in STEPS for output in step.outputs] + [folder / STATE_DIR]
    if any(output.is_relative_to(source) or source.is_relative_to(output) for output in outputs):
        raise SourceError(
            f"{source} and what the workspace {folder} would write overlap. Make the workspace elsewhere, "
            f"for example: audioml init {folder.parent / (folder.name + '-audioml')} --data {source}"
        )


def _has_long_recordings(summary: SourceSummary | None) -> bool:
    return summary is not None and summary.longest_s > LONG_RECORDING_S


def _typical_clip_s(summary: SourceSummary | None) -> float:
    """Return the length in seconds that holds nearly all clips, once long recordings are cut."""
    duration_s = summary.duration_s if summary else 1.0
    return min(duration_s, CLIP_S) if _has_long_recordings(summary) else duration_s


def _count_inputs(summary: SourceSummary) -> float:
    """Return about how many inputs of the model the source makes."""
    if _has_long_recordings(summary):
        return max(summary.n_files, summary.hours * 3600 / CLIP_S)
    if _typical_clip_s(summary) > MAX_INPUT_S:
        return summary.hours * 3600 / (SEGMENT_S / 2)
    return summary.n_files


def _choose_features(summary: SourceSummary | None, max_rate: int) -> dict[str, Any]:
    """Return rate, length, window and hop that suit the source.

    Words and events get windows of 25 ms each 10 ms, longer clips 40 ms each 20 ms; clips too long for one input are
    seen through windows.
    """
    sample_rate = min(max_rate, summary.sample_rate) if summary else max_rate
    duration_s = _typical_clip_s(summary)
    has_events = summary is not None and summary.layout == "events"
    # Events are looked for in recordings of any length.
    segmented = has_events or duration_s > MAX_INPUT_S
    duration_s = min(duration_s, SEGMENT_S) if segmented else duration_s
    short = has_events or duration_s <= SHORT_CLIP_S
    win_length = round(sample_rate * (0.025 if short else 0.040))
    return {
        "sample_rate": sample_rate,
        "duration_s": duration_s,
        "length": "segment" if segmented else "pad",
        "n_fft": 1 << (win_length - 1).bit_length(),
        "win_length": win_length,
        "hop_length": round(sample_rate * (0.010 if short else 0.020)),
    }


def _choose_epochs(summary: SourceSummary | None) -> dict[str, int]:
    """Return about as many epochs as make `TRAINING_CLIPS` clips, so that small sets get enough steps.

    With few clips the validation loss is noisy, so training waits for half of its epochs before it stops early.
    """
    epochs = FEWEST_EPOCHS
    if summary is not None:
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(TRAINING_CLIPS / _count_inputs(summary))))
    return {"max_epochs": epochs, "patience": epochs // 2}


def _check_columns(folder: Path, raw: dict[str, Any]) -> tuple[str, ...]:
    """List the source with the chosen layout, and check that the named columns are there.

    `split` evaluates the test query, once the manifest is made; here it must name known columns.
    """
    params = parse_params(raw)
    data = params.data_section()
    source = Context(folder, params).source
    records = load_plugin("datasets", params.data.layout).scan(data, source)
    columns = sorted({name for record in records for name in record.columns})
    for option, column in (("--group", params.split.group), ("--fold", params.split.fold)):
        if column is not None and column not in columns:
            raise DatasetError(
                f"{option} {column}: no recording has such a column. Columns: {', '.join(columns)}. "
                "Name one of them, or add it with --pattern."
            )
    if params.split.test is not None:
        _check_query(params.split.test, [*columns, *MANIFEST_TYPES])
    labels = _list_labels(params, records)
    shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    return (f"Layout {params.data.layout}: {len(records):,} recordings, {len(labels)} labels ({shown})",)


def _list_labels(params: Params, records: Sequence[Record]) -> list[str]:
    import pandas as pd

    from audioml.tasks._clip_labels import labels_of

    labelled = [(record.path, str(record.columns["label"])) for record in records if "label" in record.columns]
    several = labels_of(params, pd.DataFrame(labelled, columns=["path", "label"]))
    return sorted({label for _, label in labelled} if several is None else {label for own in several for label in own})


def _check_query(query: str, columns: list[str]) -> None:
    """Compare the names in a pandas query with the columns; backticked names and syntax are left to pandas."""
    if "`" in query:
        return
    try:
        tree = ast.parse(query, mode="eval")
    except SyntaxError as error:
        raise ParamsError(f"--test {query!r} is no pandas query: {error.msg}. Write for example: index < 5") from None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(names - set(columns)):
        raise DatasetError(
            f"--test {query!r}: no recording has a column {name!r}.{did_you_mean(name, columns)} "
            f"Columns: {', '.join(columns)}. Put text in quotes: speaker == 'ann'"
        )


def _describe_choice(raw: dict[str, Any]) -> str:
    features = raw["features"]
    segment = raw["ingest"]["segment"]
    cut = f"Recordings are cut into clips of {segment['length_s']:g} s (ingest.segment)\n" if segment else ""
    return (
        f"{cut}Picked {features['name']} at {features['sample_rate']:,} Hz on {features['duration_s']:g} s "
        f"({features['length']}), {raw['model']['name']}, at most {raw['training']['max_epochs']} epochs"
    )


def _init_git(folder: Path) -> None:
    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet")
    if not (folder / ".dvc").exists():
        init_dvc(folder)
    ours = [*WRITTEN, ".dvcignore", ".gitignore", ".dvc"]
    _git(folder, "add", "--", *ours)
    identity = [] if _has_identity(folder) else ["-c", "user.name=audioml", "-c", "user.email=audioml@localhost"]
    _git(folder, *identity, "commit", "--quiet", "--no-verify", "-m", "Make an audioml workspace", "--", *ours)


def _has_identity(folder: Path) -> bool:
    return subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=folder, capture_output=True).returncode == 0


def _git(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServiceError(
            f"git {' '.join(arguments)} in {folder} failed: {done.stderr.strip() or done.stdout.strip()}"
        )


def _add_lines(path: Path, text: str) -> None:
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in text.splitlines() if line not in present.splitlines()]
    if missing:
        write_text(path, present + "\n".join(missing) + "\n")
