"""Print the tables of docs/scaling.md: `python benchmarks/scaling.py [--hours 1e6] [--clip-s 10] [--cores 1000]`.

Every rate is one that docs/benchmarks.md has, with the command that measured it; prices are assumptions to replace.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

HOUR_S = 3600.0
YEAR_MONTHS = 12


@dataclass(frozen=True)
class Measured:
    """What one core, or one row, was measured to take."""

    cut_real_time: float = 618.0
    """Times real time at which ingest cuts 16 kHz mono Ogg into windows (bench_long_recording.py)."""
    extract_real_time: float = 20_000 / 6.19
    """Log-mel of clips of 1 s of 16-bit WAV at 16 kHz, on one core (bench_incremental.py)."""
    extract_vorbis_real_time: float = 5.0 / 8_320e-6
    """Log-mel of 5 s of 44.1 kHz Ogg Vorbis, resampled, on one core (bench_extraction.py)."""
    rows: float = 1e6
    """Rows of the manifest that the next figures are for (bench_million_clips.py)."""
    validate_s: float = 8.9
    validate_mib: float = 1139.0
    plan_s: float = 3.1
    split_s: float = 13.7
    split_mib: float = 938.0
    step_windows: float = 64.0
    """Windows of 0.91 s in a training step, and the seconds it takes on two cores (bench_models.py)."""
    step_s: float = 0.035
    window_s: float = 0.91


@dataclass(frozen=True)
class Assumed:
    """What was not measured here: sizes that follow from formats, and prices."""

    pcm_bytes_per_s: float = 16_000 * 2.0
    """16-bit mono at 16 kHz; FLAC takes about half of it, of speech."""
    flac_share: float = 0.5
    feature_bytes_per_s: float = 40 * 4 * 100.0
    """40 mel bins of float32, a hop of 10 ms."""
    core_hour_usd: float = 0.04
    gb_month_usd: float = 0.023
    shard_s: float = 1800.0
    """`ingest.shard_s`, by default."""
    batch_items: int = 1000
    """Mapped Airflow tasks of one step (`MAX_MAPPED`)."""


def rows(hours: float, clip_s: float, cores: int) -> list[tuple[str, str, str]]:
    """Return what, how much, and from what, for so many hours of audio in clips of this length on so many cores."""
    m, a = Measured(), Assumed()
    audio_s = hours * HOUR_S
    clips = audio_s / clip_s
    items = audio_s / a.shard_s
    cut_h, fast_h = hours / m.cut_real_time, hours / m.extract_real_time
    slow_h, epoch_h = hours / m.extract_vorbis_real_time, hours / (m.step_windows * m.window_s / m.step_s)
    times = clips / m.rows
    pcm, features = audio_s * a.pcm_bytes_per_s, audio_s * a.feature_bytes_per_s
    packed = pcm * a.flac_share
    compute_usd = (cut_h + slow_h) * a.core_hour_usd
    return [
        ("clips", f"{clips:,.0f}", f"clips of {clip_s:g} s"),
        ("packed shards, which are the items of featurize", f"{items:,.0f}", f"`ingest.shard_s` {a.shard_s:g}"),
        ("items in one mapped Airflow task", f"{items / a.batch_items:,.0f}", f"at most {a.batch_items} a step"),
        ("ingest, core-hours", f"{cut_h:,.0f}", f"{m.cut_real_time:g} × real time"),
        ("featurize, core-hours, WAV at 16 kHz", f"{fast_h:,.0f}", f"{m.extract_real_time:,.0f} × real time"),
        ("featurize, core-hours, 44.1 kHz Vorbis", f"{slow_h:,.0f}", f"{m.extract_vorbis_real_time:.0f} × real time"),
        (f"both on {cores:,} cores, hours", f"{(cut_h + slow_h) / cores:,.1f}", "if it spreads evenly"),
        ("packed audio, TB", f"{packed / 1e12:,.0f}", f"half of 16-bit PCM at 16 kHz ({pcm / 1e12:,.0f})"),
        ("features, TB", f"{features / 1e12:,.0f}", "40 bins of float32, 100 frames a second"),
        ("validate, hours and GiB in one process", _one_process(m.validate_s, m.validate_mib, times), "by rows"),
        ("split, hours and GiB in one process", _one_process(m.split_s, m.split_mib, times), "by rows"),
        ("plan of featurize, hours", f"{m.plan_s * times / HOUR_S:,.1f}", "by rows"),
        ("an epoch of the default model on two cores, hours", f"{epoch_h:,.0f}", f"{hours / epoch_h:,.0f} × real time"),
        ("ingest and featurize once, USD", f"{compute_usd:,.0f}", f"{a.core_hour_usd:g} a core-hour (assumed)"),
        (
            "audio and features kept, USD a year",
            f"{(packed + features) / 1e9 * a.gb_month_usd * YEAR_MONTHS:,.0f}",
            f"{a.gb_month_usd:g} a GB and month (assumed)",
        ),
    ]


def _one_process(seconds: float, mib: float, times: float) -> str:
    return f"{seconds * times / HOUR_S:,.1f} and {mib * times / 1024:,.0f}"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--clip-s", type=float, default=10.0)
    parser.add_argument("--cores", type=int, default=1000)
    given = parser.parse_args()
    print(f"| {given.hours:,.0f} hours | | from |\n|---|---|---|")
    for row in rows(given.hours, given.clip_s, given.cores):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
