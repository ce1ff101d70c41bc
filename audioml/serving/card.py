"""The model's card: what a version is, how well it does, and what it was made from. `GET /model` answers with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from audioml.params import parse_section
from audioml.plugins import load_plugin
from audioml.registry.comparison import TEST
from audioml.registry.provenance import Provenance
from audioml.registry.versions import RegisteredVersion
from audioml.tasks._outputs import primary_of

if TYPE_CHECKING:
    from audioml.inference.description import Description

INTERVAL = ("low", "high", "n")


def make_card(version: RegisteredVersion, description: Description, provenance: Provenance) -> dict[str, Any]:
    """Return the card of a version, as JSON values.

    Returns
    -------
    dict
        - `name`, `version`, `aliases`, `task`, `features`, `network`
        - `labels`: of a task without labels, the units that it writes with
        - `sample_rate` in Hz and `window_s` in seconds (None where clips are taken whole): what the model hears
        - `headline`: `metric`, `value`, `low`, `high`, `n` (test clips) and `confidence` of the interval; None where
          the version was registered without that metric
        - `metrics`: all others of the test set; those of single labels as ``f1/<label>``
        - `trained`, `registered`: ISO 8601 in UTC, empty where it is not known
        - `withdrawn`: where recordings behind it were withdrawn since: how many, of which split, when, by whom and why;
          else None
        - `lineage`: run, data set, commit, version of audioml, digest of the package
    """
    task, features = description.task, description.features["params"]
    section = parse_section(load_plugin("tasks", task["name"]).Params, task["params"], "task")
    metrics = {
        name.removeprefix(TEST): value for name, value in version.metrics.items() if name.startswith(TEST)
    } or dict(version.metrics)
    lineage = asdict(provenance)
    times = {name: lineage.pop(name) for name in ("trained", "registered")}
    confidence, withdrawn = lineage.pop("confidence"), lineage.pop("withdrawn")
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "task": task["name"],
        "features": description.features["name"],
        "network": description.model["name"],
        "labels": description.targets.get("labels") or description.targets.get("units") or [],
        "sample_rate": features.get("sample_rate"),
        "window_s": None if description.input_shape[1] is None else features.get("duration_s"),
        "headline": _headline(primary_of(load_plugin("tasks", task["name"]), section), metrics, confidence),
        "metrics": {name: value for name, value in metrics.items() if name not in INTERVAL},
        **times,
        "withdrawn": withdrawn,
        "lineage": {**lineage, "package_digest": version.package_digest},
    }


def _headline(metric: str, metrics: dict[str, float], confidence: float | None) -> dict[str, Any] | None:
    if metric not in metrics:
        return None
    low, high, n = map(metrics.get, INTERVAL)
    return {
        "metric": metric,
        "value": metrics[metric],
        "low": low,
        "high": high,
        "n": None if n is None else int(n),
        "confidence": confidence,
    }
