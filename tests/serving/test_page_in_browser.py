"""The page in headless Chromium, with real recordings as files and as what the microphone hears."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi import FastAPI, WebSocket
from playwright.sync_api import expect

from audioml.evaluation.report import format_percent
from audioml.inference.predictor import Predictor
from audioml.serving.tokens import FILE, add_token

from ._browser import visit
from ._served import Saying, serve_app

pytestmark = pytest.mark.slow
DROP = """([name, bytes]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""
BRIGHTEST_ROW = """() => {
  const canvas = document.querySelector("canvas");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const light = y => [0, 1, 2].reduce((sum, c) => sum + data[4 * (y * width + Math.round(width / 2)) + c], 0);
  const rows = [...Array(canvas.height).keys()].slice(90, 280);
  return rows.reduce((best, y) => (light(y) > light(best) ? y : best));
}"""
A_WHILE = re.compile(r"^(0\.[6-9]|[1-9])")
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.fixture
def app(predictor: Predictor, tmp_path: Path) -> FastAPI:
    return serve_app(tmp_path / "state", predictor, card={"name": "tones", "version": 3, "sample_rate": 8000})[0]


@pytest.fixture
def recording(fsdd_dir: Path) -> Path:
    return fsdd_dir / "7_jackson_3.wav"


@pytest.fixture
def microphone(recording: Path, tmp_path: Path) -> Path:
    """A digit, and as much silence before and after it."""
    samples, rate = soundfile.read(recording)
    soundfile.write(tmp_path / "microphone.wav", np.pad(samples, len(samples)), rate, subtype="PCM_16")
    return tmp_path / "microphone.wav"


def test_a_recording_is_dropped_and_answered(app: FastAPI, predictor: Predictor, recording: Path) -> None:
    (expected,) = predictor.predict([recording.read_bytes()])
    with visit(app) as opened:
        opened.page.evaluate(DROP, [recording.name, list(recording.read_bytes())])
        shown = opened.answer("request")
        assert shown.startswith(f"{expected['label']} {format_percent(expected['probability'])}".replace("\u00a0", " "))
        assert "tones version 3" in shown
        assert opened.page.locator("#said").inner_text().startswith(f"Answer: {expected['label']}")
        assert opened.page.locator("figcaption").inner_text() == "7_jackson_3.wav 0.43 s, 8 kHz"
        opened.check()


def test_the_spectrogram_shows_a_tone_at_its_frequency(app: FastAPI, tone_wav: Callable[[float], bytes]) -> None:
    def mel(hz: float) -> float:
        return 2595 * float(np.log10(1 + hz / 700))

    with visit(app) as opened:
        for frequency_hz in (500.0, 3000.0):
            opened.page.evaluate(DROP, [f"{frequency_hz}.wav", list(tone_wav(frequency_hz))])
            opened.page.locator("figcaption", has_text=str(frequency_hz)).wait_for()
            height = opened.page.locator("canvas").evaluate("canvas => canvas.height")
            wave = round((height - 22) * 0.27) + 8
            expected = wave + (height - 22 - wave) * (1 - mel(frequency_hz) / mel(4000))
            assert opened.page.evaluate(BRIGHTEST_ROW) == pytest.approx(expected, abs=4)


def test_transform_and_wav_by_numpy_and_soundfile(app: FastAPI) -> None:
    signal = np.random.default_rng(0).normal(size=256)
    blocks = np.array([0, 1, -1, 32767, -32768, 5], np.int16)
    with visit(app) as opened:
        re, im = opened.page.evaluate(
            "async signal => { const { transform } = await import('/static/spectrum.js'); const re = [...signal];"
            "const im = signal.map(() => 0); transform(re, im); return [re, im]; }",
            signal.tolist(),
        )
        wav = opened.page.evaluate(
            "async samples => { const { encodeWav } = await import('/static/sound.js');"
            "const blocks = [Int16Array.from(samples.slice(0, 2)), Int16Array.from(samples.slice(2))];"
            "return [...new Uint8Array(await encodeWav(blocks, 44100).arrayBuffer())]; }",
            blocks.tolist(),
        )
    np.testing.assert_allclose(np.array(re) + 1j * np.array(im), np.fft.fft(signal), atol=1e-9)
    samples, rate = soundfile.read(io.BytesIO(bytes(wav)), dtype="int16")
    assert rate == 44100
    np.testing.assert_array_equal(samples, blocks)


def drop_stream(app: FastAPI) -> None:
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", "") != "/stream"]


def test_live_with_the_server(app: FastAPI, microphone: Path) -> None:
    with visit(app, microphone) as opened:
        opened.page.get_by_role("button", name="Record").click()
        expect(opened.page.locator("#source-facts")).to_have_text(A_WHILE)
        opened.page.get_by_role("button", name="Stop").click()
        shown = opened.answer("tones version 3")
        assert "false" not in shown
        assert opened.page.locator("#utterance-list li").count() >= 1
        assert any(url.startswith("ws://") for url in opened.requests)
        assert not any(url.endswith("/predict") for url in opened.requests)
        opened.check()


def test_live_as_the_protocol_says(app: FastAPI, predictor: Predictor, microphone: Path) -> None:
    drop_stream(app)
    heard: list[np.ndarray] = []
    rates: list[int] = []

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        assert socket.query_params["format"] == "pcm16"
        rates.append(int(socket.query_params["sample_rate"]))
        await socket.accept()
        model = {"name": "tones", "version": 3}
        await socket.send_json({"type": "ready", "request_id": "r1", "model": model, "sample_rate": rates[0]})
        while "bytes" in (message := await socket.receive()):
            heard.append(np.frombuffer(message["bytes"], "<i2"))
            if len(heard) == 20:
                await socket.send_json(
                    {"type": "partial", "utterance": 0, "start_s": 0.0, "heard_s": 0.4, "label": "so far"}
                )
        assert message["text"] == '{"type":"end"}'
        samples = np.concatenate(heard)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rates[0], format="WAV")
        (answer,) = predictor.predict([buffer.getvalue()])
        span = {"utterance": 0, "start_s": 0.0, "end_s": len(samples) / rates[0]}
        await socket.send_json({"type": "final", **span, **answer, "timing_ms": {"total": 1.5}})
        await socket.send_json({"type": "end", "duration_s": span["end_s"]})

    with visit(app, microphone) as opened:
        opened.page.get_by_role("button", name="Record").click()
        opened.answer("so far")
        opened.page.get_by_role("button", name="Stop").click()
        assert "request r1" in opened.answer("1.5 ms")
        samples = np.concatenate(heard)
        line = opened.page.locator("#utterance-list li")
        assert line.count() == 1
        assert f"0.0 to {len(samples) / rates[0]:.2f} s" in line.inner_text()
        assert opened.page.get_by_role("button", name="Play").is_visible()
        opened.check()
    assert np.abs(samples).max() == pytest.approx(2**15 * np.abs(soundfile.read(microphone)[0]).max(), rel=0.1)


def test_without_a_stream_the_recording_is_sent_in_the_end(app: FastAPI, microphone: Path) -> None:
    drop_stream(app)
    with visit(app, microphone) as opened:
        opened.page.get_by_role("button", name="Record").click()
        expect(opened.page.locator("#source-facts")).to_have_text(A_WHILE)
        opened.page.get_by_role("button", name="Stop").click()
        shown = opened.answer("tones version 3")
        assert shown.startswith(("low", "high"))
        assert opened.page.locator("#source").inner_text() == "Microphone"
        opened.check()


def test_a_stream_that_refuses_is_done_without(app: FastAPI, microphone: Path) -> None:
    drop_stream(app)

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"type": "error", "reason": "full", "detail": "No more.", "request_id": "r"})
        await socket.close()

    with visit(app, microphone) as opened:
        opened.page.get_by_role("button", name="Record").click()
        expect(opened.page.locator("#source-facts")).to_have_text(A_WHILE)
        opened.page.get_by_role("button", name="Stop").click()
        opened.answer("tones version 3")
        opened.check()


def test_keyboard_alone(app: FastAPI, recording: Path) -> None:
    with visit(app) as opened:
        keys = opened.page.keyboard

        def go_to(name: str) -> None:
            for _ in range(30):
                keys.press("Tab")
                focused = opened.page.evaluate(
                    "() => { const e = document.activeElement; const style = getComputedStyle(e);"
                    "return [e.ariaLabel ?? e.innerText, style.outlineStyle, parseFloat(style.outlineWidth)]; }"
                )
                if focused[0] == name:
                    assert focused[1:] == ["solid", 3]
                    return
            pytest.fail(f"nothing called {name!r} can be reached")

        # Before the key is pressed, as Chromium is told of it only in passing.
        opened.page.on("filechooser", lambda _: None)
        go_to("Choose a file")
        with opened.page.expect_file_chooser() as chooser:
            keys.press("Enter")
        chooser.value.set_files(recording)
        opened.answer("tones version 3")
        go_to("Position in seconds")
        keys.press("ArrowRight")
        keys.press("ArrowRight")
        assert opened.page.locator("#clock").inner_text() == "0.02 s"
        opened.page.locator("#choose").focus()
        go_to("Play")
        keys.press("Space")
        expect(opened.page.locator("#clock")).to_have_text("0.43 s")
        opened.check()


def test_a_phone_scrolls_one_way_only(app: FastAPI, recording: Path) -> None:
    with visit(app, **PHONE) as opened:
        fits = "document.documentElement.scrollWidth <= 360"
        assert opened.page.evaluate(fits)
        opened.page.set_input_files("#file", recording)
        opened.answer("tones version 3")
        assert opened.page.evaluate(fits)
        for button in ("Choose a file", "Record", "Play", "Copy"):
            box = opened.page.get_by_role("button", name=button).bounding_box()
            assert box is not None
            assert box["height"] >= 44


def test_a_refusal_in_plain_words(app: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_bytes(b"no audio at all")
    with visit(app) as opened:
        opened.page.set_input_files("#file", tmp_path / "notes.wav")
        shown = opened.answer("This is no audio that the server can read")
        assert "request " in shown
        assert "This is no audio" in opened.page.locator("#said").inner_text()
        opened.check()


def test_a_token_is_asked_for_and_sent(app: FastAPI, recording: Path, tmp_path: Path) -> None:
    secret = add_token(tmp_path / "state" / FILE, "page")
    with visit(app) as opened:
        for token in ("wrong", secret):
            opened.page.get_by_label("Access token", exact=True).fill(token)
            opened.page.keyboard.press("Enter")
        opened.page.get_by_role("heading", name="tones").wait_for()
        assert opened.page.locator("#access").is_hidden()
        opened.page.set_input_files("#file", recording)
        opened.answer("tones version 3")
        assert "Bearer $TOKEN" in opened.page.locator("#curl").inner_text()
        assert opened.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        opened.check()


WORDS = [
    {"word": "open", "onset_s": 0.1, "offset_s": 0.2, "confidence": 0.9},
    {"word": "<b>door", "onset_s": 0.25, "offset_s": 0.5, "confidence": 0.8},
]
EVENTS = [{"label": "dog", "onset_s": 0.25, "offset_s": 0.375, "confidence": 0.75}]
ALARMS = [{"label": "dog", "time_s": 0.3, "confidence": 0.75}]


@pytest.mark.parametrize(
    ("answer", "texts", "lanes"),
    [
        (
            {"text": "open <b>door", "confidence": 0.85, "words": WORDS},
            ["open <b>door", "85.0 %"],
            [(20, 20), (50, 50)],
        ),
        ({"events": EVENTS, "alarms": ALARMS}, ["1 event", "dog", "0.375"], [(50, 25)]),
        ({"tags": ["rain"], "probabilities": {"rain": 0.7, "dog": 0.1}}, ["rain", "70.0 %", "10.0 %"], []),
        ({"label": "unknown", "nearest": "dog", "probability": 0.3}, ["unknown 30.0 %", "Nearest label: dog"], []),
        ({"speaker": "theo", "similarity": 0.61, "embedding": [0.5, 0.25]}, ["theo", "0.61", "2 numbers"], []),
        ({"loudness_db": -23.5, "rooms": ["hall"]}, ["loudness (dB)", "-23.5", '["hall"]'], []),
    ],
    ids=["ctc", "detection", "tagging", "unknown", "speaker", "another"],
)
def test_answers_of_all_tasks(
    tmp_path: Path,
    tone_wav: Callable[[float], bytes],
    answer: dict[str, Any],
    texts: list[str],
    lanes: list[tuple[float, float]],
) -> None:
    with visit(serve_app(tmp_path, Saying(lambda _: answer))[0]) as opened:
        opened.page.evaluate(DROP, ["tone.wav", list(tone_wav(500.0))])
        shown = opened.answer("tones version 3")
        assert [text for text in texts if text not in shown] == []
        blocks = opened.page.locator(".lane .block")
        expect(blocks).to_have_count(len(lanes))
        places = [
            (float(style["left"].rstrip("%")), float(style["width"].rstrip("%")))
            for style in blocks.evaluate_all("all => all.map(({style}) => ({left: style.left, width: style.width}))")
        ]
        assert places == [pytest.approx(lane) for lane in lanes]
        opened.check()
