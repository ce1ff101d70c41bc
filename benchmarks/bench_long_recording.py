"""A recording of 10 minutes and one of 3 hours, cut into segments: peak memory and speed of a fresh process each.

    python benchmarks/bench_long_recording.py

Cutting is all that ingest does with a long recording but for hashes and levels: read, find segments, encode them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from audioml.audio.stream import AudioFile, cut_recording
from audioml.plugins import load_plugin

SHORT_S, LONG_S = 600, 3 * 3600
RECORDINGS = [
    ("16 kHz mono Ogg", 16_000, 1, "OGG", "VORBIS"),
    ("44.1 kHz stereo FLAC", 44_100, 2, "FLAC", "PCM_16"),
]
CUTS = [("none", {}), ("fixed", {"length_s": 10.0}), ("activity", {})]
"""`none` reads and does nothing: what Python, its imports and the decoder need."""
MAX_GIB = 1.2


def make_recording(path: Path, duration_s: int, sample_rate: int, channels: int, container: str, subtype: str) -> None:
    """Write noise with a loud second in every four, a minute at a time."""
    generator = np.random.default_rng(0)
    minute = generator.standard_normal((60 * sample_rate, channels)).astype(np.float32) * np.float32(0.001)
    loud = np.arange(len(minute)) // sample_rate % 4 == 1
    minute[loud] *= 100
    with soundfile.SoundFile(path, "w", sample_rate, channels, format=container, subtype=subtype) as file:
        for _ in range(duration_s // 60):
            file.write(minute)


def cut(path: Path, name: str, params: dict[str, float]) -> dict[str, float]:
    """Cut a recording in this process; return seconds, segments and the peak memory of the process."""
    start = time.perf_counter()
    n_segments = n_bytes = 0
    if name == "none":
        with AudioFile(path) as file:
            for _ in file.blocks(5.0):
                pass
    else:
        plugin = load_plugin("segment", name)
        for segment in cut_recording(path, partial(plugin.make, plugin.Params(**params))):
            n_segments += 1
            n_bytes += len(segment.data)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "segments": n_segments, "bytes": n_bytes, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """Return the peak resident memory of this process."""
    # ru_maxrss would not do: for a child it starts at its parent's peak.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(path: Path, name: str, params: dict[str, float]) -> dict[str, float]:
    """Run `cut` in a fresh process."""
    command = [sys.executable, __file__, str(path), name, json.dumps(params)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print one row for each recording and way to cut it."""
    print("| recording | cut | segments in 3 h | peak 10 min, MiB | peak 3 h, MiB | ratio | times real time, 3 h |")
    print("|---" * 7 + "|")
    highest_mib = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for title, *layout in RECORDINGS:
            short, long = Path(folder) / "short", Path(folder) / "long"
            make_recording(short, SHORT_S, *layout)
            make_recording(long, LONG_S, *layout)
            for name, params in CUTS:
                before, after = measure(short, name, params), measure(long, name, params)
                highest_mib = max(highest_mib, after["peak_mib"])
                print(
                    f"| {title} | {name} | {after['segments']:,.0f} | {before['peak_mib']:.0f} "
                    f"| {after['peak_mib']:.0f} | {after['peak_mib'] / before['peak_mib']:.3f} "
                    f"| {LONG_S / after['seconds']:,.0f} |",
                    flush=True,
                )
    print(f"\nHighest peak: {highest_mib / 1024:.2f} GiB; at most {MAX_GIB} GiB is allowed.")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(cut(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))))
    else:
        main()
