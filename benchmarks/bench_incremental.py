"""What 1 % of new clips costs, and what nothing new costs, in a workspace of 20,000 clips.

python benchmarks/bench_incremental.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from _corpus import add_made_up_clips, make_workspace
from _measure import time_s

from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step

CLIPS, NEW = 20_000, 200
STEP = find_step("featurize")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = make_workspace(Path(folder))
        add_made_up_clips(ctx, 0, CLIPS)
        full_s = time_s(lambda: run_step(ctx, STEP, jobs=1))
        costs = []
        for i in range(3):
            add_made_up_clips(ctx, CLIPS + i * NEW, CLIPS + (i + 1) * NEW)
            costs.append(time_s(lambda: run_step(ctx, STEP, jobs=1)))
        command = [sys.executable, "-m", "audioml", "run", "featurize", "-C", folder]
        idle_s = [time_s(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3)]
    print(f"log-mel of {CLIPS:,} clips of 1 s at 16 kHz, one process")
    print("| | s | |\n|---|---|---|")
    print(f"| all {CLIPS:,} clips | {full_s:.2f} | |")
    print(f"| {NEW} more clips | {min(costs):.3f} | {min(costs) / full_s:.1%} of the full cost (goal 3 %) |")
    print(f"| nothing new, the whole command `audioml run featurize` | {min(idle_s):.2f} | goal 2 s |")


if __name__ == "__main__":
    main()
