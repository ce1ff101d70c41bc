"""How near float32 features must be to those in double precision."""

import numpy as np

DB_PER_RATIO = 20 / np.log(10)


def assert_levels_agree(ours, exact, noise_db=145.0, atol=1e-4):
    """Compare levels in dB, `(..., bands, frames)`, with a tolerance that grows as bands fall below the loudest.

    Rounding in float32 acts like noise that is `noise_db` below the loudest band of its frame. A band that is `d` dB
    below that band moves by 20 / ln 10 * 10 ** ((d - noise_db) / 20) dB: with 145 by 0.0009 dB 65 dB below.
    """
    exact = np.asarray(exact, np.float64)
    below_db = exact.max(axis=-2, keepdims=True) - exact
    bound = atol + DB_PER_RATIO * 10 ** ((below_db - noise_db) / 20)
    excess = np.abs(ours - exact) - bound
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 0, (
        f"at {worst}: {ours[worst]:.5f} dB instead of {exact[worst]:.5f}, {below_db[worst]:.1f} dB below the loudest"
    )
