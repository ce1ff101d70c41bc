"""The study of a search, on a function in the place of training."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from audioml.orchestration.search import JOURNAL, MAX_STARTS, Pruned, Search
from audioml.params import SpaceParams

SPACE = {
    "training.learning_rate": SpaceParams(low=1e-4, high=1.0, log=True),
    "model.width": SpaceParams(low=1, high=8),
    "model.channels": SpaceParams(choices=[[8, 16], [16, 32], None]),
}


def make_search(folder: Path, **more: Any) -> Search:
    return Search(**{"folder": folder, "space": SPACE, "maximize": True, "warmup": 0, "seed": 3} | more)


def hill(values: dict[str, Any]) -> float:
    """Highest at a width of 6 with the channels [16, 32]."""
    return 10.0 * (values["model.channels"] == [16, 32]) - abs(values["model.width"] - 6)


def climb(search: Search, trials: int) -> None:
    while True:
        with search.take(trials) as trial:
            if trial is None:
                return
            trial.finish(hill(trial.values))


def test_a_planted_optimum_is_found_and_values_are_in_the_space(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.begin({"training.learning_rate": 0.01, "model.width": 1, "model.channels": None})
    climb(search, 25)
    outcomes = search.outcomes()
    assert outcomes[0].values == {"training.learning_rate": 0.01, "model.width": 1, "model.channels": None}
    assert len(outcomes) == 25
    assert all(section.holds(o.values[path]) for o in outcomes for path, section in SPACE.items())
    assert max(o.value for o in outcomes if o.value is not None) == 10.0
    importances = search.importances()
    assert max(importances, key=lambda path: importances[path]) == "model.channels"


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, stopped = make_search(tmp_path / "whole"), make_search(tmp_path / "stopped")
    for search in (whole, stopped):
        search.begin({})
    climb(whole, 9)
    climb(stopped, 7)
    climb(make_search(tmp_path / "stopped"), 9)
    assert [o.values for o in stopped.outcomes()] == [o.values for o in whole.outcomes()]


def test_a_trial_is_given_up_when_it_is_worse_than_the_median(tmp_path: Path) -> None:
    search = make_search(tmp_path, warmup=2)
    search.begin({})
    for _ in range(6):
        with search.take(7) as trial:
            assert trial is not None
            for epoch in (1, 2, 3):
                trial.report(1.0, epoch)
            trial.finish(1.0)
    with search.take(7) as trial:
        assert trial is not None
        trial.report(0.1, 1)
        with pytest.raises(Pruned):
            trial.report(0.1, 3)
        trial.prune()
    assert [o.state for o in search.outcomes()] == ["complete"] * 6 + ["pruned"]
    assert search.outcomes()[-1].value == 0.1


def _die(folder: Path) -> None:
    with make_search(folder).take(2) as trial:
        assert trial is not None
        trial.report(0.5, 1)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_whose_process_died_is_taken_up_with_its_values_and_not_for_ever(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.begin({})
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (before,) = search.outcomes()
    for start in range(2, MAX_STARTS + 1):
        with search.take(2) as trial:
            assert trial is not None
            assert (trial.number, trial.values) == (0, before.values)
            if start == 2:
                trial.report(0.5, 1)  # told before it died: no harm
                with search.take(2) as other:
                    assert other is not None
                    assert other.number == 1
                    other.finish(1.0)
    with search.take(2) as trial:
        assert trial is None
    assert [o.state for o in search.outcomes()] == ["fail", "complete"]
    assert "died 3 times" in search.outcomes()[0].error


def test_what_a_killed_process_wrote_in_part_is_cut_off(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.begin({})
    climb(search, 1)
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')
    again = make_search(tmp_path)
    climb(again, 2)
    assert [o.state for o in make_search(tmp_path).outcomes()] == ["complete", "complete"]
