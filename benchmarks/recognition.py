"""What audioml reaches on held-out recordings, trained from scratch, beside what it should.

    python benchmarks/recognition.py [--work FOLDER] [--output FILE] [JOB ...]

Recordings are looked for in AUDIOML_TEST_DATA (default: ../shared/data beside the repository). A job is `audioml init`,
some keys of params.yaml, and the steps up to evaluate. What was measured is kept in FOLDER, so a run that was broken
off goes on where it was; the page is written from all that is there.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _workspaces import DATA, ESC10, FSDD, JOBS, REPOSITORY, SOURCES, change_params, read_metrics, run_audioml
from numpy.typing import NDArray

from audioml.audio.decode import decode
from audioml.audio.encode import encode_wav
from audioml.datasets import spoken_commands, spoken_digit_strings
from audioml.datasets._spoken import ACCENTS, SPEAKERS

STEPS = ("ingest", "validate", "split", "featurize", "train", "evaluate")
FAST = {"training.precision": "bf16-mixed"}
"""Processors that compute with bfloat16 train in half the time."""
HEARD_NOISE, OTHER_NOISE = "[123]-*", "[45]-*"
"""Recordings of ESC-10 that training has in the background, and those that are heard behind test clips: its folds."""
SPEAKER = r"(?P<digit>\d)_(?P<label>\w+)_(?P<index>\d+)"
UNHEARD = f"speaker in {json.dumps(SPEAKERS[::5])}"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
"""Of FSDD, in Hz."""
STRINGS = {"train": 400, "test": 50}
"""Strings of digits of each speaker."""
SPOKEN_STRINGS = 10
"""Strings of digits by each of espeak-ng's 96 voices."""
STRINGS_SEED = 3
MAX_PAUSE_SAMPLES = 1600
RARE = 0.1
"""Share of the training clips that is left of the first five classes."""


@dataclass(frozen=True)
class Figure:
    """One number that a job measures."""

    measure: str
    goal: str
    read: Callable[[dict[str, Any]], tuple[float, str]]
    """From metrics.json to the value in percent and what to say beside it."""


@dataclass(frozen=True)
class Job:
    """One workspace and what is measured there."""

    data: str
    init: Sequence[str]
    figures: Sequence[Figure]
    changes: Mapping[str, Any] = field(default_factory=dict)


def read(section: str, name: str = "accuracy") -> Callable[[dict[str, Any]], tuple[float, str]]:
    """Return a reader of a metric in a section of metrics.json, with its interval where it has one."""

    def find(metrics: dict[str, Any]) -> tuple[float, str]:
        found = metrics[section]
        primary = {"wer", "eer", "accuracy"} & set(found) == {name}
        interval = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}, " if primary else ""
        return 100 * found[name], f"{interval}{found['n']} clips"

    return find


def mean_of_folds(metrics: dict[str, Any]) -> tuple[float, str]:
    """Return the mean of the folds' metrics."""
    folds = metrics["folds"]
    (values,) = (value for name, value in folds.items() if name.endswith("_by_fold"))
    by_fold = ", ".join(f"{name} {100 * value:.1f}" for name, value in values.items())
    return 100 * folds["mean"], by_fold


def calibration_of_folds(metrics: dict[str, Any]) -> tuple[float, str]:
    """Return the expected calibration error over the clips of all folds."""
    found = metrics["folds"]["calibration"]
    return 100 * found["ece"], f"{100 * found['adaptive_ece']:.1f} by bins of equal size"


def in_noise(metrics: dict[str, Any]) -> tuple[float, str]:
    """Return the accuracy at 0 dB."""
    found = metrics["noise"]
    return 100 * found["accuracy"]["0_db"], f"{found['n']} clips; without noise {100 * metrics['test']['accuracy']:.1f}"


SINGLE = {
    "digits": Job(
        "FSDD, official split",
        [*JOBS["digits"], "--preset", "digits"],
        [Figure("accuracy", "at least 99.3", read("test"))],
    ),
    "speakers": Job(
        "FSDD speakers, official split",
        [*FSDD, "--pattern", SPEAKER, "--test", "index < 5"],
        [Figure("accuracy", "at least 99", read("test"))],
    ),
    "sounds": Job(
        "ESC-10, its five folds",
        [*ESC10, *SOURCES, "--preset", "sounds"],
        [
            Figure("accuracy, mean of five", "at least 90", mean_of_folds),
            Figure("calibration error after scaling", "at most 5", calibration_of_folds),
        ],
        {"split.folds": "fold", "training.max_epochs": 300, "training.patience": 300},
    ),
    "commands": Job(
        "spoken commands, unheard voices",
        ["--preset", "commands"],
        [Figure("accuracy", "at least 98", read("test"))],
    ),
    "verification": Job(
        "FSDD, are two clips by one speaker: official split",
        [*FSDD, "--pattern", SPEAKER, "--test", "index < 5", "--preset", "speakers"],
        [Figure("equal error rate", "at most 2", read("test", "eer"))],
    ),
    "voices": Job(
        "synthetic voices that were never heard: are two sentences by one of them",
        ["--layout", "spoken_sentences", "--label", "speaker", "--test", UNHEARD, "--preset", "speakers"],
        [Figure("equal error rate", "at most 8", read("test", "eer"))],
        {"features.duration_s": 2.0, "features.length": "segment"},
    ),
    "sentences": Job(
        "spoken sentences (synthetic), unheard voices",
        ["--preset", "speech"],
        [
            Figure("phoneme error rate", "at most 8", read("test", "per")),
            Figure("word error rate with the language model", "at most 10", read("test", "wer")),
        ],
    ),
}
BALANCED: dict[str, Any] = {"training.sampling": "balanced"}
SPOKEN_DIGITS: dict[str, Any] = {
    "data.words": list(DIGITS),
    "data.takes": 2,
    "data.sample_rate": 8000,
}
"""The corpus of spoken commands, with other words and at the rate of FSDD."""


def run_workspace(workspace: Path, init: Sequence[str], changes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Run a workspace up to evaluate, and return its metrics; one of the same recipe goes on where it was."""
    made, asked = workspace / ".audioml" / "recipe.json", {"init": list(init), "changes": {**FAST, **changes}}
    if not made.exists() or json.loads(made.read_text()) != asked:
        shutil.rmtree(workspace, ignore_errors=True)
        run_audioml("init", str(workspace), *init, "--name", name, cwd=workspace.parent)
        change_params(workspace, asked["changes"])
        made.parent.mkdir(exist_ok=True)
        made.write_text(json.dumps(asked))
    for step in STEPS:
        start = time.perf_counter()
        run_audioml("run", step, cwd=workspace)
        print(f"  {workspace.name}: {step} {time.perf_counter() - start:.0f} s", flush=True)
    return read_metrics(workspace)


def measure_job(work: Path, name: str) -> dict[str, Any]:
    """Run a job and return what the page says of it."""
    job = SINGLE[name]
    metrics = run_workspace(work / name, job.init, job.changes, name)
    return {
        "data": job.data,
        "recipes": [recipe(name, job.init, job.changes)],
        "figures": [
            {"measure": figure.measure, "goal": figure.goal, "value": value, "beside": beside}
            for figure in job.figures
            for value, beside in [figure.read(metrics)]
        ],
    }


def recipe(name: str, init: Sequence[str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of a workspace."""
    return {"name": name, "init": list(init), "changes": {**FAST, **changes}}


def measure_imbalance(work: Path) -> dict[str, Any]:
    """Train on ESC-10 with a tenth of the clips of five classes, plainly and balanced, each fold the test set once."""
    scores: dict[str, list[float]] = {"plain": [], "balanced": []}
    init = ["--data", str(work / "imbalanced.csv"), "--layout", "table", *SOURCES]
    for fold in range(1, 6):
        write_imbalanced(work / "imbalanced.csv", fold)
        for kind, changes in (("plain", {}), ("balanced", BALANCED)):
            test = [*init, "--test", f"fold == {fold}"]
            metrics = run_workspace(work / f"imbalanced-{kind}-{fold}", test, changes, "imbalanced")
            scores[kind].append(100 * metrics["test"]["macro_f1"])
    plain, balanced = (float(np.mean(scores[kind])) for kind in ("plain", "balanced"))
    beside = f"{plain:.1f} plain, {balanced:.1f} balanced; by fold "
    beside += ", ".join(f"{a:.1f} / {b:.1f}" for a, b in zip(scores["plain"], scores["balanced"], strict=True))
    figure = {"measure": "macro F1, points above plain training", "goal": "at least 5", "value": balanced - plain}
    return {
        "data": f"ESC-10 with {100 * RARE:.0f} % of the training clips of five classes, mean of its five folds",
        "recipes": [recipe("imbalanced", ["--data", "imbalanced.csv", *init[2:], "--test", "fold == 5"], BALANCED)],
        "figures": [{**figure, "beside": beside}],
    }


def measure_unheard(work: Path) -> dict[str, Any]:
    """Leave one speaker out, with synthetic speech to train on beside the other five speakers."""
    table = work / "unheard.csv"
    write_spoken_digits(work / "espeak", table)
    init = ["--data", str(table), "--layout", "table", "--preset", "digits"]
    changes = {
        "split.folds": "speaker",
        "split.train_only": "source == 'espeak'",
        "features.duration_s": 1.0,
        "model.channels": [24, 40, 64],
        "model.width": 96,
        "training.max_epochs": 40,
    }
    metrics = run_workspace(work / "unheard", init, changes, "unheard")
    value, beside = mean_of_folds(metrics)
    figure = {"measure": "accuracy, mean of six", "goal": "at least 95", "value": value, "beside": beside}
    return {
        "data": "FSDD, leave one speaker out, beside digits that espeak-ng speaks",
        "recipes": [recipe("unheard", ["--data", "unheard.csv", *init[2:]], changes)],
        "figures": [figure],
    }


def write_spoken_digits(folder: Path, table: Path) -> None:
    """Write digits spoken by espeak-ng, two takes by each of 192 voices, and a table of these and of FSDD."""
    corpus = spoken_commands.Params(
        layout="spoken_commands",
        words=DIGITS,
        voices=tuple(f"{accent}+{speaker}" for accent in ACCENTS for speaker in SPEAKERS),
        takes=2,
        min_snr_db=15,
        max_snr_db=50,
        sample_rate=8000,
        duration_s=0.3,
    )
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    for record in spoken_commands.scan(corpus, None):
        path = folder / record.path.replace("/", "_")
        if not path.exists():
            path.write_bytes(spoken_commands.read(corpus, None, record))
        rows.append((path, DIGITS.index(str(record.columns["label"])), "", "espeak"))
    for path in sorted((DATA / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        rows.append((path, digit, speaker, "fsdd"))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "source"), *rows])


def write_digit_strings(folder: Path, table: Path) -> None:
    """Join recordings of FSDD into strings of 3 to 7 digits by one speaker; the official test takes are in test only.

    Beside them stand strings that espeak-ng speaks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    takes: dict[tuple[str, str], list[list[NDArray[np.float32]]]] = {}
    for path in sorted((DATA / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        part = "test" if int(index) < 5 else "train"
        of_digits = takes.setdefault((speaker, part), [[] for _ in DIGITS])
        of_digits[int(digit)].append(decode(path.read_bytes())[0])
    for (speaker, part), of_digits in takes.items():
        generator = np.random.default_rng([STRINGS_SEED, *f"{speaker}/{part}".encode()])
        for i in range(STRINGS[part]):
            digits = generator.integers(10, size=generator.integers(3, 7, endpoint=True))
            pieces = [np.zeros((1, generator.integers(MAX_PAUSE_SAMPLES)), np.float32) for _ in range(len(digits) + 1)]
            for place, digit in enumerate(digits):
                own = of_digits[digit]
                pieces.insert(2 * place + 1, own[generator.integers(len(own))])
            path = folder / f"{speaker}-{part}-{i}.wav"
            path.write_bytes(encode_wav(np.concatenate(pieces, axis=1), RATE))
            rows.append((path, " ".join(DIGITS[digit] for digit in digits), speaker, part, "fsdd"))
    spoken = spoken_digit_strings.Params(layout="spoken_digit_strings", sample_rate=RATE, takes=SPOKEN_STRINGS)
    for record in spoken_digit_strings.scan(spoken, None):
        path = folder / record.path.replace("/", "_")
        path.write_bytes(spoken_digit_strings.read(spoken, None, record))
        rows.append((path, record.columns["label"], "", "", "espeak"))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "part", "source"), *rows])


def measure_strings(work: Path) -> dict[str, Any]:
    """Recognize strings of digits: by speakers whose other takes were heard, and leaving one speaker out."""
    table = work / "strings.csv"
    write_digit_strings(work / "strings-audio", table)
    init = ["--data", str(table), "--layout", "table", "--test", "part == 'test'", "--preset", "speech"]
    # Strings that are said fast have few frames for their phonemes.
    changes = {"split.folds": "speaker", "split.train_only": "source == 'espeak'", "features.hop_length": 60}
    metrics = run_workspace(work / "strings", init, changes, "strings")
    figures = []
    for measure, goal, reader in (
        ("word error rate, official test takes", "at most 2", read("test", "wer")),
        ("word error rate, leave one speaker out, mean of six", "at most 10", mean_of_folds),
    ):
        value, beside = reader(metrics)
        figures.append({"measure": measure, "goal": goal, "value": value, "beside": beside})
    return {
        "data": "strings of 3 to 7 digits joined from FSDD, beside strings that espeak-ng speaks",
        "recipes": [recipe("strings", ["--data", "strings.csv", *init[2:]], changes)],
        "figures": figures,
    }


def measure_noisy(work: Path) -> dict[str, Any]:
    """Train with recordings of ESC-10 in the background, and judge in front of others."""
    folders = {
        name: link_recordings(work / name, pattern)
        for name, pattern in (("heard", HEARD_NOISE), ("other", OTHER_NOISE))
    }
    background = {
        "name": "background",
        "folder": str(folders["heard"]),
        "min_snr_db": -5,
        "max_snr_db": 20,
        "share": 0.8,
    }
    changes = {
        "features.keep_audio": True,
        "augment": [background, {"name": "time_shift"}, {"name": "specaugment"}, {"name": "mixup"}],
        "evaluate.noise": str(folders["other"]),
        "evaluate.noise_snrs_db": [0.0],
    }
    metrics = run_workspace(work / "noisy", JOBS["digits"], changes, "noisy")
    value, beside = in_noise(metrics)
    said = {
        **changes,
        "augment": [{**background, "folder": "esc10-folds-1-to-3"}, *changes["augment"][1:]],
        "evaluate.noise": "esc10-folds-4-and-5",
    }
    return {
        "data": "FSDD, official split, in front of recordings of ESC-10 at 0 dB; others were heard in training",
        "recipes": [recipe("noisy", JOBS["digits"], said)],
        "figures": [{"measure": "accuracy", "goal": "at least 85", "value": value, "beside": beside}],
    }


def link_recordings(folder: Path, pattern: str) -> Path:
    """Return a folder of links to the recordings of ESC-10 whose names fit a pattern."""
    folder.mkdir(exist_ok=True)
    for path in sorted((DATA / "esc10").rglob(pattern)):
        link = folder / path.name
        if not link.exists():
            link.symlink_to(path)
    return folder


def measure_transfer(work: Path) -> dict[str, Any]:
    """Train on three takes of each digit by each speaker, from random weights and from those of synthetic speech."""
    shutil.rmtree(work / "few", ignore_errors=True)
    init = [*JOBS["digits"][:-1], "index < 47"]
    run_audioml("init", str(work / "few"), *init, cwd=work)
    features = yaml.safe_load((work / "few" / "params.yaml").read_text())["features"]
    words = {**SPOKEN_DIGITS, "features": features}
    spoken = ["--layout", "spoken_commands", "--group", "voice"]
    run_workspace(work / "words", spoken, words, "words")
    few = {"training.batch_size": 16, "training.max_epochs": 100, "training.patience": 50}
    changes = {**few, "training.init_from": "../words/models/checkpoint.ckpt"}
    found = [run_workspace(work / "few", init, kind, "few")["test"] for kind in (few, changes)]
    plain, started = (100 * test["accuracy"] for test in found)
    beside = f"{plain:.1f} from random weights, {started:.1f} from those of spoken words; {found[0]['n']} clips"
    figure = {"measure": "accuracy, points above random weights", "goal": "above 0", "value": started - plain}
    return {
        "data": "FSDD, three takes of each digit by each speaker to train on",
        "recipes": [recipe("words", spoken, words), recipe("few", init, changes)],
        "figures": [{**figure, "beside": beside}],
    }


COMPARED = {
    "noisy": measure_noisy,
    "unheard": measure_unheard,
    "strings": measure_strings,
    "imbalanced": measure_imbalance,
    "pretrained": measure_transfer,
}


def write_imbalanced(path: Path, test_fold: int) -> None:
    """Write a table of ESC-10: all clips of the test fold, and of the rest few of the first five classes."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for index, folder in enumerate(sorted(p for p in (DATA / "esc10").iterdir() if p.is_dir())):
            clips = sorted(folder.glob("*.ogg"))
            training = [clip for clip in clips if not clip.name.startswith(f"{test_fold}-")]
            few = np.linspace(0, len(training) - 1, round(RARE * len(training))).round().astype(int)
            kept = training if index >= 5 else [training[i] for i in few]
            for clip in sorted({*kept, *clips} - {*training} | {*kept}):
                writer.writerow([clip, folder.name.partition(" - ")[2]])


PAGE = """# What it reaches

`python benchmarks/recognition.py`: trained from scratch on one machine without a GPU, judged on clips that took no
part in training or in the choice of the epoch. `python benchmarks/recognition.py NAME` measures one row. Below the
table is what makes each model: options of `audioml init`, and the keys of `params.yaml` that are not its defaults; then
`audioml run ingest` and so on to `evaluate`, or `dvc repro`.

| name | data | measure | goal, % | measured, % | |
|---|---|---|---|---|---|
"""


def render(found: Mapping[str, dict[str, Any]]) -> str:
    """Return the page: a table of all figures, then what makes each."""
    page = PAGE
    for name, job in found.items():
        for figure in job["figures"]:
            page += f"| {name} | {job['data']} | {figure['measure']} | {figure['goal']} | **{figure['value']:.2f}** | "
            page += f"{figure['beside']} |\n"
    for name, job in found.items():
        page += f"\n## {name}\n"
        for made in job["recipes"]:
            page += f"\n    {shlex.join(['audioml', 'init', made['name'], *made['init']])}\n"
            if made["changes"]:
                lines = yaml.safe_dump(nest(made["changes"]), sort_keys=False).splitlines()
                page += "".join(f"\n    {line}" for line in lines) + "\n"
    return page.replace(str(DATA), "$AUDIOML_TEST_DATA")


def nest(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as sections."""
    nested: dict[str, Any] = {}
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        section = nested
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return nested


def main() -> None:
    """Measure what was asked for, or what is not measured yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "recognition")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "recognition.md")
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    known = [*SINGLE, *COMPARED]
    if unknown := set(options.jobs) - set(known):
        parser.error(f"there is no job {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in options.jobs or known:
        path = work / f"{name}.json"
        if not path.exists() or options.jobs:
            path.write_text(json.dumps(COMPARED[name](work) if name in COMPARED else measure_job(work, name)))
        for figure in json.loads(path.read_text())["figures"]:
            print(
                f"{name}: {figure['measure']} {figure['value']:.2f} ({figure['goal']}); {figure['beside']}", flush=True
            )
        found = {
            name: json.loads((work / f"{name}.json").read_text()) for name in known if (work / f"{name}.json").exists()
        }
        options.output.write_text(render(found))


if __name__ == "__main__":
    main()
