"""What holds for all augmentations of waveforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audioml.audio.encode import encode_wav
from audioml.errors import ParamsError
from audioml.params import Section, parse_section
from audioml.plugins import changes_audio, load_plugin, plugin_names

from ._sounds import RATE, make_noise

NAMES = [name for name in plugin_names("augment") if changes_audio(name)]
OPTIONS: dict[str, dict[str, object]] = {
    "noise": {"kinds": ["white", "pink", "brown", "babble"]},
    "room": {"rooms": 3, "max_rt60_s": 0.2},
}
MIXING = {"between_class", "noise"}


@pytest.fixture(autouse=True, scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("noise")
    for seed in range(3):
        (folder / f"{seed}.wav").write_bytes(encode_wav(make_noise(1, 3000, seed).numpy(), RATE))
    OPTIONS["background"] = {"folder": str(folder)}


def apply(
    name: str, audio: Tensor, seed: int = 1, share: float = 1.0, targets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    plugin = load_plugin("augment", name)
    params: Section = parse_section(plugin.Params, {"share": share, **OPTIONS.get(name, {})}, "augment.0")
    generator = torch.Generator().manual_seed(seed)
    targets = torch.eye(len(audio)) if targets is None else targets
    changed: tuple[Tensor, Tensor] = plugin.apply_audio(params, audio, targets, generator, RATE)
    return changed


def test_there_are_some() -> None:
    assert {"noise", "pitch", "room", "stretch"} <= set(NAMES)
    assert not changes_audio("mixup")


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_type_stay_and_what_comes_in_is_not_written_to(name: str) -> None:
    for shape in ((6, 4001), (1, 4000), (3, 1)):
        audio = make_noise(*shape)
        before = audio.clone()
        changed, targets = apply(name, audio)
        assert torch.equal(audio, before)
        assert (changed.shape, changed.dtype) == (audio.shape, torch.float32)
        assert targets.shape == (len(audio), len(audio))
        assert torch.isfinite(changed).all()
    assert not torch.equal(apply(name, make_noise(6))[0], make_noise(6))


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silent_and_dc_finite(name: str) -> None:
    assert not apply(name, torch.zeros(4, 5000))[0].any()
    assert torch.isfinite(apply(name, torch.full((4, 5000), 0.5))[0]).all()
    mixed = torch.cat([torch.zeros(2, 5000), make_noise(2, 5000)])
    assert torch.isfinite(apply(name, mixed)[0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides(name: str) -> None:
    audio = make_noise(8)
    assert torch.equal(apply(name, audio, seed=1)[0], apply(name, audio, seed=1)[0])
    assert not torch.equal(apply(name, audio, seed=1)[0], apply(name, audio, seed=2, share=0.7)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_share_of_the_clips_is_changed(name: str) -> None:
    audio = make_noise(300, 400)
    changed = (apply(name, audio, share=0.3)[0] != audio).any(dim=1)
    assert 0.2 < float(changed.float().mean()) < 0.4
    assert torch.equal(apply(name, audio, share=0.0)[0], audio)


@pytest.mark.parametrize("name", sorted({*NAMES} - MIXING))
def test_a_clip_does_not_depend_on_the_others(name: str) -> None:
    audio = make_noise(4)
    others = torch.cat([audio[:1], 3 * make_noise(3, seed=5)])
    assert torch.equal(apply(name, audio)[0][0], apply(name, others)[0][0])


@pytest.mark.parametrize("name", sorted({*NAMES} - MIXING - {"room", "background"}))
def test_targets_along_time_say_when_something_sounds(name: str) -> None:
    step = RATE // 50
    audio, targets = make_noise(6, 100 * step), torch.zeros(6, 1, 100)
    for first, last in ((20, 32), (70, 90)):
        targets[..., first:last] = 1
    audio = audio * targets[:, 0].repeat_interleave(step, 1)
    changed, said = apply(name, audio, targets=targets)
    sounding = changed.reshape(6, 100, step).square().mean(dim=2).sqrt() > 0.3 * changed.std()
    assert said.shape == targets.shape
    # An edge may fall within a step, and a stretch moves its frames by half of one.
    assert (sounding != said[:, 0].bool()).sum(dim=1).max() <= 4
    assert torch.equal(apply(name, audio, share=0.0, targets=targets)[1], targets)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("gain", {"min_db": 3, "max_db": -3}, "min_db 3 is more than max_db -3"),
        ("noise", {"min_snr_db": 20, "max_snr_db": 10}, "min_snr_db 20 is more than max_snr_db 10"),
        ("noise", {"kinds": ["blue"]}, r"'augment\.0\.kinds\.0' is 'blue'"),
        ("room", {"min_rt60_s": 0.6}, "min_rt60_s 0.6 is more than max_rt60_s 0.5"),
        ("speed", {"min_factor": 2}, "min_factor 2 is more than max_factor 1.1"),
        ("stretch", {"max_rate": 0.6}, "min_rate 0.8 is more than max_rate 0.6"),
        ("pitch", {"max_semitones": -4}, "min_semitones -2 is more than max_semitones -4"),
    ],
)
def test_wrong_keys_are_named(name: str, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_section(load_plugin("augment", name).Params, keys, "augment.0")
