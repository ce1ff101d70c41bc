from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from audioml.training.checkpoints import BEST, LAST, read_history

from . import _two_processes
from ._two_processes import EPOCHS, N_CLIPS

pytestmark = pytest.mark.slow


def run(state: Path) -> list[list[list[int]]]:
    """Fit, and return the rows of each batch that each process read."""
    subprocess.run([sys.executable, _two_processes.__file__, str(state)], check=True, capture_output=True)
    return [json.loads((state / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_read_every_window_once_an_epoch_and_resume_in_mid_epoch(tmp_path: Path) -> None:
    undisturbed, resumed = tmp_path / "undisturbed", tmp_path / "resumed"
    ranks = run(undisturbed)
    # Every fifth clip is for validation.
    assert [sum(batch[0] % 5 != 4 for batch in batches) for batches in ranks] == [7 * EPOCHS, 7 * EPOCHS]
    seen = Counter(row for batches in ranks for batch in batches for row in batch)
    assert seen == Counter(dict.fromkeys(range(N_CLIPS), EPOCHS))

    resumed.mkdir()
    shutil.copyfile(undisturbed / "step3.ckpt", resumed / LAST)
    loops = torch.load(resumed / LAST, weights_only=True)["loops"]
    assert loops["fit_loop"]["state_dict"]["combined_loader"] == [{"epoch": 0, "n_done": 3, "n_batches": 7}]
    assert [len(batches) for batches in run(resumed)] == [len(batches) - 3 for batches in ranks]
    histories = [[{**row, "seconds": 0.0} for row in read_history(state / LAST)] for state in (resumed, undisturbed)]
    assert histories[0] == histories[1]
    for name in (BEST, LAST):
        one, other = (torch.load(state / name, weights_only=True)["state_dict"] for state in (resumed, undisturbed))
        assert all(torch.equal(one[key], other[key]) for key in one)
