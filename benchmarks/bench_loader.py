"""Batches a second of the training loader against indexing one tensor in memory, in the same order.

    python benchmarks/bench_loader.py [--windows 20000] [--rounds 25]

The windows are made up: log-mel of one-second clips, 40 bins × 101 frames, in 16 shards on disk, 64 a batch. Whole
clips are of 0.3 to 3 s, evenly spread. Rounds of both are interleaved, and the best of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from audioml.store.features import INDEX, FeatureSet, open_features
from audioml.store.files import write_json
from audioml.store.shards import ShardWriter
from audioml.training.data import Windows
from audioml.training.loader import WindowLoader
from audioml.training.order import Indices, ShuffledOrder

BINS, FRAMES, SHARDS, BATCH_SIZE, LABELS = 40, 101, 16, 64, 10
SHORTEST, LONGEST = 31, 301


def write_features(folder: Path, frames: np.ndarray) -> FeatureSet:
    """Write windows of these lengths into shards, and open them."""
    generator = np.random.default_rng(0)
    entries = []
    for number, part in enumerate(np.array_split(frames, SHARDS)):
        windows = [generator.standard_normal((BINS, int(n)), np.float32) for n in part]
        with ShardWriter(folder / f"{number}.arrow", BINS) as writer:
            writer.add([f"{number}-{i}" for i in range(len(part))], np.zeros(len(part)), windows)
        entries.append({"file": f"{number}.arrow", "sha256": writer.sha256, "rows": writer.rows})
    lengths = np.unique(frames)
    shape = [BINS, int(lengths[0]) if len(lengths) == 1 else None]
    write_json(folder / INDEX, {"shape": shape, "shards": entries})
    return open_features(folder, verify=True)


def make_windows(features: FeatureSet) -> Windows:
    """Return all windows with targets that are made up."""
    n = len(features)
    targets = np.eye(LABELS, dtype=np.float32)[np.arange(n) % LABELS]
    return Windows(features, np.arange(n), np.arange(n), targets, np.arange(n) % LABELS)


def make_order(windows: Windows) -> ShuffledOrder:
    """Return the order in which one process trains."""
    return ShuffledOrder(windows.frames, windows.shards, windows.window_bytes, BATCH_SIZE, seed=0)


def index_memory(features: torch.Tensor, targets: torch.Tensor, batches: list[Indices]) -> Iterable[torch.Tensor]:
    """Yield what the loader does, from tensors in memory."""
    for positions in batches:
        rows = torch.from_numpy(positions)
        yield features[rows]
        targets[rows]


def measure_s(run: Callable[[], Iterable[object]]) -> float:
    """Return the seconds that it takes to go through all batches."""
    start = time.perf_counter()
    for _ in run():
        pass
    return time.perf_counter() - start


def share_of_padding(frames: np.ndarray, batches: Iterable[Indices]) -> float:
    """Return which share of the frames in these batches is padding."""
    return 1 - float(frames.sum() / sum(frames[batch].max() * len(batch) for batch in batches))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        windows = make_windows(write_features(Path(folder, "even"), np.full(options.windows, FRAMES)))
        order = make_order(windows)
        loader, batches = WindowLoader(windows, order), list(order.batches(0))
        features = torch.from_numpy(windows.features.take(np.arange(options.windows)))
        targets = torch.from_numpy(windows.targets)
        lengths = generator.integers(SHORTEST, LONGEST + 1, options.windows // 2)
        whole = make_windows(write_features(Path(folder, "whole"), lengths))
        whole_order = make_order(whole)
        whole_loader = WindowLoader(whole, whole_order, np.full(BINS, -100, np.float32))
        runs: dict[str, Callable[[], Iterable[object]]] = {
            "memory": lambda: index_memory(features, targets, batches),
            "loader": lambda: loader,
            "whole": lambda: whole_loader,
        }
        best = dict.fromkeys(runs, np.inf)
        for _ in range(options.rounds):
            for name, run in runs.items():
                best[name] = min(best[name], measure_s(run))
    print(f"indexing one tensor in memory: {len(batches) / best['memory']:8.0f} batches/s")
    print(f"loader, shards on disk:        {len(batches) / best['loader']:8.0f} batches/s")
    print(f"ratio:                         {best['memory'] / best['loader']:8.2f}")
    print(f"loader, whole clips:           {len(whole_order) / best['whole']:8.0f} batches/s")
    drawn = np.array_split(generator.permutation(len(lengths)), len(whole_order))
    print(f"padding, lengths in buckets:   {share_of_padding(lengths, whole_order.batches(0)):8.1%}")
    print(f"padding, lengths as drawn:     {share_of_padding(lengths, drawn):8.1%}")


if __name__ == "__main__":
    main()
