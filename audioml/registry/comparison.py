"""The challenger beside the champion: their metrics, both on the same clips, and which of them is better."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audioml.errors import AudiomlError, RegistryError, ServiceError
from audioml.plugins import load_plugin
from audioml.registry.gating import Judgement, judge
from audioml.registry.history import CHAMPION, Event, read_history
from audioml.registry.lineage import DATASET_TAG
from audioml.registry.paired import compare_versions
from audioml.registry.tracking import mlflow_url, tracking
from audioml.registry.training_sets import read_mark
from audioml.registry.versions import CHALLENGER, METRIC_PREFIX, RegisteredVersion, resolve
from audioml.registry.workspace import Workspace
from audioml.tasks._outputs import primary_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TEST = "test_"
"""Metrics of the test set are registered under their names with this before them."""


@dataclass(frozen=True)
class Candidate:
    """A version as it stands for promotion."""

    version: int
    aliases: tuple[str, ...]
    run_id: str
    created: str
    """ISO 8601, in UTC."""
    dataset_digest: str
    """MD5 of the manifest that it was trained and measured on."""
    metrics: dict[str, float]
    run_url: str
    """Page of the run that trained it; empty where MLflow is no web server."""
    version_url: str
    history: tuple[dict[str, Any], ...]
    """What was decided about it: the fields of `audioml.registry.history.Event` each, oldest first."""
    rejected: str
    """Who rejected it, or went back from it, and why; empty if nobody did since it last became champion."""
    withdrawn: dict[str, Any] | None = None
    """What `audioml.registry.training_sets.read_mark` says: recordings behind it that were withdrawn since."""


def compare(ctx: Workspace, version: int | None = None) -> dict[str, Any]:
    """Compare the challenger of the workspace's model, or another version, with the champion.

    Returns
    -------
    dict
        JSON values:

        - `challenger`, `champion`: a `Candidate` each, or None
        - `primary`: the metric that decides; `higher_is_better`: its direction
        - `metrics`: a row (name, challenger's value, champion's value) for each metric, the primary one first, those
          of single labels last
        - `better`: challenger, champion or equal, by the primary metric on the same clips, or else as registered; None
          where one of them lacks it
        - `paired`: both on the test clips here, as `audioml.registry.paired.compare_versions` finds it; None where
          that can't be done, and `not_paired` says why not. Where it is there, it decides
        - `same_dataset`: whether both were measured on one dataset; `same_test_set`: whether it was split the same
          way too; None where that is not known
        - `gates`: what each of `registry.gates` says of the challenger, the fields of
          `audioml.registry.gating.GateResult`; empty where it is champion already
        - `promotable`: whether the challenger would be promoted without force; `reason`: why, or why not
    """
    import mlflow

    with tracking(ctx) as uri:
        client = mlflow.MlflowClient()
        return compare_with_champion(ctx, version, uri, read_history(client, ctx.model_name))


def compare_with_champion(ctx: Workspace, version: int | None, uri: str, events: list[Event]) -> dict[str, Any]:
    """Return what `compare` does, within `tracking`, which gave the `uri`; `events` are the model's history."""
    import mlflow

    client = mlflow.MlflowClient()
    challenger = _find(client, ctx, str(version) if version is not None else CHALLENGER, uri, events)
    champion = _find(client, ctx, CHAMPION, uri, events) if challenger else None
    task = load_plugin("tasks", ctx.params.task.name)
    higher_is_better: bool = getattr(task, "HIGHER_IS_BETTER", True)
    primary = TEST + primary_of(task, ctx.params.plugin_section("tasks"))
    better = same_test_set = paired = None
    not_paired = ""
    if challenger and champion and challenger.version != champion.version:
        paired, not_paired = _compare_paired(ctx, challenger, champion)
    if challenger and champion:
        figures = _figures(challenger, champion, primary, paired)
        better = _which_is_better(*figures, higher_is_better)
        same_test_set = _has_same_test_set(client, challenger, champion)
    promotable, reason = _judge(ctx.model_name, challenger, champion, primary, better, paired)
    digests = [c.dataset_digest for c in (challenger, champion) if c and c.dataset_digest]
    if same_test_set is False and paired:
        reason += " The champion was trained with another split or other data, and may know some of these clips."
    elif same_test_set is False:
        reason += " They were measured on different test sets."
    found = {
        "model": ctx.model_name,
        "primary": primary,
        "higher_is_better": higher_is_better,
        "challenger": asdict(challenger) if challenger else None,
        "champion": asdict(champion) if champion else None,
        "metrics": _tabulate(challenger, champion, primary),
        "better": better,
        "paired": paired,
        "not_paired": not_paired,
        "same_dataset": digests[0] == digests[1] if len(digests) == 2 else None,
        "same_test_set": same_test_set,
        "gates": [],
        "promotable": promotable,
        "reason": reason,
    }
    if challenger and not (champion and champion.version == challenger.version):
        against = _version_of(ctx, champion) if champion else None
        found |= _pass_gates(judge(ctx, client, _version_of(ctx, challenger), against, found), found)
    return found


def _pass_gates(judgement: Judgement, found: dict[str, Any]) -> dict[str, Any]:
    """Return what the gates change in a comparison."""
    against = [result for result in judgement.results if result.failed]
    said = "".join(f" Gate {result.name}: {result.said}" for result in against)
    return {
        "gates": [asdict(result) for result in judgement.results],
        "promotable": found["promotable"] and not against,
        "reason": found["reason"] + said,
    }


def _version_of(ctx: Workspace, candidate: Candidate) -> RegisteredVersion:
    return resolve(ctx, f"{ctx.model_name}@{candidate.version}")


def _compare_paired(ctx: Workspace, challenger: Candidate, champion: Candidate) -> tuple[dict[str, Any] | None, str]:
    """Return the comparison on the same clips, or None and why there is none."""
    try:
        return compare_versions(ctx, _version_of(ctx, challenger), _version_of(ctx, champion)), ""
    except ServiceError:
        raise
    except AudiomlError as error:
        return None, str(error)


def _figures(
    challenger: Candidate, champion: Candidate, primary: str, paired: dict[str, Any] | None
) -> tuple[float, float]:
    """Return the primary metric of both: on the same clips where that is known, else as they were registered."""
    if paired:
        return paired["ours"], paired["theirs"]
    return challenger.metrics.get(primary, math.nan), champion.metrics.get(primary, math.nan)


def _judge(
    model: str,
    challenger: Candidate | None,
    champion: Candidate | None,
    primary: str,
    better: str | None,
    paired: dict[str, Any] | None,
) -> tuple[bool, str]:
    """Return whether the challenger may become champion without force, and why or why not."""
    if challenger is None:
        return False, f"Model {model!r} has no challenger."
    name = f"Version {challenger.version} of {model!r}"
    if challenger.rejected:
        return False, f"{name} is not to be promoted: {challenger.rejected}."
    if champion is None:
        return True, f"{name} would be the first champion."
    if champion.version == challenger.version:
        return False, f"{name} is champion already."
    if better is None:
        lacking = [c.version for c in (challenger, champion) if math.isnan(c.metrics.get(primary, math.nan))]
        return False, f"{name} can't be compared: version {lacking[0]} has no {primary}."
    ours, theirs = _figures(challenger, champion, primary, paired)
    figures = f"{primary} {ours:.4g}, the champion (version {champion.version}) has {theirs:.4g}"
    relation = {"challenger": "is better", "equal": "is as good", "champion": "is worse"}[better]
    return better != "champion", f"{name} {relation}: {figures}{_describe_paired(paired) if paired else ''}."


def _describe_paired(paired: dict[str, Any]) -> str:
    return (
        f" on the same {paired['n']} test clips (difference {paired['difference']:+.4f}, "
        f"{100 * paired['confidence']:g} % interval {paired['low']:+.4f} to {paired['high']:+.4f}; "
        f"{paired['n_gained']} clips gained, {paired['n_lost']} lost, McNemar p = {paired['p_value']:.2g})"
    )


def _tabulate(challenger: Candidate | None, champion: Candidate | None, primary: str) -> list[list[Any]]:
    """Return metric, challenger's value, champion's value: the primary one first, those with parts last."""
    sides = [candidate.metrics if candidate else {} for candidate in (challenger, champion)]
    order = [primary, *sorted(sides[0] | sides[1], key=lambda name: ("/" in name, not name.startswith(TEST), name))]
    names = [name for name in dict.fromkeys(order) if any(name in side for side in sides)]
    return [[name, sides[0].get(name), sides[1].get(name)] for name in names]


def _which_is_better(ours: float, theirs: float, higher_is_better: bool) -> str | None:
    if math.isnan(ours) or math.isnan(theirs):
        return None
    if ours == theirs:
        return "equal"
    return "challenger" if (ours > theirs) == higher_is_better else "champion"


def _has_same_test_set(client: MlflowClient, challenger: Candidate, champion: Candidate) -> bool | None:
    """Return whether both were split from one data set in one way; None where that is not known."""
    if not challenger.dataset_digest or not champion.dataset_digest:
        return None
    splits = [_split_params(client, candidate.run_id) for candidate in (challenger, champion)]
    return challenger.dataset_digest == champion.dataset_digest and splits[0] == splits[1]


def _split_params(client: MlflowClient, run_id: str) -> dict[str, str]:
    params: dict[str, str] = client.get_run(run_id).data.params
    # Shares of the training clips change no test set.
    split = {k: value for k, value in params.items() if k.startswith("split.") and k != "split.train_shares"}
    by_column = split.get("split.folds", "null") != "null" and not split["split.folds"].isdecimal()
    fixed = by_column or any(split.get(key, "null") != "null" for key in ("split.test", "split.fold"))
    return split if fixed else split | {"seed": params.get("seed", "")}


def _find(client: MlflowClient, ctx: Workspace, which: str, uri: str, events: list[Event]) -> Candidate | None:
    """Return the version of a number or an alias; None when the alias is not given to any."""
    try:
        found = resolve(ctx, f"{ctx.model_name}@{which}")
    except RegistryError:
        if which in (CHALLENGER, CHAMPION):
            return None
        raise
    return describe_version(client.get_model_version(ctx.model_name, str(found.version)), uri, events)


def describe_version(version: ModelVersion, uri: str, events: list[Event]) -> Candidate:
    """Return a version of MLflow's as it stands for promotion."""
    base, number = mlflow_url(uri), int(version.version)
    own = [event for event in events if event.version == number and event.happened]
    return Candidate(
        version=number,
        aliases=tuple(sorted(version.aliases)),
        run_id=version.run_id or "",
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        dataset_digest=version.tags.get(DATASET_TAG, ""),
        metrics={
            key.removeprefix(METRIC_PREFIX): float(value)
            for key, value in sorted(version.tags.items())
            if key.startswith(METRIC_PREFIX)
        },
        run_url=f"{base}/#/runs/{version.run_id}" if base and version.run_id else "",
        version_url=f"{base}/#/models/{version.name}/versions/{version.version}" if base else "",
        history=tuple(asdict(event) for event in own),
        rejected=_find_rejection(events, number),
        withdrawn=read_mark(version.tags),
    )


def _find_rejection(events: list[Event], version: int) -> str:
    said = ""
    for event in events:
        if not event.happened:
            continue
        left = event.action == "rolled back" and event.champion_before == version
        if left or (event.action == "rejected" and event.version == version):
            said = f"{event.by} {'went back from' if left else 'rejected'} it: {event.reason}"
        elif event.version == version:
            said = ""
    return said
