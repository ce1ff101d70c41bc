"""What a source of recordings looks like: the layout that fits, classes, hours, rates. Reads headers only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import soundfile

from audioml.datasets import table
from audioml.datasets._partition import path_in_partition, place_files
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.errors import SourceError

MAX_PROBED = 1000
"""Headers read at most, spread evenly over the listing."""
MAX_COPIED = 64
MAX_COPIED_BYTES = 256e6
"""Of a remote source: a header there costs the whole file, as web servers need not give parts."""
PROBE_THREADS = 8
TABLE_EXTENSIONS = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json"})
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "wav", "clip")
"""Names that a table's column of paths often has, most likely first."""
EVENT_COLUMNS = {"onset", "offset", "event_label"}
"""Columns of a table that has a row an event."""
T = TypeVar("T")
QUANTILES = (0.05, 0.5, 0.98, 1.0)
DEFAULT_SAMPLE_RATE = 16000
"""In Hz, where no header could be read."""
MIN_DURATION_S = 0.1
"""What `duration_s` is not below."""


@dataclass(frozen=True)
class SourceSummary:
    """What is known of a source before it is ingested."""

    layout: str
    """folder, filename, table or events: what fits."""
    n_files: int
    """Files that may be recordings."""
    labels: dict[str, int] = field(default_factory=dict)
    """Clips by class, where the layout alone tells."""
    n_probed: int = 0
    n_unreadable: int = 0
    """Of those probed."""
    hours: float = 0.0
    """Estimated from those probed."""
    sample_rates: dict[int, int] = field(default_factory=dict)
    """Probed files by rate in Hz, most frequent first."""
    channels: dict[int, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    duration_quantiles_s: dict[float, float] = field(default_factory=dict)
    """Seconds by quantile: 0.05, 0.5, 0.98 and 1 (the longest)."""
    path_column: str | None = None
    """The column of paths, for tables."""
    columns: tuple[str, ...] = ()
    """The other columns, for tables."""

    @property
    def sample_rate(self) -> int:
        """The rate that most recordings have, in Hz."""
        return next(iter(self.sample_rates), DEFAULT_SAMPLE_RATE)

    @property
    def duration_s(self) -> float:
        """A length that holds 98 of 100 recordings whole: rounded up to 0.1 s, or to 0.5 s above 2 s."""
        if not self.duration_quantiles_s:
            return 1.0
        longest_s = self.duration_quantiles_s[0.98]
        step_s = 0.1 if longest_s <= 2 else 0.5
        # Encoders pad the end by some samples: 5.001 s is 5 s.
        rounded_s = math.ceil(longest_s / step_s - 0.05) * step_s
        return round(max(rounded_s, MIN_DURATION_S), 1)

    @property
    def longest_s(self) -> float:
        """Of those probed, in seconds."""
        return self.duration_quantiles_s.get(1.0, 0.0)

    def lines(self) -> list[str]:
        """Say what was found, a line each."""
        whole = "" if self.n_probed == self.n_files else f" (from {self.n_probed:,} headers)"
        lines = [f"Found {self.n_files:,} files, {_show_hours(self.hours)} of audio{whole}"]
        if self.labels:
            few, many = min(self.labels.values()), max(self.labels.values())
            lines.append(f"Found {len(self.labels)} class folders of {few} to {many} files")
        if self.path_column:
            lines.append(f"Found the paths in column {self.path_column!r}; others: {', '.join(self.columns) or 'none'}")
        rates = ", ".join(f"{rate:,} Hz ({n})" for rate, n in list(self.sample_rates.items())[:4])
        kinds = ", ".join(f"{kind} ({n})" for kind, n in list(self.formats.items())[:4])
        if rates:
            low, middle, _, high = self.duration_quantiles_s.values()
            lines.append(f"Rates {rates}; formats {kinds}; channels {', '.join(map(str, sorted(self.channels)))}")
            lines.append(f"Durations {low:.2f} s (5 %), {middle:.2f} s (median), {high:.2f} s (longest)")
        if self.n_unreadable:
            lines.append(f"{self.n_unreadable} of {self.n_probed} files cannot be read; ingest quarantines them")
        return lines


def inspect_source(source: Source, partition: str | None = None) -> SourceSummary:
    """Look at a folder or a table of recordings; of a partitioned folder, at the recordings in partitions.

    Bad files are counted, never an error.

    Raises
    ------
    SourceError
        When the source does not exist, holds no recordings, or is a table without a column of paths.
    """
    if not source.is_folder():
        return _inspect_table(source)
    files = source.list_files()
    if not files:
        raise SourceError(f"{source} holds no recordings.")
    files, others = place_files(files, partition)
    if not files:
        raise SourceError(
            f"None of {len(others)} files in {source}, such as {others[0].path!r}, lies in a folder like {partition}. "
            "Correct data.partition."
        )
    paths = [path_in_partition(record) for record in files]
    loose = sum("/" not in path for path in paths)
    labels = Counter(path.partition("/")[0] for path in paths if "/" in path)
    layout = "folder" if sum(labels.values()) > loose else "filename"
    return _summarize(source, files, layout, dict(labels) if layout == "folder" else {})


def _inspect_table(source: Source) -> SourceSummary:
    if source.suffix not in TABLE_EXTENSIONS:
        raise SourceError(
            f"{source} is neither a folder of recordings nor a table ({', '.join(sorted(TABLE_EXTENSIONS))})."
        )
    names = table.column_names(source)
    found = [name for name in PATH_COLUMNS for known in names if known.lower() == name]
    if not found:
        raise SourceError(
            f"{source} has no column of paths (such as {', '.join(PATH_COLUMNS[:3])}); it has: {', '.join(names)}. "
            "Name it with data.path_column in params.yaml."
        )
    column = next(known for known in names if known.lower() == found[0])
    files = table.list_paths(source, column)
    others = tuple(name for name in names if name != column)
    if set(others) >= EVENT_COLUMNS:
        files = list({record.path: record for record in files}.values())
        return _summarize(source.parent(), files, "events", {}, column, others)
    return _summarize(source.parent(), files, "table", {}, column, others)


def _summarize(
    root: Source,
    files: Sequence[Record],
    layout: str,
    labels: dict[str, int],
    path_column: str | None = None,
    columns: tuple[str, ...] = (),
) -> SourceSummary:
    chosen = _choose(root, files)
    with ThreadPoolExecutor(PROBE_THREADS) as pool:
        probed = list(pool.map(lambda record: _probe(root, record), chosen))
    good = [info for info in probed if info is not None]
    durations_s = [info.frames / info.samplerate for info in good]
    return SourceSummary(
        layout=layout,
        n_files=len(files),
        labels=dict(sorted(labels.items())),
        n_probed=len(probed),
        n_unreadable=len(probed) - len(good),
        hours=sum(durations_s) / 3600 * len(files) / len(probed),
        sample_rates=_count([info.samplerate for info in good]),
        channels=_count([info.channels for info in good]),
        formats=_count([info.format for info in good]),
        duration_quantiles_s={q: float(np.quantile(durations_s, q)) for q in QUANTILES} if good else {},
        path_column=path_column,
        columns=columns,
    )


def _choose(root: Source, files: Sequence[Record]) -> list[Record]:
    """Return files spread evenly over the listing; of a remote source no more than are worth their copying."""
    if not root.is_remote:
        most = MAX_PROBED
    else:
        mean_bytes = sum(record.size_bytes for record in files) / len(files)
        most = int(max(1, min(MAX_COPIED, MAX_COPIED_BYTES / max(mean_bytes, 1))))
    return [files[i] for i in sorted({int(i) for i in np.linspace(0, len(files) - 1, min(len(files), most))})]


def _probe(root: Source, record: Record) -> soundfile._SoundFileInfo | None:
    try:
        with root.fetch(record.path) as path:
            info = soundfile.info(str(path))
    except (OSError, soundfile.LibsndfileError):
        return None
    # A piped FLAC states no length; libsndfile then gives the largest count there is.
    return info if 0 < info.frames < 1 << 60 else None


def _show_hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _count(values: Sequence[T]) -> dict[T, int]:
    return dict(Counter(values).most_common())
