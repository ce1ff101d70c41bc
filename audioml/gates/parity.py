"""A real server of the challenger answers its golden clips as the network did where it was trained."""

from __future__ import annotations

import math
from typing import Any

import httpx

from audioml.gates._evidence import Evidence, Verdict
from audioml.inference.description import read_description
from audioml.inference.golden import GOLDEN, read_golden
from audioml.params import Section
from audioml.plugins import load_plugin

TIMEOUT_S = 60.0


class Params(Section):
    """It has no keys: what may differ, through rounding, is the model's own."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Ask the server, and compare its answers with those that were stored."""
    golden = read_golden(evidence.challenger.package)
    if not golden:
        return Verdict(False, f"The package has no {GOLDEN} to compare with: an older audioml made it. Train again.")
    description = read_description(evidence.challenger.package)
    task, worst = load_plugin("tasks", description.task["name"]), 0.0
    with evidence.serve() as url:
        for clip in golden:
            response = httpx.post(f"{url}/predict", content=clip.audio, timeout=TIMEOUT_S)
            if response.status_code != httpx.codes.OK:
                return Verdict(False, f"The server answers golden clip {clip.clip_id[:12]} with {response.text}.")
            expected = task.describe(description.targets, clip.output)
            difference = find_difference(expected, response.json())
            if not difference <= clip.tolerance:
                return Verdict(
                    False,
                    f"The server's answer to golden clip {clip.clip_id[:12]} differs from that of the trained network "
                    f"by {difference:.3g}; at most {clip.tolerance:g} is rounding.",
                )
            worst = max(worst, difference)
    said = f"The server answers {len(golden)} golden clips as the trained network did, to {worst:.1g}."
    return Verdict(True, said, {"largest_difference": worst})


def find_difference(expected: Any, found: Any) -> float:
    """Return the largest difference of numbers in a JSON value; infinite where anything else differs.

    What is found may have keys beside those that are expected.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict) or not expected.keys() <= found.keys():
            return math.inf
        return max((find_difference(value, found[key]) for key, value in expected.items()), default=0.0)
    if isinstance(expected, (list, tuple)):
        if not isinstance(found, list) or len(expected) != len(found):
            return math.inf
        return max((find_difference(*pair) for pair in zip(expected, found, strict=True)), default=0.0)
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)) and not isinstance(expected, bool):
        return abs(expected - found) / max(1.0, abs(expected))
    return 0.0 if expected == found else math.inf
