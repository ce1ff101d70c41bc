"""Fits on some processes, as Lightning starts them; notes which windows each of them read.

python _shared_fit.py STATE DEVICES BATCH_SIZE TRAINING...

TRAINING are params, such as average=ema. Every model is pretrained for an epoch first.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from audioml.models import rescnn
from audioml.training.fit import fit
from audioml.training.tracker import MemoryTracker
from tests.training._small import small_params
from tests.training._synthetic import MemoryFeatures, make_data


class PretrainedParams(rescnn.Params):
    pretrain_epochs: int = 1


class NotingFeatures(MemoryFeatures):
    noted: list[int]

    def take(self, indices: Any, fill: Any = 0.0, out: np.ndarray | None = None) -> np.ndarray:
        if out is not None:
            self.noted += np.asarray(indices).tolist()
        return super().take(indices, fill, out)


def main(state: Path, devices: int, batch_size: int, training: dict[str, Any]) -> None:
    rescnn.Params = PretrainedParams  # type: ignore[misc]
    rescnn.ResidualNetwork.pretraining_loss = lambda self, x: self.layers[0][0](x.unsqueeze(1)).square().mean()  # type: ignore[attr-defined]
    features, manifest, splits = make_data(60)
    features.__class__ = NotingFeatures
    features.noted = []
    params = small_params(devices=devices, batch_size=batch_size, **training)
    fit(params, features, manifest, splits, state, MemoryTracker())
    (state / f"rank{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(features.noted))


if __name__ == "__main__":
    options = dict(option.split("=") for option in sys.argv[4:])
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), {k: yaml.safe_load(v) for k, v in options.items()})
