"""Peak memory of a worker process and of the process that plans and collects, from 1,000 to 100,000 clips.

python benchmarks/bench_memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile
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


def measure_long(folder: Path, minutes: int) -> float:
    """Return the MiB of a process that ingests a recording of noise of so many minutes, cut into clips of 10 s."""
    noise = np.random.default_rng(0)
    for label, length in (("long", minutes), ("short", 1)):
        path = folder / "source" / label / "1.wav"
        path.parent.mkdir(parents=True)
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(length):
                file.write(noise.normal(0, 0.05, RATE * 60).astype(np.float32))
    data = {"layout": "folder", "source": str(folder / "source")}
    make_workspace(folder / "space", data=data, ingest={"segment": {"name": "fixed"}})
    return float(run_child(RUN.replace("jobs=2", "jobs=1"), str(folder / "space"), "ingest")["main_mib"])


def main() -> None:
    """Measure and print."""
    print(f"clips of {DURATION_S} s at 16 kHz, two worker processes; MiB of resident memory at its peak (goal 1,229)")
    print("| clips | step | main process | largest worker |\n|---|---|---|---|")
    for n_clips in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            for step, main_mib, worker_mib in measure(Path(folder), n_clips):
                print(f"| {n_clips:,} | {step} | {main_mib:,.0f} | {worker_mib:,.0f} |")
    print("\n| ingest of one recording at 16 kHz, cut into clips of 10 s | the one process |\n|---|---|")
    for minutes in (10, 180):
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {minutes} minutes | {measure_long(Path(folder), minutes):,.0f} |")


if __name__ == "__main__":
    main()
