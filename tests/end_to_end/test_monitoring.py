"""A model of real recordings, watched: shifted audio raises an alarm within one run, unchanged audio does not."""

from __future__ import annotations

import datetime
import io
import json
import shutil
import subprocess
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy import signal

from audioml.inference.predictor import Answer, Predictor
from audioml.monitoring.run import monitor
from audioml.pipeline.context import Context
from audioml.serving.prediction_log import FOLDER, Logged, PredictionLog

from .conftest import BIN, ENVIRONMENT, FSDD, change_params, keep_server, run_command, shrink

pytestmark = pytest.mark.slow
TODAY = datetime.datetime.now(datetime.UTC).date()
DRAWS, DRAWN = 20, 120
Sound = NDArray[np.float64]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, fsdd_dir: Path) -> Iterator[Path]:
    """Spoken digits with a champion; half of the corpus is enough."""
    root = tmp_path_factory.mktemp("watched")
    source = root / "recordings"
    source.mkdir()
    for path in fsdd_dir.glob("*.wav"):
        if int(path.stem.rpartition("_")[2]) < 25:
            shutil.copyfile(path, source / path.name)
    run_command("audioml", "init", "digits", "--data", str(source), *FSDD, cwd=root)
    folder = root / "digits"
    shrink(folder, max_epochs=6)
    change_params(folder, "split", validation_share=0.15)
    with keep_server(folder):
        for step in ("ingest", "validate", "split", "featurize", "train", "evaluate", "register"):
            run_command("audioml", "run", step, cwd=folder)
        yield folder


@pytest.fixture(scope="module")
def unheard(workspace: Path) -> list[Path]:
    """The recordings that the model has never heard, of the same speakers."""
    files = sorted((workspace.parent / "recordings").glob("*.wav"))
    return [path for path in files if int(path.stem.rpartition("_")[2]) < 5]


@pytest.fixture(scope="module")
def log_day(workspace: Path) -> Callable[[datetime.date, list[bytes]], None]:
    """Write what a server would, of a day."""
    predictor = Predictor.load(workspace / "models/package/artifacts")

    def write(day: datetime.date, clips: list[bytes]) -> None:
        noon = datetime.datetime.combine(day, datetime.time(12), datetime.UTC).timestamp()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audioml.serving.prediction_log.time.time", lambda: noon)
            log = PredictionLog(workspace / ".audioml" / FOLDER)
            for i, clip in enumerate(clips):
                (said,) = predictor.predict_each([clip], measured=True)
                assert isinstance(said, Answer)
                told = (said.info, said.prediction, 1.0, said.measures)
                log.add(Logged(f"{day}-{i}", 0, "digits", 1, "primary", clip, *told))
            log.close()

    return write


def draw(clips: list[Path], seed: int) -> list[Path]:
    return [clips[i] for i in np.random.default_rng(seed).choice(len(clips), DRAWN, replace=False)]


def change(path: Path, shift: Callable[[Sound, int, np.random.Generator], Sound]) -> bytes:
    audio, rate = soundfile.read(path)
    buffer = io.BytesIO()
    generator = np.random.default_rng(zlib.crc32(path.name.encode()))
    soundfile.write(buffer, shift(audio, rate, generator), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def add_noise(audio: Sound, rate: int, generator: np.random.Generator) -> Sound:
    return audio + generator.normal(0, 0.02, len(audio))


def low_pass(audio: Sound, rate: int, generator: np.random.Generator) -> Sound:
    filtered: Sound = signal.sosfilt(signal.butter(4, 1500, fs=rate, output="sos"), audio)
    return filtered


def turn_down(audio: Sound, rate: int, generator: np.random.Generator) -> Sound:
    return 0.25 * audio


def sing(audio: Sound, rate: int, generator: np.random.Generator) -> Sound:
    """A sound that is no digit, as loud and as long as the recording."""
    time_s = np.arange(len(audio)) / rate
    melody = signal.chirp(time_s, generator.uniform(300, 500), time_s[-1], generator.uniform(1500, 3000))
    return np.sqrt(2 * np.mean(audio**2)) * melody


def test_20_unchanged_draws_give_at_most_one_false_alarm(
    workspace: Path, unheard: list[Path], log_day: Callable[[datetime.date, list[bytes]], None]
) -> None:
    ctx, alarms = Context.load(workspace), []
    for i in range(DRAWS):
        day = TODAY - datetime.timedelta(days=10 + i)
        log_day(day, [path.read_bytes() for path in draw(unheard, i)])
        found = monitor(ctx, day)
        assert found["recordings"] == DRAWN
        assert all(not column["skipped"] for column in found["columns"].values())
        alarms += [found["drifted"]] if found["alarm"] else []
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize(
    ("shift", "column"),
    [(add_noise, "noise_dbfs"), (low_pass, "bandwidth_hz"), (turn_down, "rms_dbfs"), (sing, "embedding")],
)
def test_shifted_audio_is_reported_within_one_run(
    workspace: Path, unheard: list[Path], tmp_path: Path, shift: Callable[..., Sound], column: str
) -> None:
    for path in draw(unheard, 0):
        (tmp_path / path.name).write_bytes(change(path, shift))
    found = monitor(Context.load(workspace), source=tmp_path)
    assert found["alarm"]
    assert column in found["drifted"]


def test_other_classes_are_reported_within_one_run(
    workspace: Path, unheard: list[Path], log_day: Callable[[datetime.date, list[bytes]], None]
) -> None:
    day = TODAY - datetime.timedelta(days=5)
    log_day(day, [path.read_bytes() for path in unheard if path.stem[0] in "0123"])
    found = monitor(Context.load(workspace), day)
    assert "class" in found["drifted"]


def test_what_a_server_hears_is_watched_and_judged_by_the_commands(
    workspace: Path, unheard: list[Path], tmp_path: Path
) -> None:
    labels = ["request_id,label"]
    server = subprocess.Popen(
        [BIN / "audioml", "serve", "--port", "0"], cwd=workspace, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        for path in draw(unheard, 0):
            request = urllib.request.Request(
                f"{address}/predict", data=change(path, add_noise), headers={"Content-Type": "audio/wav"}
            )
            with urllib.request.urlopen(request) as reply:
                labels.append(f"{json.loads(reply.read())['request_id']},{path.stem[0]}")
    finally:
        server.terminate()
        server.wait(60)
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([*labels, "nobody,3"]))
    done = run_command("audioml", "feedback", str(file), cwd=workspace)
    assert f"{DRAWN} labels kept, 1 rows not used" in done.stdout
    assert f"row {DRAWN + 2}: the log has no recording 0 of request nobody" in done.stderr
    found = run_command("audioml", "monitor", "--day", str(TODAY), "--fail", "--json", cwd=workspace, ok=False)
    assert found.returncode == 1
    told = json.loads(found.stdout)
    assert "noise_dbfs" in told["drifted"]
    assert told["retest"]["n"] == DRAWN
    assert told["retest"]["failed"]
    shown = run_command("audioml", "monitor", "--day", str(TODAY), cwd=workspace)
    assert "DRIFTED" in shown.stdout
    assert "Noise floor drifted" in shown.stdout
