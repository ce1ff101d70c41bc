"""Listing of the files under a folder that may be recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from audioml.datasets._record import Record
from audioml.errors import SourceError

# fmt: off
SIDECAR_EXTENSIONS = frozenset(
    {
        ".7z", ".bib", ".bmp", ".bz2", ".cfg", ".conf", ".csv", ".dat", ".doc", ".docx", ".dvc", ".eaf", ".gif",
        ".gz", ".h5", ".hdf5", ".htm", ".html", ".ini", ".ipynb", ".jams", ".jpeg", ".jpg", ".json", ".jsonl",
        ".lab", ".lock", ".log", ".md", ".md5", ".mid", ".midi", ".ndjson", ".npy", ".npz", ".ods", ".odt",
        ".parquet", ".pdf", ".pickle", ".pkl", ".png", ".pt", ".py", ".rar", ".rst", ".rttm", ".sh", ".sha256",
        ".srt", ".svg", ".tar", ".textgrid", ".tgz", ".toml", ".tsv", ".txt", ".url", ".vtt", ".webp", ".xls",
        ".xlsx", ".xml", ".yaml", ".yml", ".zip",
    }
)
# fmt: on
"""Files that go with recordings and are no audio. Any other file is a candidate, whatever its name: one that turns
out not to be audio is reported in the quarantine instead of vanishing."""
SIDECAR_NAMES = frozenset(
    {"authors", "changelog", "copying", "credits", "license", "licence", "makefile", "notice", "readme"}
)
SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def check_folder(source: Path | None, layout: str) -> Path:
    """Return the source if it is a folder.

    Raises
    ------
    SourceError
        When there is none, or it is a file.
    """
    if source is None:
        raise SourceError(f"data.layout {layout!r} needs data.source: the folder of recordings. Set it in params.yaml.")
    if not source.exists():
        raise SourceError(f"The source {source} does not exist. Correct data.source in params.yaml.")
    if not source.is_dir():
        raise SourceError(f"The source {source} is a file, but data.layout {layout!r} needs a folder of recordings.")
    return source


def list_files(root: Path) -> list[Record]:
    """Return a record without columns for each file below `root` that may be a recording, sorted by path.

    Hidden files and sidecars are left out; symbolic links are followed, each folder once.

    Raises
    ------
    SourceError
        When a name is not valid UTF-8.
    """
    return sorted((_describe(root, path) for path in _walk(root)), key=lambda record: record.path)


def is_candidate(name: str) -> bool:
    """Tell whether a file of this name may be a recording."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122 - a name, not a path
    hidden = name.startswith(".") or name.lower() in SYSTEM_NAMES
    return not (hidden or extension in SIDECAR_EXTENSIONS or (not extension and stem in SIDECAR_NAMES))


def is_visible(name: str) -> bool:
    """Tell whether a folder of this name is looked into."""
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def read_file(root: Path, record: Record) -> bytes:
    """Return the bytes of a record whose path is relative to `root`."""
    return (root / record.path).read_bytes()


def _walk(root: Path) -> Iterator[Path]:
    seen = {os.path.realpath(root)}
    for folder, names, files in os.walk(root, followlinks=True):
        visible = sorted(name for name in names if is_visible(name))
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in visible}  # noqa: PTH118
        names[:] = [name for name in visible if real[name] not in seen]
        seen.update(real.values())
        yield from (Path(folder) / name for name in files if is_candidate(name))


def _describe(root: Path, path: Path) -> Record:
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"The name of {relative.encode(errors='surrogateescape')!r} is not UTF-8. Rename the file."
        ) from None
    try:
        stat = path.stat()
    except OSError as error:
        # A link to nothing: reading it fails, and so it ends in the quarantine.
        detail = f"cannot be opened: {error.strerror}"
        return Record(relative, 0, 0, problem=("missing", detail))
    return Record(relative, stat.st_size, stat.st_mtime_ns)
