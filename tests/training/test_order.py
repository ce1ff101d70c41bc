from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import DatasetError
from audioml.training import order
from audioml.training.order import ShuffledOrder, StoredOrder


def make_order(frames: np.ndarray, batch_size: int, rank: int = 0, n_ranks: int = 1, seed: int = 1) -> ShuffledOrder:
    return ShuffledOrder(frames.astype(np.int32), np.arange(len(frames)) // 7, 1000, batch_size, seed, rank, n_ranks)


@given(
    n=st.integers(1, 300),
    batch_size=st.integers(2, 64),
    n_ranks=st.integers(1, 4),
    epoch=st.integers(0, 5),
    longest=st.sampled_from([1, 3, 1000]),
)
def test_every_window_comes_once_over_all_processes_in_as_many_even_batches(
    n: int, batch_size: int, n_ranks: int, epoch: int, longest: int
) -> None:
    frames = np.random.default_rng(n).integers(1, longest + 1, n)
    if n < n_ranks:
        with pytest.raises(DatasetError, match=rf"{n} windows .* the {n_ranks} processes"):
            make_order(frames, batch_size, 0, n_ranks)
        return
    orders = [make_order(frames, batch_size, rank, n_ranks) for rank in range(n_ranks)]
    parts = [list(one.batches(epoch)) for one in orders]
    assert {len(batches) for batches in parts} == {len(orders[0])}
    sizes = [len(batch) for batches in parts for batch in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate([batch for batches in parts for batch in batches])) == list(range(n))


def test_processes_take_together_what_one_takes_in_a_step() -> None:
    frames = np.ones(20)
    ranks = [list(make_order(frames, 4, rank, 2).batches(1)) for rank in range(2)]
    together = [sorted(np.concatenate(batches)) for batches in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in make_order(frames, 8).batches(1)]


def test_the_order_follows_from_seed_and_epoch() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(make_order(np.ones(50), 8, seed=seed).batches(epoch))).tolist()

    assert draw(1, 3) == draw(1, 3)
    assert len({tuple(draw(seed, epoch)) for seed in (1, 2) for epoch in (0, 3)}) == 4


def test_windows_are_shuffled_within_runs_of_whole_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "SHUFFLE_BYTES", 3 * 7 * 1000)
    shards_of_run = set()
    for epoch in range(2):
        windows = np.concatenate(list(make_order(np.ones(12 * 7), 8).batches(epoch)))
        runs = windows.reshape(4, 21)
        for run in runs:
            assert len(set(run // 7)) == 3
            assert (np.diff(run // 7) != 0).sum() > 5
            shards_of_run.add(frozenset(run // 7))
    assert len(shards_of_run) > 4


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_batches_of_one_step_are_of_similar_length_and_short_ones_do_not_come_first(n_ranks: int) -> None:
    frames = np.random.default_rng(0).permutation(np.arange(1, 64 * 40 + 1))
    ranks = [list(make_order(frames, 16, rank, n_ranks).batches(0)) for rank in range(n_ranks)]
    steps = [np.concatenate(batches) for batches in zip(*ranks, strict=True)]
    padding = 1 - frames.sum() / sum(frames[step].max() * len(step) for step in steps)
    assert padding < 0.05 * n_ranks
    longest = [frames[step].max() for step in steps]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


@given(st.lists(st.integers(1, 4), max_size=60), st.integers(1, 9), st.integers(1, 3))
def test_stored_order_pads_nothing_and_keeps_the_order_of_each_length(
    lengths: list[int], batch_size: int, every: int
) -> None:
    frames, windows = np.array(lengths, np.int32), np.arange(0, len(lengths), every)
    stored = StoredOrder(frames, windows, batch_size)
    batches = list(stored.batches(0))
    assert len(batches) == len(stored)
    assert all(len(set(frames[batch])) == 1 and len(batch) <= batch_size for batch in batches)
    flat = [i for batch in batches for i in batch.tolist()]
    assert flat == sorted(windows.tolist(), key=lambda i: (lengths[i], i))
