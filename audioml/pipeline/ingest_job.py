"""The state of ingest: a source's listing, what is known of it, and the items that are left.

It lies in `.audioml/ingest/<version>/`, a folder for each version of the code and way to cut recordings.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from audioml.datasets._record import Record
from audioml.errors import StepError
from audioml.params import DataParams, Section
from audioml.pipeline.context import Context
from audioml.pipeline.ingest_listing import Listing, list_source
from audioml.pipeline.step import Item
from audioml.plugins import load_plugin
from audioml.store.clips import FOLDER, Place
from audioml.store.code_version import code_version
from audioml.store.files import hash_json, read_json, remove_leftovers, write_json
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.recordings import build_facts, read_facts, write_facts
from audioml.store.withdrawn import REASON, WITHDRAWN, Withdrawn, read_withdrawn

if TYPE_CHECKING:
    import pyarrow as pa

SPREAD_FROM_FILES = 400
"""From this many recordings on there are at least `SPREAD_ITEMS` items, so that the work can be spread."""
SPREAD_ITEMS = 4
FILE_BYTES = 16_000
"""What a recording costs whatever its size, in bytes: opening it takes as long as reading some half second of audio."""
TRY_AGAIN = frozenset({"missing", "unopened"})
"""Reasons that may go while the listing stays as it is: a permission that is given, a server that answers again."""
_CODE = (
    "audio/decode.py",
    "audio/stats.py",
    "pipeline/examination.py",
    "pipeline/ingest_job.py",
    "pipeline/ingest_listing.py",
)
_CODE_WITHIN = (
    "audio",
    "datasets",
    "pipeline/examination.py",
    "segment",
    "store/clips.py",
    "store/recordings.py",
    "units.py",
)


@dataclass(frozen=True)
class IngestJob:
    """One run of ingest: the listing of its plan, what is known of it, and the items that are left."""

    ctx: Context
    listed: Listing | None = None
    """The listing where it has just been made; else it is read."""

    @cached_property
    def data(self) -> DataParams:
        """The section `data`, checked by its layout."""
        data: DataParams = self.ctx.params.data_section()
        return data

    @cached_property
    def layout(self) -> ModuleType:
        """The layout's plug-in."""
        return load_plugin("datasets", self.data.layout)

    @cached_property
    def folder(self) -> Path:
        """State of this version of the code, of this source, cut this way: other facts would not hold."""
        segment = find_segmenter(self.ctx)
        plugins = [f"datasets/{self.data.layout}.py", *([f"segment/{segment[0]}.py"] if segment else [])]
        code = code_version([*plugins, *_CODE], _CODE_WITHIN)
        cut = [segment[0], segment[1].model_dump(mode="json")] if segment else None
        place = [code, self.data.layout, str(self.ctx.source), getattr(self.data, "root", None), cut]
        return self.ctx.state / "ingest" / hash_json(place)[:20]

    @property
    def listing_path(self) -> Path:
        """Where the listing of the plan is."""
        return self.folder / "listing.jsonl"

    @property
    def ingested_path(self) -> Path:
        """Where the listing is that the manifest and the quarantine were made from."""
        return self.folder / "ingested.jsonl"

    @property
    def known_path(self) -> Path:
        """Where the facts of all earlier runs are."""
        return self.folder / "known.parquet"

    @property
    def plan_path(self) -> Path:
        """Where the rest of the plan is: the partition, and the labels of the items by id."""
        return self.folder / "plan.json"

    def result_path(self, item_id: str) -> Path:
        """Return where an item keeps what it found."""
        return self.folder / "items" / f"{item_id}.parquet"

    def lock_path(self, item: Item) -> Path:
        """Return the lock of an item."""
        return self.folder / "items" / f"{item.id}.lock"

    def marker_path(self, item: Item) -> Path:
        """Return where the recording that an item reads is noted."""
        return self.folder / "items" / f"{item.id}.reading"

    def list_source(self) -> IngestJob:
        """Return the job with a new listing of the context's partition, or of the whole source."""
        return replace(self, listed=list_source(self.ctx, self.data, self.layout, self.ingested_path))

    @cached_property
    def listing(self) -> Listing:
        """The listing of the plan."""
        return self.listed or Listing.read(self.listing_path, self.read_plan()["scope"])

    @property
    def records(self) -> list[Record]:
        """The recordings of the listing."""
        return self.listing.records

    @cached_property
    def withdrawn(self) -> Withdrawn:
        """The recordings that are left out."""
        return read_withdrawn(self.ctx.path(WITHDRAWN))

    @cached_property
    def unchanged(self) -> pa.Table:
        """Facts of recordings that are listed as they were, and not to be tried again."""
        facts = read_facts(self.known_path) if self.known_path.exists() else build_facts([])
        listed = {record.path: (record.size_bytes, record.version) for record in self.records}
        columns = [facts[name].to_pylist() for name in ("path", "listed_bytes", "version", "reason", "clip_id")]
        rows = zip(*columns, strict=True)
        return _keep(
            facts,
            (
                listed.get(path) == (size, version)
                and not (reason in TRY_AGAIN and self.listing.holds(path))
                # Somebody took it from the list again.
                and not (reason == REASON and clip_id not in self.withdrawn.by_id)
                for path, size, version, reason, clip_id in rows
            ),
        )

    @cached_property
    def known(self) -> pa.Table:
        """Facts of unchanged recordings. A recording with a clip whose shard is gone is not known."""
        facts = self.unchanged
        shards = {path.name for path in self.ctx.path(FOLDER).glob("*.parquet")} | {None}
        paths = facts["path"].to_pylist()
        lost = {path for path, shard in zip(paths, facts["shard"].to_pylist(), strict=True) if shard not in shards}
        return _keep(facts, (path not in lost for path in paths))

    def keep_finished(self) -> None:
        """Count what a killed run has read as known, where the listing has changed since and items are cut anew.

        Results with a fault that may have passed are dropped.
        """
        import pyarrow as pa

        finished = {path: read_facts(path) for path in sorted((self.folder / "items").glob("*.parquet"))}
        for path, facts in finished.items():
            if not TRY_AGAIN.isdisjoint(facts["reason"].to_pylist()):
                path.unlink()
        planned = {item.id for item in self.cut_items()} if finished else set()
        if kept := [facts for path, facts in finished.items() if path.stem not in planned]:
            read = {path for facts in kept for path in facts["path"].to_pylist()}
            old = _keep(self.unchanged, (path not in read for path in self.unchanged["path"].to_pylist()))
            write_facts(self.known_path, pa.concat_tables([old, *kept]))
            for name in ("unchanged", "known"):
                vars(self).pop(name, None)

    def write_plan(self, items: Sequence[Item]) -> None:
        """Keep the plan: its partition and the labels of its items. Its listing is kept apart."""
        labels = {item.id: item.label for item in items}
        plan = {"partition": self.ctx.partition, "scope": self.listing.scope, "items": labels}
        write_json(self.plan_path, plan)

    def close_plan(self) -> None:
        """Note that all is known: collecting again finds no items to wait for."""
        write_json(self.plan_path, {**self.read_plan(), "items": {}})

    def read_plan(self) -> dict[str, Any]:
        """Return the plan: ``partition`` as asked for, ``scope`` as looked at, and ``items``, their labels by id.

        Raises
        ------
        StepError
            When there is none, or it was made for another partition than the context's.
        """
        if not self.plan_path.exists():
            raise StepError("ingest is not planned. Plan it with: audioml run ingest --plan")
        plan: dict[str, Any] = read_json(self.plan_path)
        if self.ctx.partition not in (None, plan["partition"]):
            planned = f"the partition {plan['partition']}" if plan["partition"] else "the whole source"
            raise StepError(
                f"ingest is planned for {planned}, not for the partition {self.ctx.partition}. Plan it with: "
                f"audioml run ingest --plan --partition {self.ctx.partition}"
            )
        return plan

    def cut_items(self) -> list[Item]:
        """Return the recordings that are not known, in runs: those of a lost shard together, the others by size."""
        known = set(self.known["path"].to_pylist())
        unread = {r.path: r for r in self.records if not r.problem and r.path not in known}
        lost: dict[str, list[Record]] = {}
        if self.ctx.params.ingest.segment is None:
            # The same clips in the same order make the same shard, so that nothing after it runs again.
            columns = (
                self.unchanged.sort_by([("row", "ascending"), ("path", "ascending")])[n].to_pylist()
                for n in ("shard", "path")
            )
            for shard, path in zip(*columns, strict=True):
                if path in unread:
                    lost.setdefault(shard, []).append(unread.pop(path))
        runs = [lost[shard] for shard in sorted(lost)]
        runs += _cut_runs(list(unread.values()), self.ctx.params.ingest.shard_mb * 1e6)
        return [_make_item(run) for run in runs]

    def is_done(self, item_id: str) -> bool:
        """Tell whether an item was worked on, and the shards it packed are still there."""
        path = self.result_path(item_id)
        if not path.exists():
            return False
        shards = set(read_facts(path, ["shard"])["shard"].drop_null().to_pylist())
        return all((self.ctx.path(FOLDER) / shard).exists() for shard in shards)

    def packed_before(self) -> dict[str, Place]:
        """Return the place of the clips of the last manifest whose shards are there."""
        path = self.ctx.path(MANIFEST)
        if not path.exists():
            return {}
        manifest = read_manifest(path, ["clip_id", "shard", "row"])
        shards = {shard.name for shard in self.ctx.path(FOLDER).glob("*.parquet")}
        rows = zip(*(manifest[name].tolist() for name in ("clip_id", "shard", "row")), strict=True)
        return {clip_id: Place(shard, row) for clip_id, shard, row in rows if shard in shards}

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


def _keep(facts: pa.Table, mask: Iterable[bool]) -> pa.Table:
    import pyarrow as pa

    return facts.filter(pa.array(mask, pa.bool_()))


def find_segmenter(ctx: Context) -> tuple[str, Section] | None:
    """Return name and params of the plug-in that cuts recordings, None if they stay whole."""
    chosen = ctx.params.ingest.segment
    return None if chosen is None else (chosen.name, ctx.params.segment_section())


def _cut_runs(records: Sequence[Record], max_bytes: float) -> Iterator[list[Record]]:
    """Cut recordings into even runs of about `max_bytes` at most; one that is larger is a run of its own."""
    if not records:
        return
    costs = [record.size_bytes + FILE_BYTES for record in records]
    n_runs = max(math.ceil(sum(costs) / max_bytes), SPREAD_ITEMS if len(records) >= SPREAD_FROM_FILES else 1)
    size = sum(costs) / n_runs
    # A recording belongs to the run that holds its middle.
    number = [int((start + cost / 2) / size) for start, cost in zip(accumulate(costs, initial=0), costs, strict=False)]
    for _, run in groupby(zip(number, records, strict=True), key=itemgetter(0)):
        yield [record for _, record in run]


def _make_item(run: Sequence[Record]) -> Item:
    size_mb = sum(record.size_bytes for record in run) / 1e6
    size = f", {size_mb:.1f} MB" if size_mb else ""
    return Item(
        id=hash_json([[record.path, record.size_bytes, record.version] for record in run])[:20],
        label=f"{len(run)} recordings{size}, from {run[0].path}",
        payload={"records": [[r.path, r.size_bytes, r.version, dict(r.columns)] for r in run]},
        clips=len(run),
    )
