"""Params that are good from the start, by what is to be recognised: `audioml init --preset NAME`.

A preset changes what `init` chooses for any source. `docs/recognition.md` says what each reaches on which recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from audioml.errors import ParamsError, did_you_mean

OTHER_VOICES: list[dict[str, Any]] = [
    {"name": "speed", "min_factor": 0.75, "max_factor": 1.33, "share": 0.8},
    {"name": "pitch", "min_semitones": -4, "max_semitones": 4, "share": 0.3},
    {"name": "filter_response"},
    {"name": "noise", "min_snr_db": 5, "share": 0.6},
    {"name": "room", "share": 0.3},
]
"""What differs between speakers, microphones and places is drawn anew each time a clip is heard."""
MASKS: list[dict[str, Any]] = [{"name": "time_shift"}, {"name": "specaugment"}]
STEADY: dict[str, Any] = {
    "training.average": "ema",
    "training.ema_decay": 0.998,
    "training.weight_decay": 0.05,
}
"""For training with strong augmentation, whose last weights are noisy."""
ANY_MICROPHONE: dict[str, Any] = {
    "features.subtract_mean": True,
    "features.top_db": 45.0,
    "features.keep_audio": True,
}
"""Features without the colour of a microphone and the noise floor of a room."""


@dataclass(frozen=True)
class Preset:
    """Params for one kind of recognition."""

    about: str
    changes: Mapping[str, Any]
    """By dotted path."""
    layout: str | None = None
    """The layout where no data is named; it makes its clips."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """Changes beside, for that layout only."""
    max_sample_rate: int = 16_000
    """Features take the source's own rate, but no more than this, in Hz: speech and most events lie below 8 kHz."""


PRESETS = {
    "digits": Preset(
        "single words, by speakers that were never heard",
        {
            **ANY_MICROPHONE,
            **STEADY,
            "task.pooling": "mean_and_max",
            "augment": [*OTHER_VOICES, *MASKS, {"name": "mixup"}],
        },
    ),
    "commands": Preset(
        "commands to a machine, in noise; what is none of them is answered with unknown",
        {
            "features.keep_audio": True,
            "augment": [
                {"name": "noise", "kinds": ["white", "pink", "brown", "babble"]},
                *MASKS,
                {"name": "mixup"},
            ],
            "task.unknown_share": 0.02,
        },
        layout="spoken_commands",
        made={"split.group": "voice"},
    ),
    "sounds": Preset(
        "sounds of the surroundings",
        {
            **STEADY,
            "features.n_mels": 64,
            "features.top_db": 80.0,
            "features.keep_audio": True,
            "model": {"name": "rescnn", "channels": [24, 40, 56], "width": 96, "dropout": 0.2},
            "augment": [
                {"name": "speed", "min_factor": 0.8, "max_factor": 1.25, "share": 0.5},
                {"name": "filter_response"},
                {"name": "time_shift", "max_shift_share": 0.5},
                {"name": "specaugment", "max_frames_share": 0.15},
                {"name": "mixup", "alpha": 1.0, "share": 1.0},
            ],
        },
        max_sample_rate=32_000,
    ),
    "speech": Preset(
        "texts, with the times of their words",
        {
            **ANY_MICROPHONE,
            **STEADY,
            "features.length": "whole",
            "task": {"name": "ctc", "units": "phonemes"},
            "model": {"name": "conformer", "width": 96, "layers": 4},
            "training.learning_rate": 0.004,
            "training.batch_size": 32,
            "augment": [
                {"name": "speed", "min_factor": 0.85, "max_factor": 1.2, "share": 0.7},
                {"name": "filter_response"},
                {"name": "noise", "min_snr_db": 5, "share": 0.4},
                {"name": "specaugment", "max_frames_share": 0.03},
            ],
        },
        layout="spoken_sentences",
        made={
            "data.takes": 25,
            "split.group": "speaker",
            "task.pronunciation": "phonemes",
            "training.max_epochs": 40,
            "training.patience": 20,
        },
    ),
    "speakers": Preset(
        "who speaks: embeddings, for speakers that training knows and for others",
        {
            **STEADY,
            "features.keep_audio": True,
            "task": {"name": "speaker"},
            "augment": [*OTHER_VOICES[2:], *MASKS],
            "split.group": None,
        },
    ),
    "emotion": Preset(
        "how somebody speaks: each speaker in one split and one fold only, unweighted average recall",
        {
            **ANY_MICROPHONE,
            **STEADY,
            "task.metric": "uar",
            "training.sampling": "balanced",
            "split.group": "speaker",
            "split.folds": "speaker",
            "augment": [{"name": "speed"}, *OTHER_VOICES[2:], *MASKS, {"name": "mixup"}],
        },
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises
    ------
    ParamsError
        When there is none.
    """
    if name not in PRESETS:
        raise ParamsError(
            f"--preset {name!r}: there is no such preset.{did_you_mean(name, PRESETS)} Presets: {', '.join(PRESETS)}."
        )
    return PRESETS[name]


def apply_changes(raw: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return params with values in place of those at dotted paths. A mapping replaces a section as a whole."""
    changed = deepcopy(raw)
    for path, value in changes.items():
        *sections, key = path.split(".")
        section = changed
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = deepcopy(value)
    return changed
