from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from audioml.errors import StepError
from audioml.training.data import Windows
from audioml.training.loader import Batch, WindowLoader
from audioml.training.order import ShuffledOrder

from ._synthetic import BINS, MemoryFeatures, make_data

SILENCE = np.arange(BINS, dtype=np.float32) - 200


def make_loader(frames: tuple[int, ...] = (20,), batch_size: int = 4) -> tuple[MemoryFeatures, WindowLoader]:
    features, _, _ = make_data(30, frames=frames)
    rows = np.arange(3, 30)
    windows = Windows(features, rows, rows - 3, np.arange(27.0)[:, None] + 3, np.arange(27))
    order = ShuffledOrder(windows.frames, windows.shards, windows.window_bytes, batch_size, seed=1)
    return features, WindowLoader(windows, order, SILENCE)


def clips_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.clips.tolist() for batch in batches]


@pytest.mark.parametrize("frames", [(20,), (8, 12, 9, 20)])
def test_batches_carry_the_windows_targets_and_lengths_of_their_clips(frames: tuple[int, ...]) -> None:
    features, loader = make_loader(frames)
    batches = list(loader)
    assert sorted(torch.cat([batch.clips for batch in batches]).tolist()) == list(range(27))
    for batch in batches:
        assert batch.targets[:, 0].tolist() == [clip + 3 for clip in batch.clips.tolist()]
        assert batch.features.shape[2] == int(batch.frames.max())
        for feature, clip, n_frames in zip(batch.features.numpy(), batch.clips, batch.frames, strict=True):
            np.testing.assert_array_equal(feature[:, :n_frames], features.windows[clip + 3])
            assert (feature[:, n_frames:] == SILENCE[:, None]).all()


def test_each_epoch_has_an_order_of_its_own() -> None:
    _, loader = make_loader()
    first = clips_of(list(loader))
    assert clips_of(list(loader)) == first
    loader.set_epoch(1)
    assert clips_of(list(loader)) != first


@pytest.mark.parametrize("n_done", [0, 1, 4, 6, 7])
def test_another_loader_goes_on_where_one_was(n_done: int) -> None:
    _, loader = make_loader(frames=(8, 12, 20))
    loader.set_epoch(2)
    undisturbed = clips_of(list(loader))
    loader.set_epoch(3)
    next_epoch = clips_of(list(loader))
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(n_done):
        next(iterator)
    state = loader.state_dict()
    _, other = make_loader(frames=(8, 12, 20))
    other.load_state_dict(state)
    other.set_epoch(2)
    if n_done < len(loader):
        assert clips_of(list(other)) == undisturbed[n_done:]
    other.set_epoch(3)
    assert clips_of(list(other)) == next_epoch


def test_the_midst_of_an_epoch_cannot_be_that_of_other_batches() -> None:
    _, loader = make_loader()
    next(iter(loader))
    _, other = make_loader(batch_size=9)
    with pytest.raises(StepError, match="epoch of 7 batches, but here an epoch has 3"):
        other.load_state_dict(loader.state_dict())


def test_it_reads_ahead_of_who_asks_but_not_far() -> None:
    features, loader = make_loader(batch_size=2)
    before = set(threading.enumerate())
    iterator = iter(loader)
    next(iterator)
    iterator.close()
    assert 4 < len(features.taken) <= 2 * 6
    assert set(threading.enumerate()) <= before


def test_an_error_while_reading_reaches_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, loader = make_loader()

    def fail(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(features, "take", fail)
    with pytest.raises(OSError, match="gone"):
        next(iter(loader))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_for_a_gpu_are_pinned() -> None:
    _, loader = make_loader(frames=(8, 12))
    loader.pin_memory = True
    assert all(tensor.is_pinned() for batch in loader for tensor in batch if tensor is not None)
