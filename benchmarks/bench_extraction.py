"""Packed clips to a feature shard on disk, one process, against the bare kernels, a librosa loop and lhotse.

python benchmarks/bench_extraction.py [DATA]

DATA holds `fsdd/recordings` and `esc10` (default: $AUDIOML_TEST_DATA, or ../shared/data). audioml and the kernels run
in turn, round after round, on the same clips, their bytes in the page cache; then, in memory that is theirs to fill,
librosa and lhotse.

- audioml: `iter_clips`, `Extractor.extract_blocks`, `ShardWriter`; checksum, flush to disk and rename included.
- kernels: what no program that uses these libraries can go below: `soundfile.read` of every clip, `soxr.resample`,
  `scipy.fft.rfft` in float32 and a float32 matrix product with the mel filters for all frames, a block at a time that
  stays in cache, and a plain write of the features' bytes. "Frames with sound" leaves out the frames that hold
  nothing but padding, as audioml does; "and flush" counts the wait for the disk, which audioml's time has in it.
  On a busy machine, where long runs are interrupted more often than short ones, compare the CPU's time.
- librosa: one file after the other, `load`, `melspectrogram`, `power_to_db`, `numpy.save`.
- lhotse: `compute_and_store_features` with `Fbank`, one job, a .npy a clip, and no padding, so fewer frames.
"""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import soundfile
import soxr
from threadpoolctl import threadpool_limits

from audioml.clean import remove_dc
from audioml.clean._chain import load_chain
from audioml.features import logmel
from audioml.inference.extraction import Extractor
from audioml.store.clips import Clip, iter_clips, write_clips
from audioml.store.shards import ShardWriter

CHAIN = load_chain([("remove_dc", remove_dc.Params())])
"""The default."""
ROUNDS = 9
RIVAL_ROUNDS = 3
ESC10_CLIPS = 100
BLOCK_SAMPLES = 1 << 16
"""Of the bare transform: as fast as any here."""
CHUNK_BYTES = 8 << 20
"""Of the bare write."""


@dataclass(frozen=True)
class Corpus:
    """Recordings, and what is made of them."""

    name: str
    paths: Sequence[Path]
    params: logmel.Params
    rivals: bool
    """Whether librosa and lhotse run as well; they take a multiple of the time."""


def measure(corpus: Corpus, folder: Path) -> None:
    """Run all contenders in turn and print their times."""
    params = corpus.params
    data = [path.read_bytes() for path in corpus.paths]
    ids = [hashlib.sha256(item).hexdigest() for item in data]
    shard = folder / write_clips(folder, [Clip(i, p.name, d) for i, p, d in zip(ids, corpus.paths, data, strict=True)])
    windows = [Extractor("logmel", params, CHAIN).windows(item)[0] for item in data]
    n_frames = sum(len(w) * logmel.shape_of(params, w.shape[1])[1] for w in windows)
    n_sounding = sum(count_sounding_frames(params, window) for w in windows for window in w)
    decoded = [soundfile.read(io.BytesIO(item), dtype="float32") for item in data]
    seconds = sum(len(audio) / rate for audio, rate in decoded)

    runs: dict[str, Callable[[], None]] = {
        "audioml": lambda: run_audioml(params, shard, folder / "features.arrow"),
        "  decode": lambda: run_decode(data),
        "  resample": lambda: run_resample(decoded, params.sample_rate),
        "  transform": lambda: run_transform(params, n_frames),
        "  mel product": lambda: run_mel_product(params, n_frames),
        "  write": lambda: run_write(folder / "features.bin", 4 * params.n_mels * n_frames),
        "  flush to disk": lambda: run_flush(folder / "features.bin"),
    }
    measured = run_in_turn(runs, ROUNDS)
    parts = np.stack([measured[name] for name in runs if name.startswith(" ")])
    without_flush = parts[:-1].sum(axis=0)
    share = n_sounding / n_frames
    measured["kernels, all frames"] = without_flush
    measured["kernels, all frames, and flush"] = parts.sum(axis=0)
    measured["kernels, frames with sound"] = without_flush - (1 - share) * parts[2:4].sum(axis=0)
    if corpus.rivals:
        rivals = {"librosa": lambda: run_librosa(params, corpus.paths, folder / "npy")}
        if lhotse := prepare_lhotse(params, corpus.paths, folder / "lhotse"):
            rivals["lhotse"] = lhotse
        measured |= run_in_turn(rivals, RIVAL_ROUNDS)
    print_table(corpus, measured, len(data), seconds, share)


def run_in_turn(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Run all in turn, so many times after one to warm up; return `(rounds, 2)` seconds by the clock and of the CPU."""
    gc.collect()
    gc.freeze()
    times_s: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(1 + rounds):
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            run()
            times_s[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {name: np.array(times[1:]) for name, times in times_s.items()}


def print_table(
    corpus: Corpus, measured: dict[str, np.ndarray], n_clips: int, seconds: float, sounding_share: float
) -> None:
    """Print one row a contender."""
    print(
        f"\n{corpus.name}: {n_clips} clips, {seconds / 60:.1f} min, log-mel at {corpus.params.sample_rate} Hz, "
        f"{100 * sounding_share:.0f} % of frames with sound, {ROUNDS} rounds"
    )
    print("| | best, µs a clip | median | best of CPU | best, × real time | best over audioml's | same of CPU |")
    print("|---|---|---|---|---|---|---|")
    ours = measured["audioml"].min(axis=0)
    for name, times in measured.items():
        best, best_cpu = times.min(axis=0)
        us = 1e6 / n_clips
        ratios = "| |" if name.startswith(" ") else f"{best / ours[0]:.2f} | {best_cpu / ours[1]:.2f} |"
        print(
            f"| {name.strip()} | {us * best:.1f} | {us * np.median(times[:, 0]):.1f} | {us * best_cpu:.1f} | "
            f"{seconds / best:,.0f} | {ratios}"
        )


def run_audioml(params: logmel.Params, shard: Path, path: Path) -> None:
    """Make a feature shard of a packed shard."""
    with ShardWriter(path, params.n_mels) as writer:
        for block in Extractor("logmel", params, CHAIN).extract_blocks(iter_clips(shard)):
            writer.add(block.clip_ids, block.offsets_s, block.features)


def run_decode(data: Sequence[bytes]) -> None:
    """Decode each clip, and forget it."""
    for item in data:
        soundfile.read(io.BytesIO(item), dtype="float32")


def run_resample(decoded: Sequence[tuple[np.ndarray, int]], sample_rate: int) -> None:
    """Resample each clip that has another rate, by the quality that audioml uses."""
    for audio, rate in decoded:
        if rate != sample_rate:
            soxr.resample(audio, rate, sample_rate, quality="HQ")


def run_transform(params: logmel.Params, n_frames: int) -> None:
    """Transform so many frames, the same block again and again."""
    block = np.random.default_rng(0).standard_normal((BLOCK_SAMPLES // params.n_fft, params.n_fft), np.float32)
    for _ in range(-(-n_frames // len(block))):
        scipy.fft.rfft(block, axis=1)


def run_mel_product(params: logmel.Params, n_frames: int) -> None:
    """Multiply so many frames with the mel filters, the same block again and again."""
    filters = librosa.filters.mel(sr=params.sample_rate, n_fft=params.n_fft, n_mels=params.n_mels, fmin=params.fmin)
    power = np.random.default_rng(0).random((filters.shape[1], BLOCK_SAMPLES // params.n_fft), np.float32)
    mel = np.empty((params.n_mels, power.shape[1]), np.float32)
    for _ in range(-(-n_frames // power.shape[1])):
        np.matmul(filters, power, out=mel)


def run_write(path: Path, n_bytes: int) -> None:
    """Write so many bytes to a new file, without waiting for the disk."""
    chunk = np.ones(CHUNK_BYTES, np.uint8)
    with path.open("wb") as file:
        for start in range(0, n_bytes, CHUNK_BYTES):
            file.write(chunk[: n_bytes - start])


def run_flush(path: Path) -> None:
    """Wait until what was written is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def run_librosa(params: logmel.Params, paths: Sequence[Path], folder: Path) -> None:
    """Do what a script does: file by file, one .npy each."""
    folder.mkdir(exist_ok=True)
    n_samples = round(params.duration_s * params.sample_rate)
    for path in paths:
        audio, _ = librosa.load(path, sr=params.sample_rate)
        spare = max(0, len(audio) - n_samples) // 2
        audio = librosa.util.pad_center(audio[spare : spare + n_samples], size=n_samples)
        mel = librosa.feature.melspectrogram(
            y=audio,
            sr=params.sample_rate,
            n_fft=params.n_fft,
            win_length=params.win_length,
            hop_length=params.hop_length,
            n_mels=params.n_mels,
            fmin=params.fmin,
            pad_mode="constant",
        )
        np.save(folder / f"{path.stem}.npy", librosa.power_to_db(mel, top_db=None))


def prepare_lhotse(params: logmel.Params, paths: Sequence[Path], folder: Path) -> Callable[[], None] | None:
    """Return a run of lhotse over the same files; None, with a note, where it is not installed."""
    try:
        import torch
        from lhotse import CutSet, Fbank, FbankConfig, NumpyFilesWriter, Recording
    except ImportError:
        print("lhotse is not installed, so it does not run: pip install lhotse")
        return None
    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    # Manifests are made before: reading headers is not what is measured.
    cuts = CutSet.from_cuts(Recording.from_file(path).to_cut() for path in paths).to_eager()
    extractor = Fbank(
        FbankConfig(
            sampling_rate=params.sample_rate,
            frame_length=params.win_length / params.sample_rate,
            frame_shift=params.hop_length / params.sample_rate,
            num_filters=params.n_mels,
            low_freq=params.fmin,
            high_freq=0.0,
        )
    )

    def run() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        cuts.compute_and_store_features(
            extractor, folder, num_jobs=1, storage_type=NumpyFilesWriter, progress_bar=False
        )

    return run


def count_sounding_frames(params: logmel.Params, window: np.ndarray) -> int:
    """Return the frames of a window with at least one sample that is not zero."""
    padded = np.pad(window != 0, params.win_length)
    frames = np.lib.stride_tricks.sliding_window_view(padded, params.win_length)
    first = params.win_length // 2
    return int(frames[first :: params.hop_length][: logmel.shape_of(params, len(window))[1]].any(axis=1).sum())


def main() -> None:
    """Measure both corpora."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AUDIOML_TEST_DATA", "../shared/data"))
    esc10 = sorted(data.glob("esc10/*/*.ogg"))
    corpora = [
        Corpus(
            "FSDD",
            sorted(data.glob("fsdd/recordings/*.wav")),
            logmel.Params(sample_rate=8000, n_fft=256, win_length=200, hop_length=80),
            rivals=True,
        ),
        Corpus(
            "ESC-10",
            esc10[:: max(1, len(esc10) // ESC10_CLIPS)],
            logmel.Params(sample_rate=16000, duration_s=5.0),
            rivals=False,
        ),
    ]
    for corpus in corpora:
        if not corpus.paths:
            print(f"{corpus.name} is not in {data}: skipped")
            continue
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
            measure(corpus, Path(folder))


if __name__ == "__main__":
    main()
