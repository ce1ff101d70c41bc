"""The history of a model's champions: who made which version champion, when, why, and what the gates said.

It is kept in the registry, as params of one MLflow run: MLflow refuses to change a param, so entries are only ever
added, and of two programs that add the next one at once, one wins and the other is told. Each entry holds the hash of
the one before, so that one that was changed or removed behind MLflow's back shows.

A champion is made in three writes: the entry, the alias, the entry's outcome. Wherever it is broken off, the alias says
which version is champion, and the next that looks can tell from it what came of the entry.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from audioml.errors import RegistryError
from audioml.registry.runs import experiment_of
from audioml.registry.workspace import Workspace
from audioml.store.files import hash_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
HISTORY_TAG = "audioml.history"
"""Of a registered model: the run that holds its history."""
RUN_NAME = "history of {}"
PART_TAG, PART = "audioml.part", "history"
OUTCOME = ".outcome"
PATIENCE_S = 30.0
"""An entry without outcome that is younger may still be at work; an older one was broken off."""
MAX_REASON = 2000
"""Characters, of the 6,000 that a param takes."""
Action = Literal["promoted", "rolled back", "rejected"]


@dataclass(frozen=True)
class Event:
    """One entry."""

    number: int
    """From 1."""
    time: str
    """ISO 8601, in UTC."""
    action: Action
    version: int
    """That became champion, or was rejected."""
    champion_before: int | None
    by: str
    reason: str
    forced: bool = False
    """Whether gates or a comparison spoke against it."""
    failed_gates: tuple[str, ...] = ()
    previous: str = ""
    """SHA-256 of the entry before; of none for the first."""
    outcome: str = ""
    """`done`, or what came in the way; empty while it is not known."""

    @property
    def happened(self) -> bool:
        """Whether it took effect."""
        return self.outcome == "done"


def read_history(client: MlflowClient, model: str) -> list[Event]:
    """Return all entries, oldest first; the outcome of the last one follows from the alias where it is not written.

    A model that is not registered, or none of whose versions was ever champion, has none.

    Raises
    ------
    RegistryError
        When an entry is missing, or is not the one that the next one follows.
    """
    registered = next(iter(client.search_registered_models(f"name = '{model}'")), None)
    run_id = registered.tags.get(HISTORY_TAG) if registered else None
    if not registered or not run_id:
        return []
    params = client.get_run(run_id).data.params
    events: list[Event] = []
    previous = ""
    for number in range(1, 1 + sum(key.isdecimal() for key in params)):
        text = params.get(_key(number))
        entry = json.loads(text) if text else {}
        if entry.get("previous") != previous:
            raise RegistryError(
                f"The history of {model!r} was changed: entry {number} in MLflow's run {run_id} is "
                f"{'not the one that was written' if text else 'missing'}. Restore the registry from a backup."
            )
        previous = hash_json(entry)
        outcome = params.get(_key(number) + OUTCOME, "")
        events.append(Event(**entry | {"failed_gates": tuple(entry["failed_gates"]), "outcome": outcome}))
    if events and not events[-1].outcome:
        events[-1] = replace(events[-1], outcome=_find_outcome(events[-1], registered.aliases.get(CHAMPION)))
    return events


def add_event(
    client: MlflowClient,
    ctx: Workspace,
    events: list[Event],
    action: Action,
    version: int,
    *,
    by: str,
    reason: str,
    forced: bool = False,
    failed_gates: tuple[str, ...] = (),
) -> Event:
    """Add an entry behind those that were read, and do what it says: the version becomes champion, or nothing moves.

    Needs `audioml.registry.tracking.tracking` around it.

    Parameters
    ----------
    client
        MLflow's.
    ctx
        The workspace.
    events
        What `read_history` gave when it was decided.
    action, version, by, reason, forced, failed_gates
        See `Event`.

    Raises
    ------
    RegistryError
        When the history has an entry since that was not read, or one that is not through yet.
    """
    run_id = _open(client, ctx)
    champion = client.get_registered_model(ctx.model_name).aliases.get(CHAMPION)
    previous = _settle(client, ctx.model_name, run_id, events)
    now = datetime.now(UTC)
    event = Event(
        number=len(events) + 1,
        time=now.isoformat(timespec="microseconds"),
        action=action,
        version=version,
        champion_before=int(champion) if champion else None,
        by=by,
        reason=reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…",
        forced=forced,
        failed_gates=failed_gates,
        previous=previous,
    )
    _write(client, ctx.model_name, run_id, event)
    if action != "rejected":
        client.set_registered_model_alias(ctx.model_name, CHAMPION, str(version))
    if not _conclude(client, run_id, event.number, "done"):
        # Whoever waited for too long has written it off, and others may have gone on from there.
        crowned = [e.version for e in read_history(client, ctx.model_name) if e.happened and e.action != "rejected"]
        if crowned or champion:
            client.set_registered_model_alias(ctx.model_name, CHAMPION, str(crowned[-1] if crowned else champion))
        raise RegistryError(
            f"Version {version} of {ctx.model_name!r} took more than {PATIENCE_S:g} s to be {action}, and somebody "
            "else went on without it. Look at: audioml models history"
        )
    return replace(event, outcome="done")


def _settle(client: MlflowClient, model: str, run_id: str, events: list[Event]) -> str:
    """See that the last entry is through; return its hash."""
    if not events:
        return ""
    last = events[-1]
    if not last.outcome:
        raise RegistryError(
            f"Version {last.version} of {model!r} is being {last.action} by {last.by} at this moment. Look what came "
            "of it with: audioml models history"
        )
    _conclude(client, run_id, last.number, last.outcome)
    return hash_json(_entry(last))


def _find_outcome(event: Event, champion: str | None) -> str:
    """Return what came of an entry without outcome; an empty string if it may be at work."""
    if event.action == "rejected" or champion == str(event.version):
        return "done"
    if champion == (str(event.champion_before) if event.champion_before else None):
        age_s = (datetime.now(UTC) - datetime.fromisoformat(event.time)).total_seconds()
        return "" if age_s < PATIENCE_S else "interrupted: the champion stayed"
    return f"overtaken: version {champion} was made champion by other means"


def _open(client: MlflowClient, ctx: Workspace) -> str:
    """Return the run that holds the history, made if need be."""
    run_id: str | None = client.get_registered_model(ctx.model_name).tags.get(HISTORY_TAG)
    if run_id:
        return run_id
    name = RUN_NAME.format(ctx.model_name)
    run = client.create_run(experiment_of(client, ctx), tags={PART_TAG: PART}, run_name=name)
    client.set_terminated(run.info.run_id)
    client.set_registered_model_tag(ctx.model_name, HISTORY_TAG, run.info.run_id)
    return str(client.get_registered_model(ctx.model_name).tags[HISTORY_TAG])


def _write(client: MlflowClient, model: str, run_id: str, event: Event) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.log_param(run_id, _key(event.number), json.dumps(_entry(event), ensure_ascii=False))
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        other = read_history(client, model)[event.number - 1]
        raise RegistryError(
            f"Version {event.version} of {model!r} was not {event.action}: meanwhile version {other.version} was "
            f"{other.action} by {other.by} ({other.reason}). Compare anew with: audioml models compare"
        ) from None


def _conclude(client: MlflowClient, run_id: str, number: int, outcome: str) -> bool:
    """Write an entry's outcome, once; tell whether it has this one."""
    from mlflow.exceptions import MlflowException

    key = _key(number) + OUTCOME
    try:
        client.log_param(run_id, key, outcome)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        return bool(client.get_run(run_id).data.params.get(key) == outcome)
    return True


def _key(number: int) -> str:
    return f"{number:06d}"


def _entry(event: Event) -> dict[str, Any]:
    """Return what is written of an event."""
    entry = asdict(event)
    del entry["outcome"]
    return entry | {"failed_gates": list(event.failed_gates)}
