"""Every model with its default params on two corpora: held-out accuracy, size, training time, latency.

    python benchmarks/leaderboard.py [--work FOLDER] [--output FILE] [MODEL ...]

Recordings are looked for in AUDIOML_TEST_DATA (default: ../shared/data beside the repository). Each model is trained
and evaluated by `audioml run`, in a workspace that `audioml init` made for the corpus and nobody tuned. A row is kept
in FOLDER as soon as it is measured, so a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from _workspaces import JOBS, change_params, read_metrics, run_audioml

from audioml.evaluation.cost import time_predictions
from audioml.params import load_params
from audioml.plugins import check_plugin, plugin_names

CORPORA = {"digits": "FSDD, official split", "sounds": "ESC-10, fold 5"}
OF_SAMPLES = ("rawcnn",)
"""Models that learn from samples, not from spectra."""
TIMED_CLIPS = 50


def open_workspace(work: Path, corpus: str, of_samples: bool) -> Path:
    """Return the workspace of a corpus with features made; one for spectra, one for samples."""
    workspace = work / f"{corpus}-{'samples' if of_samples else 'spectra'}"
    if not workspace.exists():
        run_audioml("init", str(workspace), *JOBS[corpus], cwd=work)
        if of_samples:
            params = load_params(workspace).plugin_section("features")
            kept = {key: getattr(params, key) for key in ("sample_rate", "duration_s", "length")}
            change_params(workspace, {"features": {"name": "waveform", **kept}})
    for step in ("ingest", "validate", "split", "featurize"):
        run_audioml("run", step, cwd=workspace)
    return workspace


def measure(workspace: Path, model: str) -> dict[str, Any]:
    """Train and evaluate a model, and return its row."""
    change_params(workspace, {"model": {"name": model}})
    start = time.perf_counter()
    run_audioml("run", "train", cwd=workspace)
    training_s = time.perf_counter() - start
    run_audioml("run", "evaluate", cwd=workspace)
    metrics = read_metrics(workspace)
    recordings = sorted(path for path in Path(str(load_params(workspace).data.source)).rglob("*.*") if path.is_file())
    clips = [path.read_bytes() for path in recordings if path.suffix in (".wav", ".ogg")]
    timed = clips[:: max(1, len(clips) // TIMED_CLIPS)]
    seconds = sorted(time_predictions(workspace / "models" / "package" / "artifacts", timed))
    return {
        "model": model,
        **{name: metrics["test"][name] for name in ("accuracy", "low", "high", "n")},
        "parameters": metrics["model"]["parameters"],
        "training_s": training_s,
        "latency_ms": 1000 * seconds[len(seconds) // 2],
    }


PAGE = """# Leaderboard

`make bench-models`: every model with its default params, in workspaces that `audioml init` made and nobody tuned,
trained from scratch on one machine without a GPU. Accuracy is on clips that took no part in training or in the choice
of the epoch, with its 95 % interval. Latency is the median time from audio bytes to an answer, on one thread.
"""
HEAD = "| model | accuracy | interval | parameters | training, s | latency, ms |\n|---|---|---|---|---|---|\n"


def render(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the page: a table for each corpus, the best first."""
    page = PAGE
    for corpus, found in rows.items():
        page += f"\n## {CORPORA[corpus]}, {found[0]['n']} test clips\n\n{HEAD}"
        for row in sorted(found, key=lambda row: -row["accuracy"]):
            value, low, high = (100 * row[name] for name in ("accuracy", "low", "high"))
            page += f"| {row['model']} | {value:.1f} % | {low:.1f} to {high:.1f} | {row['parameters']:,} | "
            page += f"{row['training_s']:.0f} | {row['latency_ms']:.1f} |\n"
    return page


def main() -> None:
    """Measure what is not measured yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/leaderboard"))
    parser.add_argument("--output", type=Path, default=Path("docs/leaderboard.md"))
    parser.add_argument("models", nargs="*", metavar="MODEL")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for corpus in CORPORA:
        rows[corpus] = []
        for model in [check_plugin("models", name) for name in options.models] or plugin_names("models"):
            path = work / f"{corpus}-{model}.json"
            if not path.exists():
                row = measure(open_workspace(work, corpus, model in OF_SAMPLES), model)
                path.write_text(json.dumps(row))
            rows[corpus].append(json.loads(path.read_text()))
            print(corpus, rows[corpus][-1], flush=True)
            options.output.write_text(render(rows))


if __name__ == "__main__":
    main()
