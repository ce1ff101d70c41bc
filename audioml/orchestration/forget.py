"""`audioml forget`: withdraw recordings, have DVC see it, and say what is left to do and where copies stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audioml.errors import StepError
from audioml.lineage.withdrawal import Forgotten, choose_recordings, withdraw
from audioml.orchestration import dvc, lease
from audioml.pipeline.check import DAMAGED
from audioml.pipeline.context import Context
from audioml.store.files import write_text
from audioml.store.withdrawn import WITHDRAWN

DVC_YAML = "dvc.yaml"


@dataclass(frozen=True)
class Remainder:
    """A place where copies or traces of withdrawn recordings stay."""

    where: str
    what: str
    remedy: str
    """How they go, if they shall."""


def forget(
    ctx: Context, references: Sequence[str], group: str | None, *, by: str, reason: str, jobs: int | None = None
) -> dict[str, Any]:
    """Withdraw recordings from a workspace.

    Parameters
    ----------
    ctx, references, group
        As `audioml.lineage.withdrawal.choose_recordings` takes them.
    by, reason, jobs
        As `audioml.lineage.withdrawal.withdraw` takes them.

    Returns
    -------
    dict
        JSON values: what `Forgotten.describe` says, ``remains`` (a `Remainder` each) and ``next``, the commands to run.

    Raises
    ------
    StepError
        When dvc.yaml is not as rendered, or a run works in the workspace: what it trained on recordings that leave
        meanwhile would be recorded as trained without them.
    ParamsError, StoreError, DatasetError
        As those two say.
    """
    _check_idle(ctx)
    if ctx.path(DVC_YAML).exists():
        # Before anything is done: after it, a new rendering could hide an edit of the user's.
        dvc.check_rendering(ctx)
    forgotten = withdraw(ctx, choose_recordings(ctx, references, group), by=by, reason=reason, jobs=jobs)
    if ctx.path(DVC_YAML).exists():
        write_text(ctx.path(DVC_YAML), dvc.render_workspace(ctx))
    return {
        **forgotten.describe(),
        "remains": [vars(remainder) for remainder in list_remainders(ctx, forgotten)],
        "next": [
            "dvc repro    (or trigger the workspace's DAG: it trains without them and registers a challenger)",
            f"git add {WITHDRAWN} {DVC_YAML} dvc.lock && git commit -m 'Withdraw recordings'",
        ],
    }


def _check_idle(ctx: Context) -> None:
    if holder := lease.read_holder(ctx.workspace):
        raise StepError(
            f"The DAG run {holder.key} works in {ctx.workspace}. Withdraw recordings once it has ended. (If its "
            f"Airflow was killed, and it has, remove {ctx.state / lease.FILE}.)"
        )
    if process := dvc.find_repro(ctx):
        raise StepError(f"DVC runs a stage of {ctx.workspace} (process {process}). Withdraw recordings after it.")


def list_remainders(ctx: Context, forgotten: Forgotten) -> list[Remainder]:
    """Return where copies and traces of withdrawn recordings stay, and how each of them goes."""
    own = [learner for learner in forgotten.learners if not learner.via]
    carriers = [learner.version.key for learner in own if learner.clips["packaged"].any()]
    tested = [learner.version.key for learner in own if learner.clips["split"].ne("train").any()]
    found = [
        Remainder(
            "the source", "the files themselves; ingest leaves them out by their SHA-256", "delete them where they are"
        ),
        Remainder(
            "DVC's cache and remotes",
            "packed shards and features of earlier data sets",
            "after the next dvc repro and commit: dvc gc --workspace, and dvc gc --workspace --cloud",
        ),
        Remainder(
            "data/splits.parquet, models/, reports/", "ids, and audio in the present package and report", "dvc repro"
        ),
    ]
    if forgotten.learners:
        names = ", ".join(learner.version.key for learner in forgotten.learners)
        found.append(
            Remainder(
                "MLflow",
                f"{names}: what their weights learned; paths and hashes in the lists of their clips",
                "once another version is champion, delete the version and its run in MLflow, then: mlflow gc",
            )
        )
    if carriers:
        found.append(
            Remainder(
                "packages in MLflow, and their copies in .audioml/models/",
                f"audio, as golden clip or example: {', '.join(carriers)}",
                "the same; then delete .audioml/models/ here and on every server's machine",
            )
        )
    if tested:
        found.append(
            Remainder(
                "evaluation reports in MLflow",
                f"may play them among the worst mistakes: {', '.join(tested)}",
                "the same, as the report is an artifact of the run",
            )
        )
    if (ctx.state / DAMAGED).exists():
        found.append(Remainder(f".audioml/{DAMAGED}/", "shards that were set aside as damaged", "delete that folder"))
    found.append(
        Remainder(
            "git's history, and the log of predictions",
            f"paths and hashes in {WITHDRAWN}; hashes and answers, but no audio, in .audioml/predictions/",
            f"{WITHDRAWN} must stay, or they come back; the log ends by serving.log_days",
        )
    )
    return found
