"""Pictures and sounds: what they show, measured."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest
import soundfile

from audioml.evaluation.plots import (
    PLAYED_S,
    cut_for_report,
    draw_spectrogram,
    draw_training_curves,
    encode_wav,
    to_data_uri,
    to_svg,
)

HISTORY = [
    {"epoch": i, "train_loss": 1 / i, "val_loss": 1.2 / i, "val_accuracy": 1 - 0.5 / i, "learning_rate": 0.1}
    for i in range(1, 9)
]


def make_tone(frequency_hz: float, rate: int, duration_s: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000])
@pytest.mark.parametrize("duration_s", [0.3, PLAYED_S])
def test_a_tone_is_bright_at_its_height(rate, duration_s):
    png = draw_spectrogram(make_tone(rate / 8, rate, duration_s), rate)
    brightness = matplotlib.image.imread(io.BytesIO(png))[..., :3].sum(axis=(1, 2))
    # A quarter of the way up, as the top is half the sample rate.
    height = 1 - brightness.argmax() / (len(brightness) - 1)
    assert height == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_the_shortest_sounds_have_a_spectrogram(samples):
    assert matplotlib.image.imread(io.BytesIO(draw_spectrogram(np.zeros(samples, np.float32), 16000))).ndim == 3


def test_the_wav_holds_the_sound():
    tone = make_tone(440, 8000, 0.5)
    decoded, rate = soundfile.read(io.BytesIO(encode_wav(tone, 8000)), dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(decoded, tone, atol=1 / 32768)


def test_loud_sounds_are_limited_and_do_not_wrap():
    decoded, _ = soundfile.read(io.BytesIO(encode_wav(np.array([3, -3], np.float32), 8000)), dtype="float32")
    np.testing.assert_allclose(decoded, [1, -1], atol=1e-4)


def test_long_sounds_are_cut_and_high_rates_lowered():
    audio, rate = cut_for_report(make_tone(440, 44100, 10), 44100)
    assert rate == 16000
    assert len(audio) == pytest.approx(PLAYED_S * 16000, abs=1)
    assert np.abs(np.fft.rfft(audio)).argmax() / PLAYED_S == pytest.approx(440, abs=0.5)


def test_curves_draw_the_history():
    losses, accuracy = draw_training_curves(HISTORY).axes
    train, validation = losses.get_lines()
    np.testing.assert_allclose(train.get_xydata(), [(row["epoch"], row["train_loss"]) for row in HISTORY])
    np.testing.assert_allclose(validation.get_ydata(), [row["val_loss"] for row in HISTORY])
    np.testing.assert_allclose(accuracy.get_lines()[0].get_ydata(), [row["val_accuracy"] for row in HISTORY])


def test_gaps_in_the_history_are_borne():
    figure = draw_training_curves([{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "val_loss": None}])
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 0]
    assert draw_training_curves([]).axes[0].get_lines() == []


def test_a_single_epoch_is_seen():
    markers = [
        [line.get_marker() for axes in draw_training_curves(HISTORY[:n]).axes for line in axes.get_lines()]
        for n in (1, 2)
    ]
    assert markers == [["o"] * 3, ["None"] * 3]


def test_svg_has_text_and_colours_of_the_page_and_is_the_same_again():
    svg = to_svg(draw_training_curves(HISTORY), "curves")
    assert svg == to_svg(draw_training_curves(HISTORY), "curves")
    texts = [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"Loss", "Validation accuracy", "training", "validation", "epoch"} <= set(texts)
    assert "var(--accent)" in svg
    assert "var(--ink)" in svg
    assert "#0a5bc4" not in svg


def test_data_uri():
    uri = to_data_uri(b"abc", "audio/wav")
    assert uri.startswith("data:audio/wav;base64,")
    assert base64.b64decode(uri.split(",")[1]) == b"abc"
