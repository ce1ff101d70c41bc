"""From a folder of recordings to an evaluated, registered model by `dvc repro`: seconds a step, held-out accuracy.

    python benchmarks/bench_main_job.py [digits] [sounds]

Recordings are looked for in AUDIOML_TEST_DATA (default: ../shared/data beside the repository).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _workspaces import ENVIRONMENT, JOBS, read_metrics

STEPS = ("ingest", "validate", "split", "featurize", "train", "evaluate", "register")


def run_job(name: str) -> None:
    """Run one job in a temporary folder and print its row."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / name
        quiet = {"env": ENVIRONMENT, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["audioml", "init", str(workspace), *JOBS[name]], **quiet)
        seconds = []
        for step in STEPS:
            start = time.perf_counter()
            subprocess.run(["dvc", "repro", "--single-item", step], cwd=workspace, **quiet)
            seconds.append(time.perf_counter() - start)
        test = read_metrics(workspace)["test"]
    held_out = [f"{test['accuracy']:.4f}", f"{test['low']:.4f} to {test['high']:.4f}", str(test["n"])]
    print("| " + " | ".join([name, *(f"{s:.0f}" for s in seconds), f"{sum(seconds):.0f}", *held_out]) + " |")


if __name__ == "__main__":
    print("| job | " + " | ".join(STEPS) + " | all, s | test accuracy | 95 % interval | clips |")
    print("|---" * (len(STEPS) + 5) + "|")
    for job in sys.argv[1:] or JOBS:
        run_job(job)
