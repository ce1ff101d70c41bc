"""Recordings at a URL, read through fsspec."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audioml.audio.recordings import is_candidate, is_visible
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.datasets._source.failures import Kind, diagnose, explain_failures, explain_object_failures, network_errors
from audioml.datasets._source.file_systems import open_file_system
from audioml.errors import SourceError
from audioml.params import is_url

VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "Last-Modified", "updated", "created")
"""Where listings keep what changes with the bytes, the best first: a checksum is better than a time."""


def open_url(address: str, options: Mapping[str, Any]) -> RemoteSource:
    """Return the source at a URL.

    Raises
    ------
    SourceError
        When nothing that is installed reads such a URL.
    """
    from audioml.datasets._source.http import HttpSource

    scheme = address.partition("://")[0]
    source = (HttpSource if scheme in ("http", "https") else RemoteSource)(address, dict(options))
    source.fs  # noqa: B018 - says at once what is not installed
    return source


def describe_urls(urls: Sequence[str], options_for: Callable[[str], Mapping[str, Any]]) -> list[Record]:
    """Return a record for each URL, in their order; its path is the whole URL."""
    groups: dict[RemoteSource, list[str]] = {}
    for url in urls:
        groups.setdefault(open_url(url, options_for(url)).top(), []).append(url)
    found = {}
    for top, members in groups.items():
        records = top.describe([top.relative(url) for url in members])
        found.update({url: replace(record, path=url) for url, record in zip(members, records, strict=True)})
    return [found[url] for url in urls]


@dataclass(frozen=True)
class RemoteSource(Source):
    """A folder or a file at a URL. Its version of a file is the ETag, or else the time of the last change."""

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.address.partition("://")[0]

    @property
    def fs(self) -> Any:
        """The file system. It belongs to the process, which is why it is not kept here."""
        try:
            with explain_failures(self.address):
                return open_file_system(self.scheme, self.fs_options())
        except ImportError as error:
            extra = 'Install it with: pip install "audioml[s3]"' if self.scheme in ("s3", "s3a") else str(error)
            raise SourceError(f"Reading {self.address} needs a package that is not installed. {extra}") from None
        except ValueError:
            raise SourceError(
                f"Nothing reads {self.scheme}:// ({self.address}). data.source is a path, or a URL such as "
                "s3://bucket/prefix or https://host/listing/."
            ) from None

    def fs_options(self) -> dict[str, Any]:
        """Return the file system's options."""
        return self.options

    def top(self) -> RemoteSource:
        """Return the bucket or host in which it lies."""
        scheme, _, rest = self.address.partition("://")
        return replace(self, address=f"{scheme}://{rest.partition('/')[0]}")

    def relative(self, url: str) -> str:
        """Return the path of a URL that lies below this source."""
        return url.removeprefix(self.address).lstrip("/")

    def join(self, path: str) -> Source:
        """Return the source at a relative path, or at a URL."""
        if is_url(path):
            return open_url(path, self.options_for(path))
        return replace(self, address=self.url(path))

    def url(self, path: str) -> str:
        """Return the URL of a relative path, which may start with ``..``."""
        scheme, _, start = self.address.partition("://")
        joined = f"{start.rstrip('/')}/{path}"
        # Only then: in other paths two slashes are not one.
        return f"{scheme}://{posixpath.normpath(joined) if '..' in path.split('/') else joined}"

    def options_for(self, url: str) -> dict[str, Any]:
        """Return the options for another URL: these suit its kind of file system only."""
        return self.options if url.partition("://")[0] == self.scheme else {}

    def parent(self) -> Source:
        """Return the folder in which it lies."""
        return replace(self, address=self.address.rstrip("/").rpartition("/")[0])

    def is_folder(self) -> bool:
        """Tell a folder from a file."""
        return self.describes_folder(self.info())

    def describes_folder(self, info: Mapping[str, Any]) -> bool:
        """Tell a folder from a file by what the file system says of it."""
        return bool(info["type"] == "directory")

    def folder_names(self) -> list[str]:
        """Return the names of the folders that lie directly in it; most stores know no empty ones."""
        with explain_failures(self.address):
            found = self.fs.ls(self.place(""), detail=True)
        names = {posixpath.basename(info["name"].rstrip("/")) for info in found if info["type"] == "directory"}
        return sorted(name for name in names if is_visible(name))

    def has_folder(self, path: str) -> bool:
        """Tell whether there is a folder of this path below it; most stores know no empty ones."""
        fs, place = self.fs, self.folder_place(path)
        with explain_failures(self.address):
            try:
                return self.describes_folder(fs.info(place))
            except network_errors() as error:
                if diagnose(error)[0] is not Kind.MISSING:
                    raise
                return False

    def list_files(self, below: str = "") -> list[Record]:
        """Return a record for each file that may be a recording."""
        start = len(self.place("")) + 1
        paths = {name[start:]: info for name, info in self._find(self.place(below)).items()}
        return [make_record(path, paths[path]) for path in sorted(paths) if may_be_recording(path)]

    def describe(self, paths: Sequence[str]) -> list[Record]:
        """Return a record for each path: one listing of the folder they share, as asking for each takes longer."""
        places = [self.place(path) for path in paths]
        if not places:
            return []
        found = self._find(posixpath.commonpath([posixpath.dirname(place) for place in places]))
        gone = ("missing", f"is not at {self.address}")
        return [
            make_record(path, found[place]) if place in found else Record(path, 0, "", problem=gone)
            for path, place in zip(paths, places, strict=True)
        ]

    def read(self, path: str = "") -> bytes:
        """Return the bytes of one file."""
        fs, place = self.fs, self.place(path)
        with explain_object_failures(self.address, place, self.answers):
            data: bytes = fs.cat_file(place)
        return data

    @contextmanager
    def fetch(self, path: str = "") -> Iterator[Path]:
        """Give the path of a copy on disk, which has no name there and so goes with this process."""
        fs, place = self.fs, self.place(path)
        with tempfile.TemporaryFile() as file:
            copy = Path(f"/proc/self/fd/{file.fileno()}")
            with explain_object_failures(self.address, place, self.answers):
                fs.get_file(place, str(copy))
            yield copy

    def place(self, path: str) -> str:
        """Return a path as the file system takes it."""
        address = self.url(path) if path else self.address
        return str(self.fs._strip_protocol(address)).rstrip("/")

    def folder_place(self, path: str) -> str:
        """Return the path of a folder as the file system takes it."""
        return self.place(path)

    def info(self) -> dict[str, Any]:
        """Return what the file system says of the source itself."""
        fs, place = self.fs, self.place("")
        with explain_failures(self.address):
            found: dict[str, Any] = fs.info(place)
        return found

    def answers(self, place: str) -> bool:
        """Tell whether there is an answer at the folder in which a file lies, be it a refusal."""
        try:
            self.fs.info(place.rpartition("/")[0])
        except network_errors() as error:
            return diagnose(error)[0] is not Kind.AWAY
        return True

    def _find(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return what the file system says of each file below a folder, by the file's place."""
        fs = self.fs
        with explain_failures(self.address):
            found = fs.find(folder, detail=True)
        # Some tools mark a folder by an empty object whose name ends with a slash.
        return {name: info for name, info in found.items() if info["type"] == "file" and not name.endswith("/")}


def make_record(path: str, info: Mapping[str, Any]) -> Record:
    """Return the record of what a file system says of a file."""
    versions = (info[key] for key in VERSION_KEYS if info.get(key) is not None)
    return Record(path, int(info.get("size") or 0), str(next(versions, "")).strip('"'))


def may_be_recording(path: str) -> bool:
    """Tell whether a file may be a recording: neither hidden nor a sidecar, in no hidden folder."""
    *folders, name = path.split("/")
    return is_candidate(name) and all(is_visible(folder) for folder in folders)
