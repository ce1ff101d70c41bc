from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from audioml.errors import ParamsError
from audioml.features import logmel
from audioml.params import Params
from audioml.training.augmentation import Augmenter
from audioml.training.data import Windows
from audioml.training.fit import FitResult, fit
from audioml.training.loader import Batch, WindowLoader
from audioml.training.order import StoredOrder
from audioml.training.tracker import MemoryTracker

from ._synthetic import BINS, LABELS, MemoryFeatures, make_params
from .test_fit import Killed, KillingFeatures, assert_equal_runs

RATE, N_SAMPLES = 4000, 1000
FEATURES = {"sample_rate": RATE, "duration_s": 0.25, "n_fft": 128, "win_length": 128, "hop_length": 64}
LOGMEL = logmel.Params(n_mels=BINS, **FEATURES)
NOTHING = {"name": "gain", "min_db": 0, "max_db": 0}


def make_augmented(*augment: dict[str, Any], features: dict[str, Any] | None = None, **training: Any) -> Params:
    params = make_params({**FEATURES, "keep_audio": True, **(features or {})}, **training)
    return Params.model_validate({**params.model_dump(by_alias=True), "augment": list(augment)})


def make_tones(lengths: tuple[int, ...] = (N_SAMPLES,)) -> tuple[MemoryFeatures, pd.DataFrame, pd.DataFrame]:
    """Return 60 tones in noise, of three pitches, with manifest and splits; lengths go through `lengths` in turn."""
    rng = np.random.default_rng(0)
    audio = []
    for i in range(60):
        time_s = np.arange(lengths[i % len(lengths)]) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (300, 700, 1300)[i % 3] * time_s * rng.uniform(0.95, 1.05))
        audio.append((tone + rng.normal(0, 0.03, len(tone))).astype(np.float32))
    windows = [logmel.extract(LOGMEL, samples[None])[0] for samples in audio]
    ids = np.array([f"clip{i:03d}" for i in range(60)], dtype=object)
    shape = (BINS, windows[0].shape[1] if len(lengths) == 1 else None)
    manifest = pd.DataFrame({"clip_id": ids, "label": [LABELS[i % 3] for i in range(60)]})
    splits = pd.DataFrame({"clip_id": ids, "split": np.where(np.arange(60) % 5 == 4, "validation", "train")})
    return MemoryFeatures(windows, ids, shape, audio=audio), manifest, splits


def read_batch(features: MemoryFeatures, with_audio: bool = True) -> Batch:
    """Return the first eight windows in one batch; clip i's target is one-hot i."""
    rows = np.arange(8)
    windows = Windows(features, rows, rows, np.eye(8, dtype=np.float32), rows)
    # One length for all, so that the order keeps windows of several lengths together.
    order = StoredOrder(np.ones(8, np.int32), rows, 8)
    (batch,) = WindowLoader(windows, order, np.full(BINS, -100, np.float32), with_audio=with_audio)
    return batch


def augment(params: Params, batch: Batch, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return Augmenter(params)(batch, torch.Generator().manual_seed(seed))


def test_audio_that_no_augmentation_changed_gives_the_stored_features_byte_for_byte() -> None:
    batch = read_batch(make_tones()[0])
    features, targets = augment(make_augmented(NOTHING), batch)
    assert torch.equal(features, batch.features)
    assert torch.equal(targets, batch.targets)


def test_shorter_clips_of_a_batch_are_followed_by_silence() -> None:
    batch = read_batch(make_tones((1000, 640, 320))[0])
    assert batch.audio is not None
    assert batch.audio.shape == (8, 1000)
    features, _ = augment(make_augmented(NOTHING), batch)
    assert features.shape == batch.features.shape
    # The frames at a clip's end alone hold both.
    assert torch.equal(features[:, :, :4], batch.features[:, :, :4])
    assert torch.allclose(features[2, :, 8:], torch.tensor(-100.0))


def test_waveforms_come_before_features_whatever_the_order_in_params() -> None:
    batch = read_batch(make_tones()[0])
    masks = {"name": "specaugment", "bin_masks": 0, "max_frames_share": 0.5}
    gain = {"name": "gain", "min_db": 20, "max_db": 20}
    features, _ = augment(make_augmented(masks, gain), batch)
    assert torch.equal(features, augment(make_augmented(gain, masks), batch)[0])
    louder, _ = augment(make_augmented(gain), batch)
    # What masks cover holds the mean of the louder clip.
    covered = features != louder
    assert covered.any()
    means = louder.mean(dim=(1, 2), keepdim=True).expand_as(louder)
    assert torch.equal(features[covered], means[covered])


def test_targets_of_mixed_clips_reach_the_loss() -> None:
    batch = read_batch(make_tones()[0])
    features, targets = augment(make_augmented({"name": "between_class"}), batch)
    assert not torch.equal(features, batch.features)
    assert torch.allclose(targets.sum(dim=1), torch.ones(8))
    assert (targets.diagonal() < 1).any()


def test_features_that_are_audio_need_no_other() -> None:
    raw = make_augmented({"name": "polarity", "share": 1}).model_dump(by_alias=True)
    augmenter = Augmenter(Params.model_validate({**raw, "features": {"name": "waveform", "sample_rate": RATE}}))
    assert not augmenter.needs_audio
    waveforms = torch.randn(4, 1, N_SAMPLES)
    batch = Batch(waveforms, torch.eye(4), torch.arange(4), torch.full((4,), N_SAMPLES), torch.arange(4))
    assert torch.equal(augmenter(batch, torch.Generator())[0], -waveforms)


def test_audio_is_read_where_an_augmentation_needs_it_only() -> None:
    features, _, _ = make_tones()
    assert Augmenter(make_augmented(NOTHING)).needs_audio
    assert not Augmenter(make_augmented({"name": "mixup"})).needs_audio
    assert read_batch(features, with_audio=False).audio is None
    with pytest.raises(ParamsError, match="keep_audio"):
        Augmenter(make_augmented(NOTHING, features={"keep_audio": False}))


def run(state: Path, params: Params, kill_at: int = -1, lengths: tuple[int, ...] = (N_SAMPLES,)) -> FitResult:
    features, manifest, splits = make_tones(lengths)
    features.__class__ = KillingFeatures
    features.kill_at = kill_at
    return fit(params, features, manifest, splits, state, MemoryTracker())


@pytest.mark.parametrize("lengths", [(N_SAMPLES,), (1000, 640, 800)])
def test_a_killed_training_resumes_bit_for_bit(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    params = make_augmented(
        {"name": "mixup"},
        {"name": "speed"},
        {"name": "noise", "kinds": ["pink", "babble"], "min_snr_db": 10},
        {"name": "room", "rooms": 4, "max_rt60_s": 0.2},
        features={"length": "pad" if len(lengths) == 1 else "whole"},
        checkpoint_every_steps=2,
        max_epochs=2,
    )
    with pytest.raises(Killed):
        run(tmp_path / "killed", params, kill_at=15, lengths=lengths)
    resumed = run(tmp_path / "killed", params, lengths=lengths)
    assert_equal_runs(resumed, run(tmp_path / "undisturbed", params, lengths=lengths))


def test_it_learns_from_augmented_waveforms(tmp_path: Path) -> None:
    augment = ({"name": "gain"}, {"name": "noise", "min_snr_db": 10}, {"name": "stretch", "max_rate": 1.2})
    result = run(tmp_path, make_augmented(*augment, max_epochs=10))
    assert result.best["val_accuracy"] > 0.9
