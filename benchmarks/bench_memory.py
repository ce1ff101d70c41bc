"""Peak memory of a worker process and of the process that plans and collects, from 1,000 to 100,000 clips.

python benchmarks/bench_memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from _corpus import made_up_clips, make_workspace
from _measure import run_child

COUNTS = (1_000, 10_000, 100_000)
DURATION_S, RATE = 0.5, 16000
RUN = """
import sys
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
run_step(Context.load(sys.argv[1]), find_step(sys.argv[2]), jobs=2)
"""


def measure(folder: Path, n_clips: int) -> list[tuple[str, float, float]]:
    """Return (step, MiB of the main process, MiB of the largest worker) of ingest and featurize."""
    source = folder / "source"
    for clip in made_up_clips(0, n_clips, DURATION_S, RATE):
        path = source / clip.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip.data)
    features = {"name": "logmel", "duration_s": DURATION_S}
    place = folder / "space"
    # Small shards: at 1,000 clips too there are several items.
    make_workspace(place, data={"layout": "folder", "source": str(source)}, features=features)
    measured = []
    for step in ("ingest", "featurize"):
        answer = run_child(RUN, str(place), step)
        measured.append((step, answer["main_mib"], answer["worker_mib"]))
    return measured


def main() -> None:
    """Measure and print."""
    print(f"clips of {DURATION_S} s at 16 kHz, two worker processes; MiB of resident memory at its peak (goal 1,229)")
    print("| clips | step | main process | largest worker |\n|---|---|---|---|")
    for n_clips in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            for step, main_mib, worker_mib in measure(Path(folder), n_clips):
                print(f"| {n_clips:,} | {step} | {main_mib:,.0f} | {worker_mib:,.0f} |")


if __name__ == "__main__":
    main()
