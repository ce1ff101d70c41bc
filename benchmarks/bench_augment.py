"""What augmentations cost: clips a second of each on one thread, for a batch of 64 clips of 1 s at 16 kHz, all changed.

    python benchmarks/bench_augment.py [--rounds 9] [--recordings fsdd/recordings]

Seconds are of CPU time, which other programs disturb less; the best of all rounds counts. With a folder of recordings,
also what one epoch of batches of these clips takes, with stored features and with features that are made anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _workspaces import DATA

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.features import logmel
from audioml.params import Params, Section, parse_params, parse_section
from audioml.plugins import changes_audio, load_plugin, plugin_names
from audioml.store.features import INDEX, FeatureSet, open_features
from audioml.store.files import write_json
from audioml.store.shards import ShardWriter
from audioml.training.augmentation import Augmenter
from audioml.training.data import Windows
from audioml.training.loader import WindowLoader
from audioml.training.order import ShuffledOrder

BATCH, RATE, LABELS = 64, 16000, 10
EXTRA = {"noise (babble)": ("noise", {"kinds": ["babble"]})}
NEEDED = {"background": {"folder": str(DATA / "esc10")}}
"""Keys without a default."""
EPOCHS = {
    "one gain": [{"name": "gain"}],
    "speed, room, filter_response, noise": [{"name": n} for n in ("speed", "room", "filter_response", "noise")],
    "pitch": [{"name": "pitch"}],
}
FSDD = {"name": "logmel", "sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80, "keep_audio": True}


def measure_ms(run: Callable[[], object], rounds: int) -> float:
    """Return the fewest milliseconds of CPU time of one call, after one that may fill caches."""
    run()
    best = np.inf
    for _ in range(rounds):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return 1000 * best


def measure_augmentations(rounds: int) -> dict[str, float]:
    """Return milliseconds a batch by name; `features` is what making features of the batch takes."""
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(BATCH, RATE, generator=generator)
    targets = torch.eye(LABELS)[torch.arange(BATCH) % LABELS]
    features = torch.from_numpy(logmel.extract(logmel.Params(), audio.numpy()))
    measured = {}
    for title, (name, keys) in {
        **{name: (name, NEEDED.get(name, {})) for name in plugin_names("augment")},
        **EXTRA,
    }.items():
        plugin = load_plugin("augment", name)
        share = {"share": 1} if "share" in plugin.Params.model_fields else {}
        section: Section = parse_section(plugin.Params, {**share, **keys}, name)
        if changes_audio(name):
            arguments = (section, audio, targets, generator, RATE)
            measured[title] = measure_ms(lambda p=plugin, a=arguments: p.apply_audio(*a), rounds)
        else:
            measured[title] = measure_ms(lambda p=plugin, s=section: p.apply(s, features, targets, generator), rounds)
    measured["features"] = measure_ms(lambda: logmel.extract(logmel.Params(), audio.numpy()), rounds)
    return measured


def write_recordings(recordings: Path, folder: Path, params: logmel.Params) -> FeatureSet:
    """Write features and audio of all recordings into one shard, and open it."""
    with ShardWriter(folder / "0.arrow", params.n_mels, keep_audio=True) as writer:
        for path in sorted(recordings.glob("*.wav")):
            windows, offsets_s = prepare_audio(*decode(path.read_bytes()), params, ())
            writer.add([path.stem], offsets_s, logmel.extract(params, windows), list(windows))
    entry = {"file": "0.arrow", "sha256": writer.sha256, "rows": writer.rows}
    write_json(folder / INDEX, {"shape": logmel.feature_shape(params), "shards": [entry]})
    return open_features(folder)


def make_params(augment: list[dict[str, object]]) -> Params:
    """Return params for digits at 8 kHz."""
    return parse_params(
        {
            "name": "digits",
            "data": {"layout": "folder"},
            "features": FSDD,
            "task": {"name": "classification"},
            "model": {"name": "rescnn"},
            "augment": augment,
        }
    )


def run_epoch(windows: Windows, params: Params) -> None:
    """Read and augment every batch of an epoch once."""
    augmenter = Augmenter(params)
    order = ShuffledOrder(windows.frames, windows.shards, windows.window_bytes, BATCH, seed=0)
    for step, batch in enumerate(WindowLoader(windows, order, with_audio=augmenter.needs_audio)):
        augmenter(batch, torch.Generator().manual_seed(step))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--recordings", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| augmentation | ms a batch | clips a second |\n|---|---|---|")
    for name, batch_ms in measure_augmentations(options.rounds).items():
        print(f"| {name} | {batch_ms:.1f} | {1000 * BATCH / batch_ms:,.0f} |")
    if options.recordings is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        features = write_recordings(options.recordings, Path(folder), make_params([]).plugin_section("features"))
        n = len(features)
        targets = np.eye(LABELS, dtype=np.float32)[np.arange(n) % LABELS]
        windows = Windows(features, np.arange(n), np.arange(n), targets, np.arange(n))
        stored_ms = measure_ms(lambda: run_epoch(windows, make_params([])), 3)
        print(f"\n| epoch of {n} clips of 1 s at 8 kHz, the model aside | s |\n|---|---|")
        print(f"| stored features | {stored_ms / 1000:.2f} |")
        for title, augment in EPOCHS.items():
            epoch_ms = measure_ms(lambda a=augment: run_epoch(windows, make_params(a)), 3)
            print(f"| {title} | {epoch_ms / 1000:.2f} |")


if __name__ == "__main__":
    main()
