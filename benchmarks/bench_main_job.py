"""From a folder of recordings to an evaluated, registered model by `dvc repro`: seconds a step, held-out accuracy.

    python benchmarks/bench_main_job.py [digits] [sounds]

Recordings are looked for in AUDIOML_TEST_DATA (default: ../shared/data beside the repository).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AUDIOML_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
STEPS = ("ingest", "validate", "split", "featurize", "train", "evaluate", "register")
JOBS = {
    "digits": [
        *("--data", str(DATA / "fsdd" / "recordings"), "--layout", "filename"),
        *("--pattern", r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)", "--test", "index < 5"),
    ],
    "sounds": [
        *("--data", str(DATA / "esc10"), "--layout", "folder"),
        *("--pattern", r"(?P<fold>\d)-(?P<source>\d+)-[A-Z]", "--group", "source", "--test", "fold == 5"),
    ],
}


def run_job(name: str) -> None:
    """Run one job in a temporary folder and print its row."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / name
        quiet = {"env": environment, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["audioml", "init", str(workspace), *JOBS[name]], **quiet)
        seconds = []
        for step in STEPS:
            start = time.perf_counter()
            subprocess.run(["dvc", "repro", "--single-item", step], cwd=workspace, **quiet)
            seconds.append(time.perf_counter() - start)
        test = json.loads((workspace / "reports" / "metrics.json").read_text())["test"]
    held_out = [f"{test['accuracy']:.4f}", f"{test['low']:.4f} to {test['high']:.4f}", str(test["n"])]
    print("| " + " | ".join([name, *(f"{s:.0f}" for s in seconds), f"{sum(seconds):.0f}", *held_out]) + " |")


if __name__ == "__main__":
    print("| job | " + " | ".join(STEPS) + " | all, s | test accuracy | 95 % interval | clips |")
    print("|---" * (len(STEPS) + 5) + "|")
    for job in sys.argv[1:] or JOBS:
        run_job(job)
