"""What ingest has before it: the listing of a whole source, or of one partition beside what is known of the others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from audioml.datasets._files import check_folder
from audioml.datasets._partition import UNPARTITIONED, join_sorted
from audioml.datasets._record import UNLABELLED, Record
from audioml.datasets._source import Source
from audioml.errors import SourceError, did_you_mean
from audioml.params import DataParams
from audioml.partitions import check_key, is_dated
from audioml.pipeline.context import Context
from audioml.store.manifest import MANIFEST
from audioml.store.recordings import read_listing, write_listing

FOUND_BY_LAYOUT = frozenset({UNLABELLED, UNPARTITIONED})
"""Problems that the layout finds in a path; all others come from listing the source."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The recordings that the manifest and the quarantine will tell of, sorted by path."""

    records: list[Record]
    scope: str | None = None
    """The partition that was looked at; the rest is as it was at its last ingest. None: all was looked at."""

    def holds(self, path: str) -> bool:
        """Tell whether a recording lies in what was looked at."""
        return self.scope is None or path.startswith(f"{self.scope}/")

    def write(self, path: Path) -> None:
        """Keep the records, but not the scope, in a file."""
        write_listing(path, ([r.path, r.size_bytes, r.version, r.columns, r.problem] for r in self.records))

    @staticmethod
    def read(path: Path, scope: str | None = None) -> Listing:
        """Return the listing whose records are in a file."""
        # JSON knows no tuples.
        rows = ((*row[:4], tuple(row[4]) if row[4] else None) for row in read_listing(path))
        return Listing([Record(*row) for row in rows], scope)


def list_source(ctx: Context, data: DataParams, layout: ModuleType, ingested: Path) -> Listing:
    """List what `ctx.partition` names, or the whole source.

    Columns are found in all paths anew, so that those of several partitions are what one listing of them all gives.
    Where there is a manifest but no listing that it was made from (a fresh clone, or an upgrade that changes how
    recordings are read), the whole source is listed.

    Parameters
    ----------
    ctx, data, layout
        The workspace, its section `data` and the plug-in of its layout.
    ingested
        Where the listing of the last ingest is, if there is one.

    Raises
    ------
    ParamsError
        When no partition can have this name.
    SourceError
        When there is no such source or partition, or it is not laid out as params say. A date without a folder is no
        error, but an empty partition.
    """
    key = ctx.partition
    if key is None:
        return Listing(layout.scan(data, ctx.source))
    check_key(data.partition, key)
    if ctx.path(MANIFEST).exists() and not ingested.exists():
        log.warning("Nothing is known here of partitions other than %s, so the whole source is listed.", key)
        return Listing(layout.scan(data, ctx.source))
    before = Listing.read(ingested, key) if ingested.exists() else Listing([], key)
    if reason := explain_empty(ctx, data):
        log.warning("Nothing changes: %s.", reason)
        return Listing(layout.describe(data, [_bare(record) for record in before.records]), key)
    others = [_bare(record) for record in before.records if not before.holds(record.path)]
    files = list_partition(check_folder(ctx.source, data.layout), key)
    return Listing(layout.describe(data, join_sorted(files, others)), key)


def explain_empty(ctx: Context, data: DataParams) -> str | None:
    """Return why the context's partition has nothing to ingest: it is a date that has no folder yet; else None.

    Raises as `list_source`.
    """
    if ctx.partition is None:
        return None
    check_key(data.partition, ctx.partition)
    if not is_dated(data.partition) or check_folder(ctx.source, data.layout).has_folder(ctx.partition):
        return None
    return f"the partition {ctx.partition} has no folder in {ctx.source} yet"


def list_partition(source: Source, key: str) -> list[Record]:
    """Return the files of one partition, sorted by path.

    Raises
    ------
    SourceError
        When it has no folder.
    """
    if source.has_folder(key):
        return source.list_files(key)
    known = source.folder_names() if "/" not in key else []
    raise SourceError(f"{source} has no partition {key!r}.{did_you_mean(key, known)} Give the name of a folder in it.")


def _bare(record: Record) -> Record:
    """Return a record as the source's listing gave it, before the layout looked at its path."""
    problem = None if record.problem and record.problem[0] in FOUND_BY_LAYOUT else record.problem
    return Record(record.path, record.size_bytes, record.version, problem=problem)
