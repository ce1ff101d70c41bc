"""The server beside `mlflow models serve` of the same registered model, one request alone, an alias that moves, memory.

    python benchmarks/bench_serving.py [--work FOLDER] [against-mlflow] [alone] [swap] [memory]

Real recordings are looked for in AUDIOML_TEST_DATA (default: ../shared/data beside the repository). The default model
is trained on FSDD once and kept in FOLDER. Requests come from wrk, which Debian has as a package of that name.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _workspaces import DATA, ENVIRONMENT, JOBS, REPOSITORY, change_params, run_audioml

from audioml.inference.predictor import Predictor

STEPS = ("ingest", "validate", "split", "featurize", "train", "evaluate", "register")
CLIPS = 200
"""Recordings that are sent in turn."""
CONNECTIONS = (1, 8, 64)
ROUNDS, SECONDS = 5, 5
ALONE_REQUESTS = 1000
SWAPS = 6
MEMORY_ROUNDS, MEMORY_ROUND_S = 6, 20
START_TIMEOUT_S = 120.0
SCRIPT = """
local bodies = {}
for name in io.lines("%(folder)s/names") do
  local file = io.open(name, "rb")
  bodies[#bodies + 1] = file:read("*all")
  file:close()
end
local i = 0
request = function()
  i = i %% #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "%(kind)s"}, bodies[i])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("{\\"requests\\": %%d, \\"us\\": %%d, \\"p50\\": %%f, \\"p99\\": %%f, \\"max\\": %%f, " ..
    "\\"failed\\": %%d}\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def open_digits(work: Path) -> Path:
    """Return a workspace with the default model of FSDD, trained and registered."""
    workspace = work / "digits"
    if not (workspace / "models" / "registered.json").exists():
        shutil.rmtree(workspace, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        run_audioml("init", str(workspace), *JOBS["digits"], cwd=work)
        for step in STEPS:
            run_audioml("run", step, cwd=workspace)
    return workspace


def choose_recordings() -> list[Path]:
    """Return recordings of the official test takes."""
    paths = sorted(path for path in (DATA / "fsdd" / "recordings").glob("*.wav") if int(path.stem.split("_")[2]) < 5)
    return paths[:: max(1, len(paths) // CLIPS)]


def write_script(folder: Path, bodies: Sequence[bytes], kind: str) -> Path:
    """Write what wrk is to send, and return its script."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{i}.body" for i in range(len(bodies))]
    for name, body in zip(names, bodies, strict=True):
        name.write_bytes(body)
    (folder / "names").write_text("".join(f"{name}\n" for name in names))
    script = folder / "script.lua"
    script.write_text(SCRIPT % {"folder": folder, "kind": kind})
    return script


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(command: Sequence[str], port: int, path: str, cwd: Path, log: Path) -> Iterator[str]:
    """Run a server for the block, from when it answers at `path`, and yield its address."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=ENVIRONMENT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                urllib.request.urlopen(f"{url}{path}", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} does not answer; see {log}") from None
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@contextmanager
def audioml_server(workspace: Path) -> Iterator[str]:
    """Run `audioml serve` for the block."""
    port = free_port()
    command = ["audioml", "serve", "--port", str(port)]
    with server(command, port, "/health/ready", workspace, workspace.parent / "audioml.log") as url:
        yield url


@contextmanager
def mlflow_server(workspace: Path) -> Iterator[str]:
    """Run `mlflow models serve` of the same package for the block."""
    port = free_port()
    package = workspace / "models" / "package"
    command = ["mlflow", "models", "serve", "-m", str(package), "--env-manager", "local", "--port", str(port)]
    with server(command, port, "/ping", workspace, workspace.parent / "mlflow.log") as url:
        yield url


def send(url: str, script: Path, connections: int, seconds: int = SECONDS) -> dict[str, float]:
    """Have wrk send requests and return what it measured: requests a second, latencies in ms, failures."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    match = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert match, done.stdout
    found = json.loads(match[0])
    milliseconds = {name: found[name] / 1000 for name in ("p50", "p99", "max")}
    return {"per_s": found["requests"] / found["us"] * 1e6, **milliseconds, "failed": found["failed"]}


def bench_against_mlflow(workspace: Path) -> None:
    """Both servers in turn, with the same recordings: bytes for one, base64 in JSON for the other and for both."""
    clips = [path.read_bytes() for path in choose_recordings()]
    records = [
        json.dumps({"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(clip).decode()]]}}).encode()
        for clip in clips
    ]
    raw = write_script(workspace.parent / "raw", clips, "audio/wav")
    wrapped = write_script(workspace.parent / "wrapped", records, "application/json")
    print("| connections | server | requests/s | p50, ms | p99, ms | failed | requests/s, ratio | p99, ratio |")
    print("|---|---|---|---|---|---|---|---|")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with mlflow_server(workspace) as mlflow, audioml_server(workspace) as audioml:
        ways = {
            "mlflow, /invocations": (f"{mlflow}/invocations", wrapped),
            "audioml, /invocations": (f"{audioml}/invocations", wrapped),
            "audioml, /predict": (f"{audioml}/predict", raw),
        }
        for url, script in ways.values():
            send(url, script, 8, seconds=3)
        # In turn, as a shared machine is not equally fast all the time.
        for connections in CONNECTIONS:
            for _ in range(ROUNDS):
                for name, (url, script) in ways.items():
                    found.setdefault((name, connections), []).append(send(url, script, connections))
    for connections in CONNECTIONS:
        base = median_of(found["mlflow, /invocations", connections])
        for name in ways:
            one = median_of(found[name, connections])
            print(
                f"| {connections} | {name} | {one['per_s']:.0f} | {one['p50']:.1f} | {one['p99']:.1f} | "
                f"{one['failed']:.0f} | {one['per_s'] / base['per_s']:.1f} | {one['p99'] / base['p99']:.2f} |"
            )


def median_of(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure; of failures the sum."""
    medians = {name: float(np.median([one[name] for one in rounds])) for name in rounds[0]}
    return {**medians, "failed": sum(one["failed"] for one in rounds)}


def bench_alone(workspace: Path) -> None:
    """One request at a time, beside decoding, features and network in this process."""
    clips = [path.read_bytes() for path in choose_recordings()]
    predictor = Predictor.load(workspace / "models" / "package" / "artifacts")
    seconds: dict[str, list[float]] = {"bare": [], "server": []}
    with audioml_server(workspace) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        for i in range(ALONE_REQUESTS + 100):
            clip = clips[i % len(clips)]
            start = time.perf_counter()
            predictor.predict([clip])
            between = time.perf_counter()
            connection.request("POST", "/predict", clip, {"Content-Type": "audio/wav"})
            assert json.loads(connection.getresponse().read())["label"]
            end = time.perf_counter()
            if i >= 100:
                seconds["bare"].append(between - start)
                seconds["server"].append(end - between)
        connection.close()
    bare, served = (1000 * float(np.median(seconds[name])) for name in ("bare", "server"))
    print(f"one request alone: p50 {served:.2f} ms, decoding, features and network bare {bare:.2f} ms, ", end="")
    print(f"{served - bare:.2f} ms more (goal: at most 2)")


def bench_swap(workspace: Path) -> None:
    """Move the champion's alias between two versions under full load."""
    script = write_script(workspace.parent / "raw", [path.read_bytes() for path in choose_recordings()], "audio/wav")
    from audioml.pipeline.context import Context
    from audioml.registry.tracking import tracking

    ctx = Context.load(workspace)
    with tracking(ctx):
        import mlflow

        client = mlflow.MlflowClient()
        versions = sorted(int(v.version) for v in client.search_model_versions(f"name = '{ctx.model_name}'"))
        if len(versions) < 2:
            # Two versions take turns: the second is trained from another seed.
            change_params(workspace, {"seed": 1})
            for step in STEPS:
                run_audioml("run", step, cwd=workspace)
            versions = [1, 2]
        client.set_registered_model_alias(ctx.model_name, "champion", str(versions[0]))
        with audioml_server(workspace) as url:
            send(f"{url}/predict", script, 8, seconds=5)
            steady = send(f"{url}/predict", script, 8, seconds=30)
            results: list[dict[str, float]] = []
            thread = threading.Thread(
                target=lambda: results.append(send(f"{url}/predict", script, 8, seconds=10 * SWAPS))
            )
            thread.start()
            served: list[int] = []
            for i in range(SWAPS - 1):
                time.sleep(8)
                client.set_registered_model_alias(ctx.model_name, "champion", str(versions[(i + 1) % 2]))
                served.append(json.load(urllib.request.urlopen(f"{url}/health/ready"))["model"]["version"])
            thread.join()
            changed = len(set(served))
    (moved,) = results
    print("| | requests/s | p50, ms | p99, ms | longest, ms | failed |\n|---|---|---|---|---|---|")
    for name, one in (("alias stays", steady), (f"alias moves {SWAPS - 1} times", moved)):
        print(f"| {name} | {one['per_s']:.0f} | {one['p50']:.1f} | {one['p99']:.1f} | {one['max']:.1f} |", end="")
        print(f" {one['failed']:.0f} |")
    ratio = moved["max"] / steady["p99"]
    print(f"versions seen: {changed}; longest over the steady p99: {ratio:.1f} (goal: at most 5)")


def bench_memory(workspace: Path) -> None:
    """Many requests, and what the server's process holds after each round of them."""
    clips = [path.read_bytes() for path in choose_recordings()]
    script = write_script(workspace.parent / "raw", clips, "audio/wav")
    sent, held = 0.0, []
    with audioml_server(workspace) as url:
        port = int(url.rsplit(":", 1)[1])
        process = next(p for p in psutil.process_iter() if any(c.laddr.port == port for c in listening(p)))
        for _ in range(MEMORY_ROUNDS):
            sent += MEMORY_ROUND_S * send(f"{url}/predict", script, 8, MEMORY_ROUND_S)["per_s"]
            held.append(process.memory_info().rss / 2**20)
            print(f"after {sent:,.0f} requests: {held[-1]:.0f} MiB", flush=True)
    print(f"from the second round to the last: {held[-1] - held[1]:+.1f} MiB")


def listening(process: psutil.Process) -> list[Any]:
    """Return the sockets at which a process listens; none where it may not be asked."""
    try:
        return [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return []


BENCHMARKS = {"against-mlflow": bench_against_mlflow, "alone": bench_alone, "swap": bench_swap, "memory": bench_memory}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "serving")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed; on Debian: apt-get install wrk")
    workspace = open_digits(options.work.resolve())
    for name in options.names or BENCHMARKS:
        BENCHMARKS[name](workspace)


if __name__ == "__main__":
    main()
