"""ingest: the source's recordings to packed shards, the manifest and the quarantine. Incremental.

`.audioml/ingest/<version>/` keeps what is known of each recording (`known.parquet`), by path, size and version: what is
known is neither read nor packed again. Without it (a fresh clone) every recording is read, but those whose bytes are
in a shard already, by their SHA-256, are not packed again. The listing of the plan is kept too, so that files which
arrive while ingest runs wait for the next run. An item is a run of unknown recordings in the order of their paths,
cut by the listing alone, so that every machine makes the same shards.

Where the source is partitioned, a run may look at one partition only (`Context.partition`): then the listing is that
partition's, beside what the last ingest saw of all others, and the rest goes as ever. So partitions ingested one after
the other, in any order, make the manifest and the quarantine that one ingest of them all makes; only which shard holds
a clip may differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from audioml.datasets._partition import UNPARTITIONED
from audioml.datasets._record import EXAMPLES, UNLABELLED, Record
from audioml.errors import DatasetError, StepError
from audioml.pipeline.context import Context
from audioml.pipeline.examination import Examiner
from audioml.pipeline.ingest_job import IngestJob, find_segmenter
from audioml.pipeline.ingest_listing import Listing
from audioml.pipeline.step import Item
from audioml.pipeline.withdrawal import mark_withdrawn, repack_without
from audioml.store.clips import FOLDER, Packer
from audioml.store.locks import hold_lock
from audioml.store.manifest import (
    MANIFEST,
    QUARANTINE,
    build_manifest,
    build_quarantine,
    write_manifest,
    write_quarantine,
)
from audioml.store.recordings import build_facts, read_facts, write_facts
from audioml.store.withdrawn import REASON as WITHDRAWN_REASON

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NO_FAULT = frozenset({"conflicting_labels", "duplicate", "silent", UNLABELLED, UNPARTITIONED, WITHDRAWN_REASON})
"""Reasons that say nothing against the recording itself."""


def plan(ctx: Context) -> list[Item]:
    """Return the runs of recordings that are neither known nor worked on already."""
    # The first step checks the params of all plug-ins: a wrong key of the model must not show after a night of work.
    ctx.params.load_all_sections()
    job = IngestJob(ctx).list_source()
    job.listing.write(job.listing_path)
    job.keep_finished()
    items = job.cut_items()
    job.write_plan(items)
    return [item for item in items if not job.is_done(item.id)]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Read, check, measure and pack one run of recordings; what is bad is noted and stops nothing."""
    job = IngestJob(ctx)
    with hold_lock(job.lock_path(item)):
        if not job.is_done(item.id):
            _work(job, item)
        facts = read_facts(job.result_path(item.id), ["path", "reason"])
    bad = len(facts) - facts["reason"].null_count
    return {"clips": len(facts) - bad, "bad": bad}


def _work(job: IngestJob, item: Item) -> None:
    ingest = job.ctx.params.ingest
    packed = job.packed_before()
    packer = Packer(job.ctx.path(FOLDER), ingest.shard_mb * 1e6, ingest.shard_s)
    rows: list[dict[str, Any]] = []
    examiner = Examiner(job.data, job.ctx.source, find_segmenter(job.ctx), job.marker_path(item), job.withdrawn)
    for fact, clip in examiner.examine(Record(*entry) for entry in item.payload["records"]):
        if clip is not None and clip.clip_id not in packed:
            packer.add(clip, fact["duration_s"])
        rows.append(fact)
    # A recording may turn out bad after some of its segments came.
    bad = {row["path"] for row in rows if row.get("reason")}
    rows = [row for row in rows if row.get("reason") or row["path"] not in bad]
    places = {**packed, **packer.finish()}
    for row in rows:
        if not row.get("reason"):
            row["shard"], row["row"] = places[row["clip_id"]]
    write_facts(job.result_path(item.id), build_facts(rows))


def collect(ctx: Context) -> dict[str, Any]:
    """Merge all runs into the manifest and the quarantine, and remove shards that nothing refers to.

    Raises
    ------
    StepError
        When a run is not done.
    DatasetError
        When too many recordings cannot be read, or none can. What an earlier run wrote stays as it was.
    """
    # Compaction too replaces the manifest and removes shards.
    with hold_lock(ctx.state / "locks" / "manifest"):
        return _collect(IngestJob(ctx))


def _collect(job: IngestJob) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ctx = job.ctx
    planned = job.read_plan()["items"]
    if undone := [label for item_id, label in planned.items() if not job.is_done(item_id)]:
        raise StepError(
            f"ingest: {len(undone)} of {len(planned)} items are not done ({undone[0]}, ...). "
            "What is done is kept; run again: audioml run ingest"
        )
    found = pa.concat_tables([build_facts([]), *(read_facts(job.result_path(item_id)) for item_id in planned)])
    # A shard that was gone when the items were planned may be there again: what they found counts.
    stale = pc.is_in(job.known["path"], value_set=found["path"].combine_chunks())
    facts = pa.concat_tables([job.known.filter(pc.invert(stale)), found])
    read = set(facts["path"].to_pylist())
    if lost := [record.path for record in job.records if not record.problem and record.path not in read]:
        raise StepError(
            f"ingest: {len(lost)} of {len(job.records)} recordings, such as {lost[0]}, lost their packed shards while "
            "it ran. Plan it anew: audioml run ingest"
        )
    facts = repack_without(ctx.path(FOLDER), mark_withdrawn(facts, job.withdrawn), job.withdrawn)
    summary = _settle(job, facts)
    write_facts(job.known_path, facts)
    job.close_plan()
    job.clean_up(_shards_of(facts))
    return summary


def leave_out(ctx: Context) -> dict[str, Any] | None:
    """Take what was withdrawn since the last ingest out of the data set, without looking at the source.

    The manifest, the quarantine and the packed shards are then what the next ingest of the same listing makes.

    Returns
    -------
    As `collect`; None where too little is known here (a fresh clone, or shards that are gone): then ingest does it.

    Raises
    ------
    DatasetError
        When no clip is left.
    """
    with hold_lock(ctx.state / "locks" / "manifest"):
        job = IngestJob(ctx)
        if not (job.ingested_path.exists() and job.known_path.exists() and ctx.path(MANIFEST).exists()):
            return None
        job = IngestJob(ctx, Listing.read(job.ingested_path))
        if {record.path for record in job.records if not record.problem} - set(job.known["path"].to_pylist()):
            return None
        facts = repack_without(ctx.path(FOLDER), mark_withdrawn(job.known, job.withdrawn), job.withdrawn)
        summary = _settle(job, facts)
        write_facts(job.known_path, facts)
        for shard in _shards_of(job.known) - _shards_of(facts):
            (ctx.path(FOLDER) / shard).unlink()
        return summary


def _shards_of(facts: pa.Table) -> set[str]:
    return set(facts["shard"].drop_null().to_pylist())


def _settle(job: IngestJob, facts: pa.Table) -> dict[str, Any]:
    """Judge what is known, write the manifest and the quarantine, and return the summary of the step."""
    import pyarrow as pa

    ctx = job.ctx
    good, quarantine = _judge(job.records, facts)
    _check_share(ctx, job.listing, quarantine, len(good))

    # First, so that an ingest of another partition, after this one was killed, finishes what it left. Without
    # partitions too: they may come back, and then it must be known what was ingested in between.
    job.listing.write(job.ingested_path)
    ctx.path(FOLDER).mkdir(parents=True, exist_ok=True)
    write_quarantine(ctx.path(QUARANTINE), build_quarantine(quarantine))
    columns = _columns(job.records, good["record"].tolist())
    write_manifest(ctx.path(MANIFEST), build_manifest(facts.take(pa.array(good["fact"])), columns))
    return {
        **({"partition": job.listing.scope} if job.listing.scope else {}),
        "clips": len(good),
        "labels": len(set(columns["label"])),
        "hours": round(float(good["duration_s"].sum()) / 3600, 4),
        "shards": int(good["shard"].nunique()),
        "quarantined": dict(sorted(Counter(reason for _, reason, _ in quarantine).items())),
    }


def _judge(records: Sequence[Record], facts: pa.Table) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """Tell the clips of the manifest from all else.

    Returns
    -------
    good
        One row a clip of the manifest: `record` and `fact` (positions in the arguments), `shard`, `duration_s`.
    quarantine
        (path, reason, detail) of all others.
    """
    import pandas as pd

    quarantine = [(record.path, *record.problem) for record in records if record.problem]
    listed = pd.DataFrame(
        [(i, r.path, r.columns.get("label")) for i, r in enumerate(records) if not r.problem],
        columns=["record", "path", "label"],
    )
    found = facts.select(["path", "reason", "detail", "clip_id", "shard", "start_s", "duration_s"]).to_pandas()
    found["fact"] = range(len(found))
    joined = listed.merge(found, on="path", how="left").sort_values(["record", "start_s"], kind="stable")
    bad = joined["reason"].notna()
    quarantine += list(joined.loc[bad, ["path", "reason", "detail"]].itertuples(index=False, name=None))
    clips = joined[~bad]
    twice = clips.duplicated("clip_id", keep=False)
    dropped = []
    for _, group in clips[twice].groupby("clip_id", sort=False):
        names = [_name(path, start_s) for path, start_s in zip(group["path"], group["start_s"], strict=True)]
        labels = sorted(set(group["label"]))
        if len(labels) > 1:
            detail = f"the same bytes have the labels {', '.join(labels)}: {', '.join(names)}"
            quarantine += [(path, "conflicting_labels", detail) for path in group["path"]]
            dropped += list(group.index)
        else:
            detail = f"the same bytes as {names[0]}"
            quarantine += [
                (path, "duplicate", f"{detail}, from {start_s:g} s on" if start_s else detail)
                for path, start_s in zip(group["path"][1:], group["start_s"][1:], strict=True)
            ]
            dropped += list(group.index[1:])
    return clips.drop(index=dropped)[["record", "fact", "shard", "duration_s"]], quarantine


def _name(path: str, start_s: float) -> str:
    return f"{path} at {start_s:g} s" if start_s else path


def _check_share(ctx: Context, listing: Listing, all_bad: list[tuple[str, str, str]], n_good: int) -> None:
    """Refuse what was looked at, the source or a partition, when too much of it is bad."""
    n_records = sum(listing.holds(record.path) for record in listing.records)
    if listing.scope is not None and not n_records:
        return
    quarantine = [entry for entry in all_bad if listing.holds(entry[0])]
    unread = [entry for entry in quarantine if entry[1] not in NO_FAULT]
    allowed = ctx.params.ingest.max_bad_share
    if n_good and len(unread) <= allowed * n_records:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(e[1] for e in quarantine).most_common())
    examples = "".join(f"\n  {path}: {reason}: {detail}" for path, reason, detail in (unread or quarantine)[:EXAMPLES])
    if not n_records:
        raise DatasetError("The source holds no recordings. Correct the data section of params.yaml.")
    if not n_good:
        raise DatasetError(f"None of {n_records} recordings can be used ({reasons}):{examples}")
    raise DatasetError(
        f"{len(unread)} of {n_records} recordings cannot be read ({reasons}), a share of "
        f"{len(unread) / n_records:.1%}, but ingest.max_bad_share is {allowed:g}:{examples}\n"
        "Repair or remove them, or raise ingest.max_bad_share. The manifest was left as it was."
    )


def _columns(records: Sequence[Record], rows: Iterable[int]) -> dict[str, list[Any]]:
    """Return the source's own columns, one value a clip, given the position of each clip's record."""
    clips = [records[row].columns for row in rows]
    names = sorted({name for columns in clips for name in columns} | {"label"})
    return {name: [columns.get(name) for columns in clips] for name in names}
