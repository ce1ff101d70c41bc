"""Samples a second of a training (Lightning, loader, shards on disk) beside a bare PyTorch loop over tensors in memory.

    python benchmarks/bench_training.py [--windows 2560] [--rounds 5]

Both train the default model on made-up windows of the size of one-second clips (40 bins × 101 frames), 64 a batch, with
AdamW, the same schedule and the same gradient clipping, without augmentation and validation. Rounds of both are
interleaved, an epoch each, and the best of each counts; threads are torch's own (OMP_NUM_THREADS). On a machine that is
busy with other work, the ratio of the process's CPU time says more than that of the wall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_loader import BATCH_SIZE, BINS, FRAMES, LABELS, make_order, make_windows, write_features
from pytorch_lightning.callbacks import Callback

from audioml.params import Params, parse_params
from audioml.plugins import load_plugin
from audioml.training.data import Windows
from audioml.training.loader import WindowLoader
from audioml.training.module import TrainingModule, make_optimizer
from audioml.training.network import Network, build_network
from audioml.training.quiet import quiet
from audioml.training.trainer import LIGHTNING, MAX_GRADIENT_NORM, NOISE, make_trainer

TARGETS = {"labels": [str(i) for i in range(LABELS)]}


def make_params(rounds: int, accelerator: str) -> Params:
    """Return params of the default model."""
    return parse_params(
        {
            "name": "bench",
            "data": {"layout": "folder"},
            "features": {"name": "logmel"},
            "task": {"name": "classification"},
            "model": {"name": "rescnn"},
            "training": {"max_epochs": rounds, "batch_size": BATCH_SIZE, "accelerator": accelerator, "devices": 1},
        }
    )


class Turns(Callback):  # type: ignore[misc]
    """Times Lightning's epochs, and lets the bare loop have an epoch after each."""

    def __init__(self, bare: Iterator[tuple[float, float]], wait_s: list[float]) -> None:
        self.bare, self.wait_s = bare, wait_s
        self.seconds: dict[str, list[float]] = {"waited": []}
        self._started = (0.0, 0.0)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.wait_s.clear()
        self._started = now()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop it after the last batch; whatever Lightning does between epochs is rarer than in any real training."""
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds["waited"].append(sum(self.wait_s))
            for name, pair in (("lightning", since(self._started)), ("bare", next(self.bare))):
                for clock, seconds in zip(("wall", "cpu"), pair, strict=True):
                    self.seconds.setdefault(f"{name} {clock}", []).append(seconds)


class TimedLoader(WindowLoader):
    """Notes how long each batch was waited for."""

    wait_s: list[float]

    def __iter__(self) -> Iterator[Any]:
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.wait_s.append(time.perf_counter() - start)
            if batch is None:
                return
            yield batch


def now() -> tuple[float, float]:
    """Return the wall's time and the process's CPU time when all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds by both clocks."""
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def run_bare(network: Network, windows: Windows, params: Params, device: str) -> Iterator[tuple[float, float]]:
    """Train as a short script would, all windows in the device's memory; yield the seconds of each epoch."""
    network = network.to(device).train()
    features = torch.from_numpy(windows.features.take(windows.rows)).to(device)
    targets = torch.from_numpy(windows.targets).to(device)
    task, task_params = load_plugin("tasks", "classification"), params.plugin_section("tasks")
    n_batches = -(-len(features) // BATCH_SIZE)
    optimizer = make_optimizer(network, params.training, params.training.max_epochs, n_batches, 10**6)
    while True:
        start = now()
        for rows in torch.randperm(len(features), device=device).split(BATCH_SIZE):
            loss = task.loss(task_params, network(features[rows]), targets[rows])
            optimizer["optimizer"].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
            optimizer["optimizer"].step()
            optimizer["lr_scheduler"]["scheduler"].step()
        yield since(start)


def main() -> None:
    """Print samples a second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    params = make_params(options.rounds, "gpu" if gpu else "cpu")
    shape = (BINS, FRAMES)
    with tempfile.TemporaryDirectory() as folder, quiet(LIGHTNING, NOISE):
        windows = make_windows(write_features(Path(folder), np.full(options.windows, FRAMES)))
        loader = TimedLoader(windows, make_order(windows), pin_memory=gpu)
        loader.wait_s = []
        bare = run_bare(build_network(params, TARGETS, shape), windows, params, "cuda" if gpu else "cpu")
        turns = Turns(bare, loader.wait_s)
        trainer = make_trainer(params.training, Path(folder), [turns], options.rounds, all_used=True)
        module = TrainingModule(
            build_network(params, TARGETS, shape),
            load_plugin("tasks", "classification"),
            params.plugin_section("tasks"),
            TARGETS,
            [],
            params.training,
            windows,
            len(loader),
            seed=0,
        )
        trainer.fit(module, loader)
    seconds = {name: min(values) for name, values in turns.seconds.items()}
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.windows} windows of {BINS} × {FRAMES}, {BATCH_SIZE} a batch, rescnn, {device}")
    print(f"bare PyTorch loop, tensors in memory:  {options.windows / seconds['bare wall']:8.0f} samples/s")
    print(f"audioml's training, shards on disk:    {options.windows / seconds['lightning wall']:8.0f} samples/s")
    print(f"ratio:                                 {seconds['bare wall'] / seconds['lightning wall']:8.2f}")
    print(f"ratio by CPU time:                     {seconds['bare cpu'] / seconds['lightning cpu']:8.2f}")
    print(f"share of the time that waits for data: {seconds['waited'] / seconds['lightning wall']:8.1%}")
    if not gpu:
        print("GPU: none here, so nothing was measured on one")


if __name__ == "__main__":
    main()
