"""Two processes learn what one learns: the same windows at each step, and gradients that are their mean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from audioml.models import rescnn
from audioml.training.checkpoints import BEST, LAST, read_history
from audioml.training.pretraining import read_pretraining

from . import _shared_fit
from .test_fit import weights

pytestmark = pytest.mark.slow
TOLERANCE = 1e-3
"""Relative, of losses and weights. Processes add up in another order; statistics of batches, which each process has of
its own, and dropout and augmentation, which each draws for itself, are left out here."""


TRAINING = {"freeze": "batchnorm", "average": "ema", "sampling": "balanced"}


def read_windows(state: Path) -> Counter[int]:
    """Return how often each window was read, by all processes together."""
    return Counter(row for notes in state.glob("rank*.json") for row in json.loads(notes.read_text()))


def test_two_processes_give_the_result_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # The second process has the same command.
    command = [sys.executable, _shared_fit.__file__, str(two), "2", "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = [f"{key}={value}" for key, value in TRAINING.items()]
    subprocess.run([*command, *options], check=True, capture_output=True, env=environment)
    monkeypatch.setattr(rescnn, "Params", rescnn.Params)
    monkeypatch.setattr(rescnn.ResidualNetwork, "pretraining_loss", None, raising=False)
    _shared_fit.main(one, 1, 8, TRAINING)
    assert read_windows(one) == read_windows(two)
    # Once in pretraining, twice in two epochs, of as many clips of each label; validation clips in the latter two.
    assert set(read_windows(two).values()) == {2, 3}
    for name in ("train_loss", "val_loss", "val_accuracy"):
        alone, shared = ([row[name] for row in read_history(state / LAST)] for state in (one, two))
        assert shared == pytest.approx(alone, rel=TOLERANCE)
    assert read_pretraining(two)[0]["pretrain_loss"] == pytest.approx(
        read_pretraining(one)[0]["pretrain_loss"], rel=TOLERANCE
    )
    alone, shared = weights(one / BEST), weights(two / BEST)
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        assert shared[name].numpy() == pytest.approx(value.numpy(), rel=TOLERANCE, abs=1e-4), name
