"""Minutes of broken requests to a real server: `python -m tests.serving.fuzz WORKSPACE [MINUTES]`.

It ends with an error when the server fails at one, dies, does not answer a whole recording afterwards, or when its
memory grows from the second half of the time to the end. What a shorter run of the same requests finds is in
test_fuzz.py.
"""

from __future__ import annotations

import collections
import http.client
import json
import re
import subprocess
import sys
import time
from contextlib import suppress

import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.serving._broken_audio import Breaker, whole_files

MAX_GROWTH_MIB = 20.0
REPORT_S = 30.0


def main(workspace: str, minutes: float = 10.0) -> None:
    """Send requests until the time is over."""
    command = [sys.executable, "-m", "audioml", "serve", "--port", "0", "--workspace", workspace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            found = re.search(r"http://([0-9.:]+)", server.stdout.readline())
            assert found, "the server does not start"
            _send(found[1], psutil.Process(server.pid), 60 * minutes)
        finally:
            server.terminate()
    if server.returncode not in (0, -15):
        sys.exit(f"the server ended with {server.returncode}")


def _send(address: str, process: psutil.Process, seconds: float) -> None:
    breaker, statuses, memory = Breaker(seed=1), collections.Counter[int](), list[tuple[float, float]]()
    start = time.monotonic()
    last = start
    connection, streams = http.client.HTTPConnection(address, timeout=60), 0
    while (now := time.monotonic()) < start + seconds:
        if statuses.total() % 5 == 0:
            _stream(address, breaker)
            streams += 1
        request = breaker.request()
        connection.request("POST", request.path, request.body, {"Content-Type": request.content_type})
        response = connection.getresponse()
        response.read()
        statuses[response.status] += 1
        if response.status >= 500:
            sys.exit(f"status {response.status} for {request.path}, {request.content_type}: {request.body[:500]!r}")
        if now >= last + REPORT_S:
            last = now
            memory.append((now, process.memory_info().rss / 2**20))
            sys.stdout.write(
                f"{now - start:5.0f} s, {statuses.total()} requests, {streams} streams, {memory[-1][1]:.0f} MiB\n"
            )
            sys.stdout.flush()
    connection.request("POST", "/predict", whole_files()[0])
    assert connection.getresponse().status == 200, "a whole recording is not answered any more"
    later = [mib for at, mib in memory if at > start + seconds / 2]
    sys.stdout.write(f"statuses: {dict(sorted(statuses.items()))}; memory {[round(mib) for _, mib in memory]} MiB\n")
    if later and later[-1] - later[0] > MAX_GROWTH_MIB:
        sys.exit(f"memory grew by {later[-1] - later[0]:.0f} MiB in the second half")


def _stream(address: str, breaker: Breaker) -> None:
    asked = breaker.stream()
    with suppress(ConnectionClosed, TimeoutError), connect(f"ws://{address}/stream?{asked.query}") as stream:
        for message in asked.messages:
            stream.send(message)
        while True:
            content = json.loads(stream.recv(timeout=60 if asked.messages[-1:] == ['{"type": "end"}'] else 0.01))
            if content.get("reason") == "internal":
                sys.exit(f"a stream failed: {asked.query}, {[message[:50] for message in asked.messages]!r}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
