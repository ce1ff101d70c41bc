import numpy as np
import pytest
import scipy.signal

from audioml.audio.noise import COLOURS, make_noise, scale_to_snr


@pytest.mark.parametrize(("colour", "slope_db"), [("white", 0), ("pink", -3.01), ("brown", -6.02)])
def test_power_falls_with_the_octave(colour, slope_db):
    noise = make_noise(1 << 18, colour, np.random.default_rng(1))
    frequency, power = scipy.signal.welch(noise, fs=16000, nperseg=4096)
    band = (frequency > 50) & (frequency < 6000)
    slope = np.polyfit(np.log2(frequency[band]), 10 * np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(slope_db, abs=0.2)


@pytest.mark.parametrize("colour", COLOURS)
def test_unit_level_and_reproducible(colour):
    noise = make_noise(5000, colour, np.random.default_rng(3))
    assert noise.dtype == np.float32
    assert np.sqrt(np.mean(noise.astype(float) ** 2)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(noise, make_noise(5000, colour, np.random.default_rng(3)))


def test_scaled_to_a_signal_to_noise_ratio():
    noise = make_noise(20000, "white", np.random.default_rng(0))
    scaled = scale_to_snr(noise, signal_rms=0.2, snr_db=14)
    assert 20 * np.log10(0.2 / np.sqrt(np.mean(scaled**2))) == pytest.approx(14, abs=1e-3)
