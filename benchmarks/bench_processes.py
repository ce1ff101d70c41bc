"""Extraction by two worker processes against one, beside what this machine's cores do for two bare loops at once.

python benchmarks/bench_processes.py

The whole step is timed, processes started included. The bare loop decodes each clip, transforms its samples, and writes
as many bytes as its features have.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, best_and_median, interleave

os.environ.update(ONE_THREAD)

import numpy as np
import scipy.fft
import soundfile
from _corpus import ESC10, FSDD, FSDD_PATTERN, make_workspace, multiply_oggs, multiply_wavs

from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.plugins import load_plugin
from audioml.store.clips import FOLDER, iter_clips

ROUNDS = 4
N_FFT = 512
FORK = multiprocessing.get_context("fork")


def bare_loop(shards: list[Path], features: bytes) -> None:
    """Decode every clip, transform its samples thrice (frames overlap), and write something of its features' size."""
    for shard in shards:
        with tempfile.NamedTemporaryFile() as file:
            for _, data in iter_clips(shard):
                audio, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
                frames = np.resize(audio[:, 0], (-(-len(audio) // N_FFT), N_FFT))
                for _ in range(3):
                    scipy.fft.rfft(frames)
                file.write(features)
            file.flush()
            os.fsync(file.fileno())


def two_bare_loops(shards: list[Path], features: bytes) -> None:
    """Run two bare loops at once, over one half of the shards each."""
    halves = [FORK.Process(target=bare_loop, args=(shards[start::2], features)) for start in (0, 1)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


def extract(ctx: Context, jobs: int) -> None:
    """Make all features anew."""
    shutil.rmtree(ctx.path("features"), ignore_errors=True)
    shutil.rmtree(ctx.state / "featurize", ignore_errors=True)
    run_step(ctx, find_step("featurize"), jobs=jobs)


def measure(name: str, ctx: Context) -> None:
    """Measure one corpus and print its rows."""
    run_step(ctx, find_step("ingest"), jobs=2)
    shards = sorted(ctx.path(FOLDER).glob("*.parquet"))
    params = ctx.params.plugin_section("features")
    shape = load_plugin("features", ctx.params.features.name).feature_shape(params)
    features = bytes(4 * math.prod(shape))
    seconds = interleave(
        {
            "bare loop": lambda: bare_loop(shards, features),
            "bare loop, two processes": lambda: two_bare_loops(shards, features),
            "featurize, one process": lambda: extract(ctx, 1),
            "featurize, two processes": lambda: extract(ctx, 2),
        },
        ROUNDS,
    )
    best = {kind: min(values) for kind, values in seconds.items()}
    for kind, values in seconds.items():
        one = kind.replace("two processes", "one process") if "featurize" in kind else "bare loop"
        ratio = f"{best[one] / best[kind]:.2f}" if "two" in kind else ""
        print(f"| {name} | {kind} | {best_and_median(values)} | {ratio} |")


def main() -> None:
    """Measure and print."""
    print("| corpus | | best s | times one process (goal 1.8) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        n_clips = multiply_wavs(sorted(FSDD.glob("*.wav")), 10, root / "source")
        data: dict[str, Any] = {"layout": "filename", "source": str(root / "source"), "pattern": FSDD_PATTERN}
        features = {"name": "logmel", "sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80}
        ctx = make_workspace(root / "space", data=data, features=features, ingest={"shard_s": 600})
        measure(f"FSDD × 10: {n_clips:,} clips of 0.4 s at 8 kHz", ctx)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        n_clips = multiply_oggs(sorted(ESC10.rglob("*.ogg")), 4, root / "source")
        data = {"layout": "folder", "source": str(root / "source")}
        features = {"name": "logmel", "duration_s": 5.0}
        ctx = make_workspace(root / "space", data=data, features=features, ingest={"shard_s": 600})
        measure(f"ESC-10 × 4: {n_clips:,} clips of 5 s, 44.1 to 16 kHz", ctx)


if __name__ == "__main__":
    main()
