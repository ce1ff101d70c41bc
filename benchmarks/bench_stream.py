"""Live streams of spoken digits against a server: the first partial answer, CPU time, and 40 streams at once.

    python benchmarks/bench_stream.py [WORKSPACE]

WORKSPACE holds the registered model of the job `digits`; without one it is trained. Recordings are looked for in
AUDIOML_TEST_DATA (default: ../shared/data beside the repository). Server and client are a process each. The client
sends what a microphone at 16 kHz would have recorded, 20 ms a message, when it would have.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
import soxr
import websockets
from _workspaces import DATA, ENVIRONMENT, JOBS

from audioml.ports import listen, port_of

RATE, WORD_RATE, MESSAGE_S = 16000, 8000, 0.02
STREAMS, DURATION_S = 40, 60.0
GAPS_S = (0.7, 1.3)
"""Of noise between words, drawn evenly."""
NOISE_DBFS = -70.0
FRAME_S, SPEECH_BELOW_PEAK_DB = 0.01, 25.0
"""A word starts, in its recording, with the first frame that is no further below its loudest one."""
END_SILENCE_S, PAD_S = 0.5, 0.2
"""Of the server: it answers when so much silence has followed; of that, so much belongs to the utterance."""
LATE_S = 0.25
"""An answer that comes later than this after the audio that it needed is late."""


@dataclass
class Talk:
    """Words with pauses between them, and what came back."""

    samples: np.ndarray
    """int16, at `RATE`."""
    words: list[tuple[str, float]]
    """Label and start of speech in seconds."""
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Seconds from the stream's start to the arrival of a message, and the message."""


def make_talk(generator: np.random.Generator, duration_s: float) -> Talk:
    """Join drawn test recordings of FSDD with pauses of faint noise."""
    files = [path for path in sorted((DATA / "fsdd" / "recordings").iterdir()) if int(path.stem.split("_")[2]) < 5]
    parts: list[np.ndarray] = []
    words: list[tuple[str, float]] = []
    n_samples = 0
    while n_samples < (duration_s - 3) * WORD_RATE:
        path = files[generator.integers(len(files))]
        word, _ = soundfile.read(path, dtype="float32")
        gap = np.zeros(int(generator.uniform(*GAPS_S) * WORD_RATE), np.float32)
        words.append((path.name[0], (n_samples + len(gap)) / WORD_RATE + find_speech(word)))
        parts += [gap, word]
        n_samples += len(gap) + len(word)
    audio = np.concatenate([*parts, np.zeros(int(duration_s * WORD_RATE) - n_samples, np.float32)])
    audio += generator.normal(0, 10 ** (NOISE_DBFS / 20), len(audio)).astype(np.float32)
    resampled = soxr.resample(audio, WORD_RATE, RATE)
    return Talk(np.clip(np.round(resampled * 32768), -32768, 32767).astype("<i2"), words)


def find_speech(word: np.ndarray) -> float:
    """Return where speech starts in a recording, in seconds."""
    hop = int(FRAME_S * WORD_RATE)
    frames = word[: len(word) // hop * hop].reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    return int(np.argmax(power >= power.max() * 10 ** (-SPEECH_BELOW_PEAK_DB / 10))) * FRAME_S


async def speak(talk: Talk, address: str, wait_s: float) -> None:
    """Send a talk at its own pace, and keep what comes back."""
    async with websockets.connect(f"{address}/stream?sample_rate={RATE}", compression=None) as connection:
        await connection.recv()
        await asyncio.sleep(wait_s)
        start = time.perf_counter()

        async def send() -> None:
            size = int(MESSAGE_S * RATE)
            for i in range(0, len(talk.samples), size):
                part = talk.samples[i : i + size]
                await asyncio.sleep(max(0.0, start + (i + len(part)) / RATE - time.perf_counter()))
                await connection.send(part.tobytes())
            await connection.send('{"type":"end"}')

        sending = asyncio.create_task(send())
        async for message in connection:
            talk.events.append((time.perf_counter() - start, json.loads(message)))
        await sending


async def speak_all(talks: list[Talk], address: str) -> None:
    """Hold all talks at once; none starts with another."""
    generator = np.random.default_rng(1)
    await asyncio.gather(*(speak(talk, address, generator.uniform(0, 1)) for talk in talks))


def measure_first(talks: list[Talk]) -> np.ndarray:
    """Return, in seconds, how long after the start of each word its first partial answer came; infinite if none did."""
    waits = []
    for talk in talks:
        first: dict[int, float] = {}
        for came_s, event in talk.events:
            if event["type"] == "partial":
                first.setdefault(event["utterance"], came_s)
        finals = [event for _, event in talk.events if event["type"] == "final"]
        for _, start_s in talk.words:
            heard = [event["utterance"] for event in finals if event["start_s"] <= start_s < event["end_s"]]
            waits.append(first[heard[0]] - start_s if heard else np.inf)
    return np.array(waits)


def measure_lateness(talks: list[Talk]) -> np.ndarray:
    """Return, in seconds, how long after the audio that it needed each answer came."""
    late = []
    for talk in talks:
        for came_s, event in talk.events:
            if event["type"] == "partial":
                late.append(came_s - event["start_s"] - event["heard_s"])
            elif event["type"] == "final":
                late.append(came_s - (event["end_s"] - PAD_S + END_SILENCE_S))
    return np.array(late)


def describe_ms(values_s: np.ndarray) -> str:
    """Return median, 95 % and maximum as text, in milliseconds."""
    return " | ".join(f"{1000 * np.quantile(values_s, share, method='higher'):.0f}" for share in (0.5, 0.95, 1))


def measure(n_streams: int, server: psutil.Process, address: str) -> None:
    """Hold streams at once and print a row."""
    talks = [make_talk(np.random.default_rng([n_streams, i]), DURATION_S) for i in range(n_streams)]
    before = server.cpu_times()
    asyncio.run(speak_all(talks, address))
    after = server.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    finals = [[event["label"] for _, event in talk.events if event["type"] == "final"] for talk in talks]
    labels = [[label for label, _ in talk.words] for talk in talks]
    n_words = sum(map(len, labels))
    right = sum(a == b for found, true in zip(finals, labels, strict=True) for a, b in zip(found, true, strict=False))
    lateness = measure_lateness(talks)
    cells = [
        str(n_streams),
        f"{n_words}",
        f"{sum(map(len, finals))}",
        f"{right / n_words:.3f}",
        describe_ms(measure_first(talks)),
        describe_ms(lateness),
        f"{(lateness > LATE_S).sum()} of {len(lateness)}",
        f"{cpu_s / (n_streams * DURATION_S):.4f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def run(workspace: Path) -> None:
    """Serve the workspace's model, measure, and stop the server."""
    with listen("127.0.0.1", None, "bench_stream") as free:
        port = port_of(free)
    command = ["audioml", "serve", "--model", "digits@challenger", "--port", str(port)]
    process = subprocess.Popen(command, cwd=workspace, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        print(
            f"{DURATION_S:g} s of audio a stream; late: an answer more than {1000 * LATE_S:g} ms after the audio that "
            "it needed. Goals: first partial 150 ms, 40 streams with none late, CPU time 0.02 of the audio's."
        )
        print(
            "| streams | words | utterances | right | first partial, ms: median | 95 % | most "
            "| behind the audio, ms: median | 95 % | most | late | CPU time / audio |\n" + "|---" * 12 + "|"
        )
        for n_streams in (1, STREAMS):
            measure(n_streams, psutil.Process(process.pid), f"ws://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Train if need be, and measure."""
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "digits"
        quiet = {"env": ENVIRONMENT, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["audioml", "init", str(workspace), *JOBS["digits"]], **quiet)
        subprocess.run(["dvc", "repro"], cwd=workspace, **quiet)
        run(workspace)


if __name__ == "__main__":
    main()
