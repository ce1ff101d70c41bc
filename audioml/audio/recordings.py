"""Which files are recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from audioml.errors import ParamsError
from audioml.params import FILE_NAME

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


def is_candidate(name: str) -> bool:
    """Tell whether a file of this name may be a recording."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122 - a name, not a path
    hidden = name.startswith(".") or name.lower() in SYSTEM_NAMES
    return not (hidden or extension in SIDECAR_EXTENSIONS or (not extension and stem in SIDECAR_NAMES))


def is_visible(name: str) -> bool:
    """Tell whether a folder of this name is looked into."""
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def list_recordings(folder: Path, key: str, words: Iterable[str] = ()) -> list[Path]:
    """Return the files of a folder and those below that may be recordings, as the layout `folder` takes them, sorted.

    Parameters
    ----------
    folder
        The folder.
    key, words
        The key of params.yaml that names it, and what that may be in place of a folder.

    Raises
    ------
    ParamsError
        When there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_candidate(path.name))
    if not files:
        expected = ", ".join([*words, "the path of a folder"])
        raise ParamsError(f"{FILE_NAME}: {key!r}: there are no recordings in {folder}. Write {expected}.")
    return files
