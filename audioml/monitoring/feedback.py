"""Labels that people give to recordings which were answered, kept beside the log of predictions.

Each import is a file of its own, ``.audioml/feedback/*.parquet``, and is never changed: of two labels of one recording
the later one counts.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.errors import SourceError, did_you_mean
from audioml.monitoring.rows import list_days, read_log
from audioml.store.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "feedback"
SCHEMA = pa.schema(
    {
        "time": pa.timestamp("us", tz="UTC"),
        "request_id": pa.string(),
        "file": pa.int32(),
        "sha256": pa.string(),
        "label": pa.string(),
    }
)
"""One row a label. Either `sha256` or `request_id` and `file` say which recording; the others are null."""
KNOWN = ("request_id", "file", "sha256", "label")
_Label = tuple[str | None, int | None, str | None, str]
"""request_id, file, sha256, label."""
MAX_NAMED = 20
"""Rows that are named in an answer, of those that cannot be used."""


@dataclass(frozen=True)
class Imported:
    """What became of a file of labels."""

    labels: int
    """Kept."""
    rejected: tuple[str, ...]
    """Why the others were not, by row of the file."""


def import_labels(state: Path, source: Path) -> Imported:
    """Keep the labels of a CSV file whose recordings are in the log of predictions.

    Parameters
    ----------
    state
        The folder that has the log.
    source
        Columns ``label``, and ``sha256`` or ``request_id`` (with ``file`` where a request had several recordings, from
        0); further columns do not matter.

    Raises
    ------
    SourceError
        When the file cannot be read, or lacks these columns; when the log is empty.
    """
    given = _read_csv(source)
    if not (days := list_days(state)):
        raise SourceError(f"There are no predictions to label in {state}. Serve the model first: audioml serve")
    log = read_log(state, days, ("request_id", "file", "sha256"))
    requests = set(zip(log["request_id"], log["file"], strict=True))
    hashes = set(log["sha256"].dropna())
    kept: list[_Label] = []
    rejected: list[str] = []
    # The header is the file's first line.
    for line, row in enumerate(given.to_dict("records"), start=2):
        request, number, digest, label = (str(row[name]).strip() for name in KNOWN)
        if not label:
            rejected.append(f"row {line}: the label is empty")
        elif digest and digest in hashes:
            kept.append((None, None, digest, label))
        elif digest:
            rejected.append(f"row {line}: the log has no recording with sha256 {digest[:12]}")
        elif not request:
            rejected.append(f"row {line}: there is neither request_id nor sha256")
        elif not (number or "0").isdecimal():
            rejected.append(f"row {line}: file is {number!r}, but must be a whole number from 0")
        elif (request, int(number or 0)) in requests:
            kept.append((request, int(number or 0), None, label))
        else:
            rejected.append(f"row {line}: the log has no recording {int(number or 0)} of request {request}")
    if kept:
        _write(state, kept)
    return Imported(len(kept), tuple(rejected))


def read_labels(state: Path) -> pd.DataFrame:
    """Return all labels, columns as in `SCHEMA`, the latest last."""
    files = sorted((state / FOLDER).glob("[!.]*.parquet"))
    table = pa.concat_tables([pq.read_table(path, schema=SCHEMA) for path in files] or [SCHEMA.empty_table()])
    frame: pd.DataFrame = table.to_pandas()
    return frame.sort_values("time", kind="stable").reset_index(drop=True)


def join_labels(log: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the log that have a label, with a column ``label``: the latest that was given.

    A label by hash is of every row with that audio.
    """
    by_hash = labels.dropna(subset=["sha256"]).drop_duplicates("sha256", keep="last")
    by_request = labels.dropna(subset=["request_id"]).drop_duplicates(["request_id", "file"], keep="last")
    joined = log
    for kind, given, keys in (("hash", by_hash, ["sha256"]), ("request", by_request, ["request_id", "file"])):
        named = {"label": f"label_of_{kind}", "time": f"time_of_{kind}"}
        joined = joined.merge(given[[*keys, *named]].rename(columns=named), on=keys, how="left")
    at, by_now = joined["time_of_hash"], joined["time_of_request"]
    later = by_now.notna() & (at.isna() | (by_now >= at))
    joined["label"] = joined["label_of_request"].where(later, joined["label_of_hash"])
    made = [name for name in joined.columns if name.endswith(("_of_hash", "_of_request"))]
    return joined[joined["label"].notna()].drop(columns=made).reset_index(drop=True)


def _read_csv(source: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        given = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise SourceError(
            f"{source} is no CSV file that can be read ({error}). Save it as UTF-8, with a header."
        ) from None
    if "label" not in given:
        advice = did_you_mean("label", given.columns)
        raise SourceError(f"{source} has no column label (it has: {', '.join(given.columns)}).{advice}")
    if not {"request_id", "sha256"} & set(given.columns):
        raise SourceError(
            f"{source} has neither the column request_id nor sha256 (it has: {', '.join(given.columns)}), so nothing "
            "says which recordings the labels are of. Both are in the server's answers and log."
        )
    return given.reindex(columns=list(KNOWN), fill_value="")


def _write(state: Path, rows: list[_Label]) -> None:
    now = datetime.datetime.now(datetime.UTC)
    columns = [[now] * len(rows), *map(list, zip(*rows, strict=True))]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    path = state / FOLDER / f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.parquet"
    with write_atomic(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), temporary, compression="zstd")
