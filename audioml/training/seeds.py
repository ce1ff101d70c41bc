"""Seeds by what they are for: the same after a resume as in a run that nothing stopped."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2**63) from the run's seed and a purpose such as ``("augment", epoch, batch)``.

    Every place that draws random numbers gets its own, so that no draw depends on how many came before.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
