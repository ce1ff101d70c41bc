"""ingest: the source's recordings to packed shards, the manifest and the quarantine. Incremental.

`.audioml/ingest/<version>/known.parquet` keeps what is known of each recording, by path, size and time of change:
what is known is neither read nor packed again. Without it (a fresh clone) every recording is read, but those whose
bytes are in a shard already, by their SHA-256, are not packed again. An item is a run of unknown recordings in the
order of their paths, cut by the listing alone, so that every machine makes the same shards.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from audioml.audio.decode import decode_with_info
from audioml.audio.stats import measure_audio
from audioml.datasets._record import EXAMPLES, Record
from audioml.errors import DatasetError, DecodeError, StepError
from audioml.params import DataParams
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.plugins import load_plugin
from audioml.store.clips import FOLDER, Clip, write_clips
from audioml.store.code_version import code_version
from audioml.store.files import hash_bytes, hash_json, remove_leftovers
from audioml.store.manifest import (
    MANIFEST,
    QUARANTINE,
    build_manifest,
    build_quarantine,
    read_manifest,
    write_manifest,
    write_quarantine,
)
from audioml.store.recordings import Facts, read_facts, write_facts

SPREAD_FROM_FILES = 400
"""From this many recordings on there are at least `SPREAD_ITEMS` items, so that the work can be spread."""
SPREAD_ITEMS = 4
_CODE_WITHIN = ("audio", "datasets", "store/clips.py", "store/recordings.py", "units.py")


def plan(ctx: Context) -> list[Item]:
    """Return the runs of recordings that are neither known nor worked on already."""
    # The first step checks the params of all plug-ins: a wrong key of the model must not show after a night of work.
    ctx.params.load_all_sections()
    job = _Job(ctx)
    return [item for item in job.items if not job.is_done(item)]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Read, check, measure and pack one run of recordings; what is bad is noted and stops nothing."""
    job = _Job(ctx)
    packed = job.packed_before()
    facts: list[Facts] = []
    clips: dict[str, Clip] = {}
    for raw in item.payload["records"]:
        fact, clip = _examine(job, Record(**raw))
        if clip is not None and clip.clip_id not in packed:
            clips.setdefault(clip.clip_id, clip)
        facts.append(fact)
    places = dict(packed)
    if clips:
        shard = write_clips(ctx.path(FOLDER), list(clips.values()))
        places.update({clip_id: (shard, row) for row, clip_id in enumerate(clips)})
    placed = [fact if fact.reason else fact.at(*places[fact.clip_id]) for fact in facts]
    write_facts(job.result_path(item), placed)
    return {"recordings": len(facts), "packed": len(clips), "bad": sum(bool(fact.reason) for fact in facts)}


def collect(ctx: Context) -> dict[str, Any]:
    """Merge all runs into the manifest and the quarantine, and remove shards that nothing refers to.

    Raises
    ------
    StepError
        When a run is not done, or the source changed while ingest ran.
    DatasetError
        When too many recordings cannot be read, or none can. What an earlier run wrote stays as it was.
    """
    job = _Job(ctx)
    if undone := [item for item in job.items if not job.is_done(item)]:
        raise StepError(
            f"ingest: {len(undone)} of {len(job.items)} items are not done ({undone[0].label}, ...), or the source "
            "changed while it ran. What is done is kept; run again: audioml run ingest"
        )
    facts = {fact.path: fact for fact in job.known.values()}
    for item in job.items:
        facts.update({fact.path: fact for fact in read_facts(job.result_path(item))})
    good, quarantine = _judge(job.records, facts)
    _check_share(ctx, len(job.records), quarantine, len(good))

    write_quarantine(ctx.path(QUARANTINE), build_quarantine(quarantine))
    write_manifest(ctx.path(MANIFEST), build_manifest([facts[r.path].manifest_row() for r in good], _columns(good)))
    current = [facts[path] for path in sorted({record.path for record in job.records} & facts.keys())]
    write_facts(job.known_path, current)
    job.clean_up({fact.shard for fact in current if fact.shard})
    return _summarize(good, facts, quarantine)


@dataclass(frozen=True)
class _Job:
    """One run of ingest: the source's listing, what is known of it, and the items that are left."""

    ctx: Context

    @cached_property
    def data(self) -> DataParams:
        data: DataParams = self.ctx.params.data_section()
        return data

    @cached_property
    def layout(self) -> ModuleType:
        return load_plugin("datasets", self.data.layout)

    @cached_property
    def records(self) -> list[Record]:
        records: list[Record] = self.layout.scan(self.data, self.ctx.source)
        return records

    @cached_property
    def folder(self) -> Path:
        """State of this version of the code, of this source: other facts would not hold."""
        code = code_version(
            [f"datasets/{self.data.layout}.py", "audio/decode.py", "audio/stats.py", "pipeline/steps/ingest.py"],
            _CODE_WITHIN,
        )
        place = [code, self.data.layout, str(self.ctx.source), getattr(self.data, "root", None)]
        return self.ctx.state / "ingest" / hash_json(place)[:20]

    @property
    def known_path(self) -> Path:
        return self.folder / "known.parquet"

    @cached_property
    def known(self) -> dict[str, Facts]:
        """Facts of unchanged recordings, by path. A recording whose shard is gone is not known."""
        if not self.known_path.exists():
            return {}
        shards = {path.name for path in self.ctx.path(FOLDER).glob("*.parquet")}
        listed = {record.path: (record.size_bytes, record.mtime_ns) for record in self.records}
        return {
            fact.path: fact
            for fact in read_facts(self.known_path)
            if listed.get(fact.path) == (fact.listed_bytes, fact.mtime_ns) and (fact.reason or fact.shard in shards)
        }

    @cached_property
    def items(self) -> list[Item]:
        unread = {
            record.path: record for record in self.records if not record.problem and record.path not in self.known
        }
        ingest = self.ctx.params.ingest
        return [_make_item(run) for run in _cut_runs(list(unread.values()), ingest.shard_mb * 1e6, ingest.shard_clips)]

    def result_path(self, item: Item) -> Path:
        return self.folder / "items" / f"{item.id}.parquet"

    def is_done(self, item: Item) -> bool:
        """Tell whether an item was worked on, and the shards it packed are still there."""
        path = self.result_path(item)
        folder = self.ctx.path(FOLDER)
        return path.exists() and all(fact.reason or (folder / fact.shard).exists() for fact in read_facts(path))

    def packed_before(self) -> dict[str, tuple[str, int]]:
        """Return (shard, row) by clip id, of the clips of the last manifest whose shards are there."""
        path = self.ctx.path(MANIFEST)
        if not path.exists():
            return {}
        manifest = read_manifest(path)
        shards = {shard.name for shard in self.ctx.path(FOLDER).glob("*.parquet")}
        rows = zip(manifest["clip_id"], manifest["shard"], manifest["row"], strict=True)
        return {str(clip_id): (str(shard), int(row)) for clip_id, shard, row in rows if shard in shards}

    def clean_up(self, shards: set[str]) -> None:
        """Remove results that are merged, state of other versions, and shards that nothing refers to."""
        shutil.rmtree(self.folder / "items", ignore_errors=True)
        for other in self.folder.parent.iterdir():
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        remove_leftovers(self.folder)
        remove_leftovers(self.ctx.path(FOLDER))
        for path in self.ctx.path(FOLDER).glob("*.parquet"):
            if path.name not in shards:
                path.unlink()


def _cut_runs(records: Sequence[Record], max_bytes: float, max_clips: int) -> Iterator[list[Record]]:
    if len(records) >= SPREAD_FROM_FILES:
        max_clips = min(max_clips, math.ceil(len(records) / SPREAD_ITEMS))
    run: list[Record] = []
    run_bytes = 0
    for record in records:
        if run and (len(run) >= max_clips or run_bytes + record.size_bytes > max_bytes):
            yield run
            run, run_bytes = [], 0
        run.append(record)
        run_bytes += record.size_bytes
    if run:
        yield run


def _make_item(run: Sequence[Record]) -> Item:
    size_mb = sum(record.size_bytes for record in run) / 1e6
    size = f", {size_mb:.1f} MB" if size_mb else ""
    return Item(
        id=hash_json([[record.path, record.size_bytes, record.mtime_ns] for record in run])[:20],
        label=f"{len(run)} recordings{size}, from {run[0].path}",
        payload={"records": [asdict(record) for record in run]},
    )


def _examine(job: _Job, record: Record) -> tuple[Facts, Clip | None]:
    """Return what is known of a recording once it is read, and the clip to pack unless it is bad."""
    try:
        data = job.layout.read(job.data, job.ctx.source, record)
    except FileNotFoundError:
        return Facts.of(record, reason="missing", detail="the file is not there"), None
    except OSError as error:
        return Facts.of(record, reason="unreadable", detail=f"cannot be opened: {error.strerror}"), None
    try:
        audio, info = decode_with_info(data)
    except DecodeError as error:
        return Facts.of(record, reason=error.reason, detail=error.detail), None
    clip_id = hash_bytes(data)
    found = {
        **asdict(measure_audio(audio, info.sample_rate)),
        "clip_id": clip_id,
        "size_bytes": len(data),
        "format": info.format,
        "subtype": info.subtype,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
    }
    return Facts.of(record, **found), Clip(clip_id, record.path, data)


def _judge(records: Sequence[Record], facts: dict[str, Facts]) -> tuple[list[Record], list[tuple[str, str, str]]]:
    """Return the records of the manifest, and (path, reason, detail) of all others."""
    good: list[Record] = []
    quarantine: list[tuple[str, str, str]] = []
    same: dict[str, list[Record]] = {}
    for record in records:
        if record.problem:
            quarantine.append((record.path, *record.problem))
        elif facts[record.path].reason:
            quarantine.append((record.path, facts[record.path].reason, facts[record.path].detail))
        else:
            same.setdefault(facts[record.path].clip_id, []).append(record)
    for group in same.values():
        first, *others = group
        labels = sorted({str(record.columns["label"]) for record in group})
        if len(labels) > 1:
            detail = f"the same bytes have the labels {', '.join(labels)}: {', '.join(r.path for r in group)}"
            quarantine += [(record.path, "conflicting_labels", detail) for record in group]
        else:
            good.append(first)
            quarantine += [(record.path, "duplicate", f"the same bytes as {first.path}") for record in others]
    return good, quarantine


def _check_share(ctx: Context, n_records: int, quarantine: list[tuple[str, str, str]], n_good: int) -> None:
    unread = [entry for entry in quarantine if entry[1] not in ("duplicate", "conflicting_labels", "unlabelled")]
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


def _columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    names = sorted({name for record in records for name in record.columns})
    return {name: [record.columns.get(name) for record in records] for name in names}


def _summarize(
    good: Sequence[Record], facts: dict[str, Facts], quarantine: list[tuple[str, str, str]]
) -> dict[str, Any]:
    used = [facts[record.path] for record in good]
    return {
        "clips": len(good),
        "labels": len({record.columns["label"] for record in good}),
        "hours": round(sum(fact.duration_s for fact in used) / 3600, 4),
        "shards": len({fact.shard for fact in used}),
        "quarantined": dict(sorted(Counter(reason for _, reason, _ in quarantine).items())),
    }
