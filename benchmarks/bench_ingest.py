"""Ingest against a bare loop that reads, hashes and decodes each file; and two processes against one.

python benchmarks/bench_ingest.py

The bare loop keeps nothing. Ingest also lists the source, measures levels and faults, packs the bytes into shards,
flushes them to disk, and writes the manifest; its time is that of the whole step, processes started included.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, best_and_median, interleave

os.environ.update(ONE_THREAD)

import soundfile
from _corpus import ESC10, FSDD, FSDD_PATTERN, make_workspace, multiply_oggs, multiply_wavs

from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step

STEP = find_step("ingest")
ROUNDS = 3
FORK = multiprocessing.get_context("fork")


def bare_loop(folder: Path, share: slice = slice(None)) -> None:
    """Read, hash and decode every file below a folder, or some of them."""
    for path in sorted(folder.rglob("*.*"))[share]:
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        soundfile.read(io.BytesIO(data), dtype="float32")


def two_bare_loops(folder: Path) -> None:
    """Run two bare loops at once, each in a process, over one half of the files each: what this machine can do."""
    halves = [FORK.Process(target=bare_loop, args=(folder, slice(start, None, 2))) for start in (0, 1)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


def ingest(place: Path, data: dict[str, Any], jobs: int) -> None:
    """Ingest a source into a new workspace."""
    shutil.rmtree(place, ignore_errors=True)
    run_step(make_workspace(place, data=data), STEP, jobs=jobs)


def measure(name: str, n_files: int, root: Path, data: dict[str, Any]) -> None:
    """Measure one corpus and print its rows."""
    seconds = interleave(
        {
            "bare loop": lambda: bare_loop(root / "source"),
            "bare loop, two processes": lambda: two_bare_loops(root / "source"),
            "one process": lambda: ingest(root / "one", data, 1),
            "two processes": lambda: ingest(root / "two", data, 2),
        },
        ROUNDS,
    )
    best = {kind: min(values) for kind, values in seconds.items()}
    ratios = {
        "bare loop": "",
        "bare loop, two processes": f"{best['bare loop'] / best['bare loop, two processes']:.2f} × one process",
        "one process": f"{best['bare loop'] / best['one process']:.2f} of the bare loop (goal 0.6)",
        "two processes": f"{best['one process'] / best['two processes']:.2f} × one process (goal 1.7)",
    }
    for kind, values in seconds.items():
        print(f"| {name} | {kind} | {best_and_median(values)} | {n_files / best[kind]:,.0f} | {ratios[kind]} |")


def main() -> None:
    """Measure and print."""
    print("| corpus | | best s | files per second | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        n_files = multiply_wavs(sorted(FSDD.glob("*.wav")), 10, root / "source")
        data = {"layout": "filename", "source": str(root / "source"), "pattern": FSDD_PATTERN}
        measure(f"FSDD × 10: {n_files:,} WAV of 0.4 s", n_files, root, data)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        n_files = multiply_oggs(sorted(ESC10.rglob("*.ogg")), 4, root / "source")
        data = {"layout": "folder", "source": str(root / "source")}
        measure(f"ESC-10 × 4: {n_files:,} Ogg of 5 s", n_files, root, data)


if __name__ == "__main__":
    main()
