"""A made-up manifest of a million clips: seconds and peak memory of planning, splitting and validating it.

    python benchmarks/bench_million_clips.py [clips]

Each step runs as `audioml run` does it, in a fresh process; the seconds hold its start and its imports.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_CLIPS = 1_000_000
N_LABELS, N_SPEAKERS, N_FOLDS, SHARD_CLIPS = 50, 5_000, 10, 1_000
MAX_S, MAX_MIB = 120, 2048
PARAMS = """
name: million
data: {layout: folder, source: /nowhere}
features: {name: logmel}
task: {name: classification}
model: {name: rescnn}
"""
FAILING = (
    "{max_duration_s: 0.1, min_sample_rate: 96000, max_silent_share: 0, max_clipped_share: 0, labels: [other], "
    "severity: {duration: warn, sample_rate: warn, labels: warn, clips_per_label: warn}}"
)
ROWS = (
    ("validate, no clip holds a bound", 1, "validate", f"validate: {FAILING}"),
    ("validate", 1, "validate", ""),
    ("validate, recordings of 10 segments", 10, "validate", ""),
    ("plan of featurize", 1, "featurize", ""),
    ("split", 1, "split", ""),
    ("split, group: speaker", 1, "split", "split: {group: speaker}"),
    ("split, group: path (as many groups as clips)", 1, "split", "split: {group: path}"),
    ("split, recordings of 10 segments", 10, "split", ""),
    ("split, fold, group: speaker", 1, "split", "split: {fold: fold, group: speaker}"),
    ("split, test: a query", 1, "split", "split: {test: speaker < 'speaker0500', group: speaker}"),
)
"""Name, clips a recording, step, section of params.yaml."""


def make_workspace(folder: Path, n_clips: int, segments: int) -> None:
    """Write params, a manifest as ingest does, and the names of its packed shards."""
    import numpy as np
    import pandas as pd

    from audioml.store.clips import FOLDER
    from audioml.store.files import hash_bytes
    from audioml.store.manifest import MANIFEST, write_manifest

    generator = np.random.default_rng(0)
    clip = np.arange(n_clips)
    recording = clip // segments
    # Speakers and labels are as uneven as in real corpora; a speaker has one fold.
    speaker = (N_SPEAKERS * generator.beta(1, 2, recording[-1] + 1)).astype(int)[recording]
    label = (N_LABELS * generator.beta(1, 1.5, recording[-1] + 1)).astype(int)[recording]
    names = [f"label{code:02}" for code in range(N_LABELS)]
    duration_s = generator.uniform(0.4, 4.0, n_clips)
    shard = [f"{hash_bytes(b'%d' % number)[:20]}.parquet" for number in range(-(-n_clips // SHARD_CLIPS))]
    manifest = pd.DataFrame(
        {
            "clip_id": [hash_bytes(b"%d" % number) for number in clip],
            "path": [f"{names[code]}/recording_{number:07}.wav" for code, number in zip(label, recording, strict=True)],
            "label": [names[code] for code in label],
            "shard": [shard[number] for number in clip // SHARD_CLIPS],
            "row": clip % SHARD_CLIPS,
            "start_s": 4.0 * (clip % segments),
            "duration_s": duration_s,
            "sample_rate": generator.choice([16000, 44100], n_clips),
            "channels": 1,
            "format": "WAV",
            "subtype": "PCM_16",
            "size_bytes": (duration_s * 32000).astype(int),
            "peak_dbfs": generator.uniform(-12, 0, n_clips),
            "rms_dbfs": generator.uniform(-40, -15, n_clips),
            "dc_offset": generator.normal(0, 1e-4, n_clips),
            "clipped_share": generator.beta(1, 200, n_clips),
            "silent_share": generator.beta(1, 4, n_clips),
            "speaker": [f"speaker{number:04}" for number in speaker],
            "fold": speaker % N_FOLDS,
        }
    )
    write_manifest(folder / MANIFEST, manifest)
    (folder / FOLDER).mkdir(parents=True)
    for name in shard:
        (folder / FOLDER / name).touch()
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")


def run_step(folder: Path, name: str) -> None:
    """Plan featurize, or run another step whole."""
    logging.disable(logging.WARNING)
    from audioml.pipeline import runner
    from audioml.pipeline.context import Context
    from audioml.pipeline.graph import find_step

    run = runner.plan_step if name == "featurize" else runner.run_step
    run(Context.load(folder), find_step(name))


def measure(*arguments: str) -> tuple[float, float]:
    """Run this file with arguments; return seconds and peak resident memory in MiB.

    This process stays small: Linux counts the memory of the parent at the fork as the child's.
    """
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, *arguments], env={**os.environ, "PYTHONWARNINGS": "ignore"})
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}")
    return seconds, usage.ru_maxrss / 1024


def main(n_clips: int) -> None:
    """Print the table."""
    print(f"| {n_clips:,} clips | s (at most {MAX_S}) | peak MiB (at most {MAX_MIB}) | holds |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        for segments in {segments for _, segments, _, _ in ROWS}:
            measure("make", f"{root}/{segments}", str(n_clips), str(segments))
        for name, segments, step, section in ROWS:
            folder = Path(root, str(segments))
            (folder / "params.yaml").write_text(f"{PARAMS}{section}\n", encoding="utf-8")
            seconds, peak_mib = measure("run", str(folder), step)
            holds = "yes" if seconds <= MAX_S and peak_mib <= MAX_MIB else "NO"
            print(f"| {name} | {seconds:.1f} | {peak_mib:.0f} | {holds} |", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, n_clips, segments]:
            make_workspace(Path(folder), int(n_clips), int(segments))
        case ["run", folder, step]:
            run_step(Path(folder), step)
        case arguments:
            main(int(arguments[0]) if arguments else N_CLIPS)
