"""Recordings on this machine's disks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audioml.audio.recordings import is_candidate, is_visible
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.errors import SourceError
from audioml.params import is_url


@dataclass(frozen=True)
class LocalSource(Source):
    """A folder or a file. Its version of a file is the time of the last change in nanoseconds."""

    def join(self, path: str) -> Source:
        """Return the source at a relative or absolute path, a path with ``~``, or a URL."""
        if is_url(path):
            return Source.of(path, storage_options=self.options_for(path))
        return replace(self, address=str(Path(self.address) / Path(path).expanduser()))

    def options_for(self, url: str) -> dict[str, Any]:
        """Return the options but for web servers: a table may name recordings in a store and on the web."""
        return {} if url.startswith(("http://", "https://")) else self.options

    def parent(self) -> Source:
        """Return the folder in which it lies."""
        return replace(self, address=str(Path(self.address).parent))

    def is_folder(self) -> bool:
        """Tell a folder from a file."""
        path = Path(self.address)
        if not path.exists():
            raise SourceError(f"The source {path} does not exist. Correct data.source in params.yaml.")
        return path.is_dir()

    def folder_names(self) -> list[str]:
        """Return the names of the visible folders that lie directly in it, sorted."""
        return sorted(path.name for path in Path(self.address).iterdir() if path.is_dir() and is_visible(path.name))

    def has_folder(self, path: str) -> bool:
        """Tell whether there is a folder of this path below it."""
        return self._place(path).is_dir()

    def list_files(self, below: str = "") -> list[Record]:
        """Return a record for each file that may be a recording; links are followed, each folder once."""
        folder = self._place(below)
        root = os.path.realpath(folder)
        prefix = f"{below}/" if below else ""
        return sorted(_walk(str(folder), root, prefix, {root}), key=lambda record: record.path)

    def describe(self, paths: Sequence[str]) -> list[Record]:
        """Return a record for each path."""
        return [self._describe(path) for path in paths]

    def read(self, path: str = "") -> bytes:
        """Return the bytes of one file."""
        # A path of strings: pathlib would take as long as the reading of a short clip.
        with open(os.path.join(self.address, path) if path else self.address, "rb") as file:  # noqa: PTH118, PTH123
            return file.read()

    @contextmanager
    def fetch(self, path: str = "") -> Iterator[Path]:
        """Give the file's own path."""
        yield self._place(path)

    def _place(self, path: str) -> Path:
        return Path(self.address, path) if path else Path(self.address)

    def _describe(self, path: str) -> Record:
        try:
            stat = self._place(path).stat()
        except OSError as error:
            return Record(path, 0, "", problem=("missing", str(error.strerror)))
        return Record(path, stat.st_size, str(stat.st_mtime_ns))


def _walk(folder: str, real: str, prefix: str, seen: set[str]) -> Iterator[Record]:
    """Yield the records of a folder, whose path without links is `real`, and of those in it."""
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise SourceError(f"The folder {folder} cannot be listed: {error.strerror}. Let this user read it.") from None
    folders = []
    for entry in entries:
        if not entry.is_dir():
            if is_candidate(entry.name):
                yield _describe(entry, prefix + entry.name)
        elif is_visible(entry.name):
            folders.append((entry, os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{entry.name}"))
    fresh = sorted(((e, place) for e, place in folders if place not in seen), key=lambda pair: pair[0].name)
    seen.update(place for _, place in fresh)
    for entry, place in fresh:
        yield from _walk(entry.path, place, f"{prefix}{entry.name}/", seen)


def _describe(entry: os.DirEntry[str], relative: str) -> Record:
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"The name of {relative.encode(errors='surrogateescape')!r} is not UTF-8. Rename the file."
        ) from None
    try:
        stat = entry.stat()
    except OSError as error:
        # A link to nothing: reading it fails, and so it ends in the quarantine.
        return Record(relative, 0, "", problem=("missing", f"cannot be opened: {error.strerror}"))
    return Record(relative, stat.st_size, str(stat.st_mtime_ns))
