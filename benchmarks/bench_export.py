"""The default model of FSDD in float32, in 8 bits and pruned: size, time of an answer, accuracy, in one run.

    python benchmarks/bench_export.py [WORKSPACE]

Without a workspace one is made and trained in a temporary folder. Recordings are looked for in AUDIOML_TEST_DATA
(default: ../shared/data beside the repository).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from _measure import interleave
from _workspaces import JOBS, change_params, read_metrics, run_audioml

from audioml.evaluation.variants import read_variants
from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.pipeline.judging import read_audio
from audioml.store.files import read_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

STEPS = ("ingest", "validate", "split", "featurize", "train", "evaluate")
EXPORT = {"int8": True, "prune": 0.3, "max_loss": 1.0}
"""Nothing is refused, so that all can be measured."""
CLIPS, CALLS, WARM_UP, ROUNDS = 10, 20, 50, 200


def make_workspace(workspace: Path) -> None:
    """Train the default model and its variants."""
    run_audioml("init", str(workspace), *JOBS["digits"], cwd=workspace.parent)
    change_params(workspace, {f"export.{key}": value for key, value in EXPORT.items()})
    for step in STEPS:
        run_audioml("run", step, cwd=workspace)


def time_us(functions: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """Return the best microseconds of a call, of rounds in which each function makes `calls`: the machine is shared."""
    for function in functions.values():
        for _ in range(-(-WARM_UP // calls)):
            function()
    seconds = interleave(functions, ROUNDS)
    return {name: 1e6 * min(times) / calls for name, times in seconds.items()}


def report(workspace: Path) -> None:
    """Print one row a variant."""
    ctx = Context.load(workspace)
    folder = workspace / "models" / "package" / "artifacts"
    variants = [v for v in read_variants(read_json(workspace / "models" / "run.json")) if v.accepted]
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    test_clips = manifest[manifest["clip_id"].isin(splits.loc[splits["split"] == "test", "clip_id"])]
    test_audio = [audio for _, audio in read_audio(ctx, test_clips)]
    clips = test_audio[:: len(test_audio) // CLIPS]
    predictors = {v.name: Predictor.load(folder, network=v.network) for v in variants}
    window = predictors["float32"].extract(clips[0])[:1]
    networks = {
        name: lambda p=predictor: [p.run_features(window) for _ in range(CALLS)]
        for name, predictor in predictors.items()
    }
    answers = {
        name: lambda p=predictor: [p.predict([clip]) for clip in clips] for name, predictor in predictors.items()
    }
    network_us, answer_us = time_us(networks, CALLS), time_us(answers, len(clips))
    test = read_metrics(workspace)["variants"]
    print("| variant | bytes | of float32 | network, µs | of float32 | from audio, µs | of float32 | ", end="")
    print("multiply-adds | test accuracy | points lost |\n" + "|---" * 10 + "|")
    base = variants[0]
    for v in variants:
        times = [f"{us[v.name]:.0f} | {us[v.name] / us[base.name]:.2f}" for us in (network_us, answer_us)]
        lost = 100 * (test[base.name]["accuracy"] - test[v.name]["accuracy"])
        figures = [v.name, f"{v.size_bytes:,} | {v.size_bytes / base.size_bytes:.2f}", *times]
        figures += [f"{test[v.name]['multiply_adds']:,}", f"{test[v.name]['accuracy']:.4f}", f"{lost:.2f}"]
        print("| " + " | ".join(figures) + " |")
    labels = {name: np.array([a["label"] for a in p.predict(test_audio)]) for name, p in predictors.items()}
    for name in list(labels)[1:]:
        n_equal = int((labels[name] == labels[base.name]).sum())
        print(f"{name}: {n_equal} of {len(test_audio)} test clips are answered as by float32")


if __name__ == "__main__":
    if sys.argv[1:]:
        report(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_workspace(Path(folder) / "digits")
            report(Path(folder) / "digits")
