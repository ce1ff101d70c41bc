"""One folder per class: the first folder below the source is the label, files may lie deeper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from audioml.datasets._files import check_folder, check_source
from audioml.datasets._partition import join_sorted, path_in_partition, place_files
from audioml.datasets._record import EXAMPLES, UNLABELLED, Record, add_pattern_columns, set_labels
from audioml.datasets._source import Source
from audioml.errors import SourceError
from audioml.params import DataParams


class Params(DataParams):
    """Class folders have no keys of their own."""


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return the recordings of all class folders, sorted by path.

    The folder's name is the column `label`, or `folder` where `data.label` names another column. A file that
    lies beside the class folders gets the problem `unlabelled`.

    Raises
    ------
    SourceError
        When the source is no folder, has no class folders, or one of them is empty.
    """
    root = check_folder(source, data.layout)
    files = root.list_files()
    if data.partition is None:
        _check_classes(root, files)
    return describe(data, files)


def describe(data: Params, files: Sequence[Record]) -> list[Record]:
    """Return the records of listed files with the columns that their paths give, sorted by path.

    Where `data.partition` is set, the class folders are the first below each partition, and its key is the column
    `partition`.
    """
    placed, others = place_files(files, data.partition)
    if not placed:
        return others
    column = "label" if data.label == "label" else "folder"
    records = [_add_folder(record, column) for record in placed]
    return join_sorted(set_labels(add_pattern_columns(records, data.pattern), data), others)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return check_source(source, data.layout).read(record.path)


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Give a local path of one recording for the length of a ``with`` block."""
    return check_source(source, data.layout).fetch(record.path)


def _add_folder(record: Record, column: str) -> Record:
    folder, _, rest = path_in_partition(record).partition("/")
    if not rest:
        problem = (UNLABELLED, "lies beside the class folders; move it into one")
        return replace(record, columns={**record.columns, column: None}, problem=problem)
    return replace(record, columns={**record.columns, column: folder})


def _check_classes(root: Source, files: list[Record]) -> None:
    folders = root.folder_names()
    if not folders:
        raise SourceError(
            f"{root} has no class folders ({len(files)} files lie in it directly). Put the recordings of each class "
            "into a folder of its own, or use data.layout: filename with a data.pattern."
        )
    counts = Counter(record.path.partition("/")[0] for record in files if "/" in record.path)
    if empty := [name for name in folders if not counts[name]]:
        named = ", ".join(repr(name) for name in empty[:EXAMPLES]) + (" ..." if len(empty) > EXAMPLES else "")
        raise SourceError(
            f"{len(empty)} of {len(folders)} class folders in {root} hold no recordings: {named}. "
            "Add recordings to them, or remove the folders."
        )
