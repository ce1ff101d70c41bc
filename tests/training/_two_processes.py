"""Fits on two processes, as Lightning starts them; notes which windows each of them read, and keeps each checkpoint.

python _two_processes.py STATE
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _synthetic import MemoryFeatures, make_data, make_params

from audioml.training.checkpoints import LAST, AtomicCheckpointIO
from audioml.training.fit import fit
from audioml.training.tracker import MemoryTracker

N_CLIPS, FRAMES, EPOCHS = 61, (8, 30, 14, 9), 2


class NotingFeatures(MemoryFeatures):
    noted: list[list[int]]

    def take(self, indices: Any, fill: Any = 0.0, out: np.ndarray | None = None) -> np.ndarray:
        if out is not None:
            self.noted.append(np.asarray(indices).tolist())
        return super().take(indices, fill, out)


def main(state: Path) -> None:
    save = AtomicCheckpointIO.save_checkpoint

    def save_and_keep(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str, **options: Any) -> None:
        save(self, checkpoint, path, **options)
        if Path(path).name == LAST:
            shutil.copyfile(path, state / f"step{checkpoint['global_step']}.ckpt")

    AtomicCheckpointIO.save_checkpoint = save_and_keep
    features, manifest, splits = make_data(N_CLIPS, frames=FRAMES)
    features.__class__ = NotingFeatures
    features.noted = []
    params = make_params({"length": "whole"}, devices=2, max_epochs=EPOCHS, batch_size=4, checkpoint_every_steps=1)
    fit(params, features, manifest, splits, state, MemoryTracker())
    (state / f"rank{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(features.noted))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
