"""A script in the place of audioml's command line."""

import json
import sys

import pytest

FAKE = """
import json, os, signal, sys
answers = json.load(open("answers.json"))
with open("calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
answer = answers.get(sys.argv[1], {})
if isinstance(answer, dict) and "signal" in answer:
    os.kill(os.getpid(), answer["signal"])
if isinstance(answer, dict) and "error" in answer:
    print("Error", answer["error"], file=sys.stderr)
    sys.exit(answer.get("status", 1))
print(json.dumps(answer))
"""


@pytest.fixture
def fake(workspace, monkeypatch):
    """Put a script in the place of audioml's command line; returns how to set its answers and read its calls."""
    from audioml.orchestration.airflow import operators

    (workspace / "fake.py").write_text(FAKE)
    monkeypatch.setattr(operators, "command", lambda *arguments: [sys.executable, "fake.py", *arguments])

    def answer(**answers):
        (workspace / "answers.json").write_text(json.dumps(answers))

    def calls():
        path = workspace / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    return answer, calls
