"""Lineage of a prediction or a model, back to the exact recordings; of a recording, on to every model it touched."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from audioml.errors import RegistryError, StoreError
from audioml.lineage.node import Node, make_node
from audioml.lineage.recordings import DIGITS, PREFIX, Recording, RecordingFinder
from audioml.pipeline.context import Context
from audioml.registry.provenance import Provenance, trace_version
from audioml.registry.run_facts import read_run_facts
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import Learner, find_learners, find_source, read_training_set
from audioml.registry.versions import RegisteredVersion, list_versions, resolve
from audioml.serving.prediction_records import find_recordings, find_request
from audioml.store.manifest import MANIFEST
from audioml.store.withdrawn import WITHDRAWN, Withdrawn, read_withdrawn

MANIFEST_CACHE = ".dvc/cache/files/md5"
NO_TABLE = (
    "the registry keeps no list of its clips: it was registered by an earlier version of audioml. Its data set is "
    "named by the digest above"
)
SPLITS = {"train": "trained on", "validation": "tuned and chosen by", "test": "tested on"}


def trace(ctx: Context, reference: str) -> Node:
    """Return the lineage of what a reference names.

    Parameters
    ----------
    ctx
        The workspace; its tracking server is asked, and its log of predictions read.
    reference
        A request's id in the log of predictions; a model (``NAME``, ``NAME@ALIAS``, ``NAME/3``); a recording: its path
        in the manifest, a file here, or the SHA-256 of a clip, of which 8 digits do where only one begins with them.

    Raises
    ------
    RegistryError, StoreError
        When nothing is called so; the message says what was looked for.
    """
    if rows := find_request(ctx.state, reference):
        with tracking(ctx):
            return _trace_request(ctx, rows)
    with tracking(ctx):
        finder = RecordingFinder(ctx)
        if (recording := finder.find(reference)) is not None:
            return _trace_recording(ctx, recording)
        if PREFIX.fullmatch(reference) and len(reference) == DIGITS:
            raise StoreError(f"No clip or recording has the SHA-256 {reference}, here or in a model of the registry.")
        try:
            return trace_model(ctx, resolve(ctx, reference))
        except RegistryError as error:
            raise RegistryError(
                f"{reference!r} is no request in the log of predictions (the newest half minute is not in it yet), no "
                f"recording of {MANIFEST} or of a model, and no file here. As a model: {error}"
            ) from None


def trace_model(ctx: Context, version: RegisteredVersion) -> Node:
    """Return the lineage of a version: its run, params, code, environment, features, data set and recordings.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    provenance, facts = trace_version(version), read_run_facts(version)
    clips = read_training_set(ctx, version)
    source = find_source(version)
    run = make_node(
        "run",
        provenance.run_name or provenance.run_id,
        make_node("params", f"{len(facts.params)} params", values=facts.params) if facts.params else None,
        _trace_code(provenance),
        make_node("environment", f"{len(facts.environment)} pinned", libraries=list(facts.environment))
        if facts.environment
        else None,
        make_node("features", "feature shards", *_trace_features(ctx, clips)) if clips is not None else None,
        _trace_dataset(ctx, provenance, clips),
        run_id=provenance.run_id,
        trained=provenance.trained,
    )
    return make_node(
        "model",
        version.key,
        run,
        _trace_source(ctx, source),
        aliases=list(version.aliases) or None,
        registered=provenance.registered,
        package_digest=version.package_digest,
        withdrawn=provenance.withdrawn,
    )


def _trace_source(ctx: Context, source: str) -> Node | None:
    """Return the lineage of the model whose weights a training started from, if it did."""
    if not source:
        return None
    version = next((version for version in list_versions() if version.key == source), None)
    if version is None:
        return make_node("model", source, role="its training started from these weights", note="not in the registry")
    node = trace_model(ctx, version)
    return Node(node.kind, node.name, {"role": "its training started from these weights", **node.facts}, node.children)


def _trace_code(provenance: Provenance) -> Node:
    commit = provenance.git_commit
    return make_node(
        "code",
        f"git {commit[:12]}" if commit else "no git commit",
        commit=commit,
        branch=provenance.git_branch,
        changed=provenance.git_changed or None,
        audioml=provenance.audioml_version,
    )


def _trace_features(ctx: Context, clips: pd.DataFrame) -> list[Node]:
    """Return the feature shards, each named by the hash of what made it, and whether they are here."""
    counts = sorted(Counter[str](clips["features"].tolist()).items())
    there = {path.name for path in ctx.path("features").glob("*.arrow")}
    return [make_node("features", name, clips=count, here=name in there) for name, count in counts]


def _trace_dataset(ctx: Context, provenance: Provenance, clips: pd.DataFrame | None) -> Node:
    digest = provenance.dataset_digest
    cached = digest and (ctx.path(MANIFEST_CACHE) / digest[:2] / digest[2:]).exists()
    withdrawn = read_withdrawn(ctx.path(WITHDRAWN))
    lists = [] if clips is None else [_list_split(clips, split, withdrawn) for split in SPLITS]
    return make_node(
        "dataset",
        provenance.dataset or MANIFEST,
        *lists,
        dvc_md5=digest,
        file=MANIFEST,
        in_dvc_cache=bool(cached) if digest else None,
        git_commit=provenance.git_commit,
        clips=provenance.clips,
        hours=provenance.hours,
        note=NO_TABLE if clips is None else None,
    )


def _list_split(clips: pd.DataFrame, split: str, withdrawn: Withdrawn) -> Node | None:
    own = clips[clips["split"] == split]
    if own.empty:
        return None
    files = [
        make_node(
            "recording",
            row["path"],
            sha256=row["clip_id"],
            start_s=row["start_s"] or None,
            group=row["group"] if isinstance(row["group"], str) else None,
            features=row["features"],
            packaged=row["packaged"] or None,
            withdrawn=row["clip_id"] in withdrawn.by_id or None,
        )
        for row in own.to_dict("records")
    ]
    return make_node("recordings", SPLITS[split], *files, split=split, clips=len(own), files=own["path"].nunique())


def _trace_request(ctx: Context, rows: list[dict[str, Any]]) -> Node:
    """Return the answers of a request, each with the version that gave it; a version once in full."""
    told: dict[tuple[str, int], Node] = {}
    answers = []
    for row in rows:
        key = row["model"], row["version"]
        if key not in told:
            told[key] = _trace_named(ctx, *key)
            model = told[key]
        else:
            model = make_node("model", told[key].name, note="as above")
        answers.append(_describe_answer(row, model))
    if len(answers) == 1:
        return answers[0]
    return make_node("predictions", f"request {rows[0]['request_id']}", *answers)


def _trace_named(ctx: Context, name: str, number: int) -> Node:
    try:
        return trace_model(ctx, resolve(ctx, f"{name}/{number}"))
    except RegistryError as error:
        return make_node("model", f"{name}/{number}", note=f"not in the registry any more: {error}")


def _describe_answer(row: dict[str, Any], *children: Node) -> Node:
    prediction = row["prediction"]
    said = next((str(value) for value in prediction.values() if isinstance(value, str)), "")
    return make_node(
        "prediction",
        f"{row['request_id']} file {row['file']}",
        *children,
        time=row["time"],
        role=row["role"],
        said=said,
        prediction=prediction,
        sha256=row["sha256"],
        audio=f"{row['format']}, {row['duration_s']:.3g} s",
    )


def _trace_recording(ctx: Context, recording: Recording) -> Node:
    """Return what came of a recording: models that met it, and answers that were given about it."""
    ids = [key for key in dict.fromkeys((recording.sha256, *recording.clips)) if key]
    learners = find_learners(ctx, ids, [recording.path] if recording.is_cut else [])
    asked = find_recordings(ctx.state, ids)
    withdrawn = read_withdrawn(ctx.path(WITHDRAWN))
    return make_node(
        "recording",
        recording.path,
        _describe_withdrawal(withdrawn, ids),
        make_node("models", _count(len(learners), "model version met it", "model versions met it"), *_tell(learners)),
        make_node(
            "predictions",
            _count(len(asked), "answer about it", "answers about it"),
            *(_describe_answer(row, make_node("model", f"{row['model']}/{row['version']}")) for row in asked),
        )
        if asked
        else None,
        sha256=recording.sha256,
        clips=list(recording.clips) if recording.is_cut else None,
        in_manifest=recording.ingested,
    )


def _tell(learners: list[Learner]) -> list[Node]:
    nodes = []
    for learner in learners:
        told = learner.describe()
        roles = [role for split, role in SPLITS.items() if split in set(learner.clips["split"])]
        via = f"started from the weights of {told['via'][-1]}, which was trained on it" if told["via"] else None
        nodes.append(
            make_node(
                "model",
                learner.version.key,
                aliases=told["aliases"] or None,
                role=via or ", ".join(roles) + " it",
                learned=learner.learned,
                via=told["via"] or None,
                audio_in_package=bool(told["packaged"]) or None,
            )
        )
    return nodes


def _describe_withdrawal(withdrawn: Withdrawn, ids: list[str]) -> Node | None:
    entry = next((withdrawn.by_id[key] for key in ids if key in withdrawn.by_id), None)
    return None if entry is None else make_node("withdrawal", entry.describe(), time=entry.time, by=entry.by)


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
