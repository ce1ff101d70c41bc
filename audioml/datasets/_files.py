"""Which files of a source may be recordings, and whether the source is a folder of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from audioml.errors import SourceError

if TYPE_CHECKING:
    from audioml.datasets._source import Source

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


def check_source(source: Source | None, layout: str) -> Source:
    """Return the source if there is one.

    Raises
    ------
    SourceError
        When params name none.
    """
    if source is None:
        raise SourceError(
            f"data.layout {layout!r} needs data.source: the folder of recordings, or its URL. Set it in params.yaml."
        )
    return source


def check_folder(source: Source | None, layout: str) -> Source:
    """Return the source if it is a folder.

    Raises
    ------
    SourceError
        When there is none, or it is a file, or its address does not answer.
    """
    source = check_source(source, layout)
    if not source.is_folder():
        raise SourceError(f"The source {source} is a file, but data.layout {layout!r} needs a folder of recordings.")
    return source


def is_candidate(name: str) -> bool:
    """Tell whether a file of this name may be a recording."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122 - a name, not a path
    hidden = name.startswith(".") or name.lower() in SYSTEM_NAMES
    return not (hidden or extension in SIDECAR_EXTENSIONS or (not extension and stem in SIDECAR_NAMES))


def is_visible(name: str) -> bool:
    """Tell whether a folder of this name is looked into."""
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES
