"""Withdrawing recordings: out of the data set, their features and kept audio gone, their models marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audioml.errors import ParamsError
from audioml.lineage.recordings import Recording, RecordingFinder
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps.ingest import leave_out
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import Learner, find_learners, mark_withdrawn
from audioml.serving.prediction_records import forget_audio
from audioml.store.features import INDEX, read_index
from audioml.store.manifest import MANIFEST
from audioml.store.withdrawn import WITHDRAWN, Withdrawal, Withdrawn, read_withdrawn, write_withdrawn

FEATURES = "features"


@dataclass(frozen=True, eq=False)
class Forgotten:
    """What was done, and what is left to do."""

    recordings: tuple[Withdrawal, ...]
    already: int
    """Of those asked for, how many were withdrawn before."""
    unhashed: tuple[str, ...]
    """Paths of cut recordings whose file cannot be read now: they stay out as long as they are cut in the same way."""
    dataset: dict[str, Any]
    """What `leave_out` said; empty where there was no data set yet."""
    shards: dict[str, int]
    """Feature shards ``made`` anew, and ``kept``; empty where there are no features yet."""
    learners: tuple[Learner, ...]
    """Versions that met the recordings, which say so now in the registry."""
    audio_rows: int
    """Rows of the log of predictions that kept audio of them, and keep none now."""

    def describe(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "withdrawn": [{"path": entry.path, "sha256": entry.sha256} for entry in self.recordings],
            "already_withdrawn": self.already,
            "unhashed": list(self.unhashed),
            "dataset": self.dataset,
            "feature_shards": self.shards,
            "models": [learner.describe() for learner in self.learners],
            "audio_removed_from_log": self.audio_rows,
        }


def choose_recordings(ctx: Context, references: Sequence[str], group: str | None) -> list[Recording]:
    """Return the recordings that are named, or all with a value in a column (``speaker=ann``), each once.

    Raises
    ------
    ParamsError
        When none is named, or the group is not of that form.
    StoreError
        When there is no such recording, column or value.
    """
    if not references and group is None:
        raise ParamsError("Name recordings, or a group of them: audioml forget --group speaker=ann")
    with tracking(ctx):
        finder = RecordingFinder(ctx)
        chosen = [finder.require(reference) for reference in references]
        if group is not None:
            column, equals, value = group.partition("=")
            if not (column and equals and value):
                raise ParamsError(f"--group {group!r} is not COLUMN=VALUE, such as speaker=ann.")
            chosen += finder.of_group(column, value)
    return list({recording.path: recording for recording in chosen}.values())


def withdraw(ctx: Context, recordings: Sequence[Recording], *, by: str, reason: str, jobs: int | None) -> Forgotten:
    """Withdraw recordings from a workspace, and mark every version of every model that has met them.

    The list comes first, so that whatever is killed after that is made good by the same command, or the next ingest.

    Parameters
    ----------
    ctx
        The workspace.
    recordings
        From `choose_recordings`.
    by, reason
        Who wants it, and why; both stand in the list, the quarantine and the registry.
    jobs
        Worker processes for features.

    Raises
    ------
    ParamsError
        When it is not said who wants it, or why.
    DatasetError
        When no clip would be left.
    """
    if not by.strip() or not reason.strip():
        raise ParamsError("A withdrawal needs to say who wants it and why. Give both, such as: --by ann --reason …")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = read_withdrawn(ctx.path(WITHDRAWN))
    after = before.add(Withdrawal(r.path, r.sha256, r.clips, now, by, reason) for r in recordings)
    fresh = after.entries[len(before.entries) :]
    if fresh:
        write_withdrawn(ctx.path(WITHDRAWN), after)
    dataset = _leave_out(ctx, jobs)
    shards = _remake_features(ctx, jobs)
    learners = _mark(ctx, recordings, after, time=now, by=by, reason=reason)
    ids = {key for recording in recordings for key in (recording.sha256, *recording.clips) if key}
    return Forgotten(
        recordings=fresh,
        already=len(recordings) - len(fresh),
        unhashed=tuple(recording.path for recording in recordings if recording.is_cut and not recording.sha256),
        dataset=dataset,
        shards=shards,
        learners=tuple(learners),
        audio_rows=forget_audio(ctx.state, ids),
    )


def _leave_out(ctx: Context, jobs: int | None) -> dict[str, Any]:
    if not ctx.path(MANIFEST).exists():
        return {}
    summary = leave_out(ctx)
    # Where too little is known here of what was ingested, the source tells.
    return run_step(ctx, find_step("ingest"), jobs) if summary is None else summary


def _remake_features(ctx: Context, jobs: int | None) -> dict[str, int]:
    """Make the features of shards that lost a clip, and return how many were made, and how many stayed."""
    if not (ctx.path(FEATURES) / INDEX).exists():
        return {}
    old = {entry["file"] for entry in read_index(ctx.path(FEATURES))["shards"]}
    run_step(ctx, find_step("featurize"), jobs)
    new = {entry["file"] for entry in read_index(ctx.path(FEATURES))["shards"]}
    return {"made": len(new - old), "kept": len(new & old)}


def _mark(ctx: Context, recordings: Sequence[Recording], withdrawn: Withdrawn, **said: str) -> list[Learner]:
    """Mark the versions that met these recordings with all that was withdrawn of what they met so far."""
    ids = {key for recording in recordings for key in (recording.sha256, *recording.clips) if key}
    paths = [recording.path for recording in recordings if recording.is_cut]
    cut = [entry.path for entry in withdrawn.entries if (entry.sha256,) != entry.clips]
    with tracking(ctx):
        learners = find_learners(ctx, ids, paths)
        affected = {learner.version.key for learner in learners}
        of_all = find_learners(ctx, withdrawn.by_id, cut) if affected else []
        mark_withdrawn([learner for learner in of_all if learner.version.key in affected], **said)
    return learners
