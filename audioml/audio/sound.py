"""A stretch of mono audio on its way through the cleaning chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples with what is needed to say where in the clip they are.

    Cleaning plug-ins return a new one and never write into `samples`, which may be a view of the decoded file.
    """

    samples: npt.NDArray[np.float32]
    """float32 ``(samples,)``."""
    sample_rate: int
    """In Hz."""
    start_s: float = 0.0
    """Where the samples start in the clip, in seconds."""
