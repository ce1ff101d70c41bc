"""Which version is champion: promote the challenger, reject it, or go back; with who, when and why for ever."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audioml.errors import RegistryError
from audioml.registry.comparison import Candidate, compare_with_champion, describe_version
from audioml.registry.gating import read_judgement
from audioml.registry.history import Event, add_event, read_history
from audioml.registry.provenance import trace_version
from audioml.registry.tracking import tracking
from audioml.registry.versions import CHALLENGER, CHAMPION, find_model, resolve
from audioml.registry.workspace import Workspace


def list_candidates(ctx: Workspace) -> list[Candidate]:
    """Return all versions of the workspace's model, newest first.

    Raises
    ------
    RegistryError
        When no version is registered.
    """
    import mlflow

    with tracking(ctx) as uri:
        client = mlflow.MlflowClient()
        find_model(client, ctx.model_name)
        events = read_history(client, ctx.model_name)
        found = client.search_model_versions(f"name = '{ctx.model_name}'")
        numbers = sorted((int(version.version) for version in found), reverse=True)
        # A search does not say which aliases a version has.
        versions = [client.get_model_version(ctx.model_name, str(number)) for number in numbers]
        return [describe_version(version, uri, events) for version in versions]


def list_events(ctx: Workspace) -> list[Event]:
    """Return the history of the workspace's model, oldest first.

    Raises
    ------
    RegistryError
        When no version is registered, or the history was changed behind the registry's back.
    """
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        find_model(client, ctx.model_name)
        return read_history(client, ctx.model_name)


def show(ctx: Workspace, version: int | None = None) -> dict[str, Any]:
    """Return all that the registry knows of the champion of the workspace's model, or of another version.

    Returns
    -------
    dict
        JSON values: `model`, `version`, `about` (aliases, who rejected it, and the fields of
        `audioml.registry.provenance.Provenance`), `metrics`, `gates` (what they said last; empty if they were never
        asked) and `history` (what was decided about it, oldest first).

    Raises
    ------
    RegistryError
        When there is no such version, or no champion.
    """
    import mlflow

    with tracking(ctx) as uri:
        client = mlflow.MlflowClient()
        found = resolve(ctx, f"{ctx.model_name}@{version or CHAMPION}")
        registered = client.get_model_version(found.name, str(found.version))
        candidate = describe_version(registered, uri, read_history(client, found.name))
        judgement = read_judgement(registered)
        own = {"aliases": ", ".join(candidate.aliases), "rejected": candidate.rejected}
        about = {**own, **asdict(trace_version(found))}
    return {
        "model": found.name,
        "version": found.version,
        "about": about,
        "metrics": candidate.metrics,
        "gates": [asdict(result) for result in judgement.results] if judgement else [],
        "history": list(candidate.history),
    }


def promote(
    ctx: Workspace,
    version: int | None = None,
    *,
    by: str,
    reason: str,
    force: bool = False,
    instead_of: int | None = None,
) -> dict[str, Any]:
    """Make the challenger, or another version, the champion of the workspace's model.

    Parameters
    ----------
    ctx
        The workspace.
    version
        Its number; None takes the challenger.
    by, reason
        Who wants it, and why; both are kept.
    force
        Also if it is worse than the champion, can't be compared with it, fails a gate or was rejected. The history says
        so.
    instead_of
        The version that must be champion now, 0 for none, as whoever decided saw it. None does not look.

    Returns
    -------
    dict
        What `audioml.registry.comparison.compare` said before, and `promoted`: False when the version is champion
        already; else `promotion`: the fields of `Event`.

    Raises
    ------
    RegistryError
        When there is no such version, it is worse than the champion, fails a gate or was rejected and `force` is not
        set, another one than `instead_of` is champion, or somebody else moved the champion meanwhile.
    """
    import mlflow

    _check_said(by, reason, "A promotion")
    with tracking(ctx) as uri:
        client = mlflow.MlflowClient()
        events = read_history(client, ctx.model_name)
        comparison = compare_with_champion(ctx, version, uri, events)
        challenger, champion = comparison["challenger"], comparison["champion"]
        if challenger is None:
            raise RegistryError(f"{comparison['reason']} Make one with: audioml run register")
        if champion is not None and champion["version"] == challenger["version"]:
            return comparison | {"promoted": False}
        now_champion = champion["version"] if champion else 0
        if instead_of not in (None, now_champion):
            raise RegistryError(
                f"Version {challenger['version']} of {ctx.model_name!r} was to follow version {instead_of or 'none'}, "
                f"but version {now_champion or 'none'} is champion by now. Compare anew with: audioml models compare"
            )
        if not comparison["promotable"] and not force:
            raise RegistryError(f"{comparison['reason']} To promote it all the same: --force")
        event = add_event(
            client,
            ctx,
            events,
            "promoted",
            challenger["version"],
            by=by,
            reason=reason,
            forced=not comparison["promotable"],
            failed_gates=tuple(gate["name"] for gate in comparison["gates"] if gate["passed"] is False),
        )
        return comparison | {"promoted": True, "promotion": asdict(event)}


def crown_first(ctx: Workspace, version: int) -> str:
    """Make a version the champion where there is none, if it passes the gates; return why not, if so.

    Where people decide (`airflow.promote`), they decide on the first one too.
    """
    import mlflow

    with tracking(ctx):
        aliases = mlflow.MlflowClient().get_registered_model(ctx.model_name).aliases
    if CHAMPION in aliases or ctx.params.airflow.promote != "auto":
        return ""
    try:
        promote(ctx, version, by="audioml run register", reason="the first version", instead_of=0)
    except RegistryError as error:
        return str(error)
    return ""


def reject(ctx: Workspace, version: int | None = None, *, by: str, reason: str) -> Event:
    """Say that the challenger, or another version, shall not become champion, and take its alias `challenger`.

    Raises
    ------
    RegistryError
        When there is no such version, it is champion, or somebody else decided meanwhile.
    """
    import mlflow

    _check_said(by, reason, "A rejection")
    with tracking(ctx):
        client = mlflow.MlflowClient()
        found = resolve(ctx, f"{ctx.model_name}@{version or CHALLENGER}")
        if CHAMPION in found.aliases:
            raise RegistryError(
                f"Version {found.version} of {ctx.model_name!r} is champion. Go back to the one before with: "
                "audioml models rollback"
            )
        events = read_history(client, ctx.model_name)
        event = add_event(client, ctx, events, "rejected", found.version, by=by, reason=reason)
        if CHALLENGER in found.aliases:
            client.delete_registered_model_alias(ctx.model_name, CHALLENGER)
        return event


def rollback(ctx: Workspace, to: int | None = None, *, by: str, reason: str) -> Event:
    """Make the champion before the present one champion again, or an older one.

    The one that is left is not promoted again without force.

    Raises
    ------
    RegistryError
        When there is no champion before, `to` never was one, or somebody else moved the champion meanwhile.
    """
    import mlflow

    _check_said(by, reason, "A rollback")
    with tracking(ctx):
        client = mlflow.MlflowClient()
        champion = resolve(ctx, f"{ctx.model_name}@{CHAMPION}").version
        events = read_history(client, ctx.model_name)
        earlier = find_earlier_champions(events, champion)
        if not earlier:
            raise RegistryError(f"Version {champion} is the first champion of {ctx.model_name!r}: none to go back to.")
        target = earlier[-1] if to is None else to
        if target not in earlier:
            raise RegistryError(
                f"Version {target} of {ctx.model_name!r} was not champion before version {champion}; there were: "
                f"{', '.join(map(str, earlier))}. To make another one champion: audioml models promote"
            )
        resolve(ctx, f"{ctx.model_name}@{target}")
        return add_event(client, ctx, events, "rolled back", target, by=by, reason=reason)


def find_earlier_champions(events: list[Event], champion: int) -> list[int]:
    """Return the versions that were champion before this one, each once, the latest last."""
    line: list[int] = []
    for event in events:
        if not event.happened or event.action == "rejected":
            continue
        if event.action == "rolled back" and event.version in line:
            del line[line.index(event.version) :]
        line = [*(version for version in line if version != event.version), event.version]
    return [version for version in line if version != champion]


def _check_said(by: str, reason: str, what: str) -> None:
    if not by.strip() or not reason.strip():
        raise RegistryError(f"{what} needs to say who wants it and why. Give both, such as: --by ann --reason …")
