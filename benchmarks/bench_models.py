"""One training step (forward, backward, AdamW) of every model with such steps, and its ratio to the default model.

python benchmarks/bench_models.py
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from audioml.plugins import load_plugin, plugin_names

DEFAULT = "rescnn"
BATCH, BINS, FRAMES, LABELS = 64, 40, 91, 10
SAMPLES = 16000
"""Of the same clips, for the models that take them."""
WAVEFORM = {"rawcnn"}
STEPS, WARM_UP = 15, 3


def time_step_ms(name: str) -> tuple[float, int]:
    """Return the median milliseconds of a training step, and the parameters with a linear head."""
    torch.manual_seed(0)
    plugin = load_plugin("models", name)
    bins, frames = shape = (1, SAMPLES) if name in WAVEFORM else (BINS, FRAMES)
    body = plugin.build(plugin.Params(), shape)
    head = nn.Linear(body.width, LABELS)
    parameters = [p for p in [*body.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    features, labels = torch.randn(BATCH, bins, frames), torch.randint(0, LABELS, (BATCH,))
    seconds = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(head(body(features).mean(dim=-1)), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[WARM_UP:]), sum(p.numel() for p in parameters)


if __name__ == "__main__":
    trained = [name for name in plugin_names("models") if hasattr(load_plugin("models", name), "build")]
    measured = {name: time_step_ms(name) for name in trained}
    print(f"batch of {BATCH} × {BINS} bins × {FRAMES} frames, {torch.get_num_threads()} threads")
    print("| model | parameters | ms a step | ratio to the default |\n|---|---|---|---|")
    for name, (step_ms, n_parameters) in measured.items():
        print(f"| {name} | {n_parameters:,} | {step_ms:.0f} | {step_ms / measured[DEFAULT][0]:.2f} |")
