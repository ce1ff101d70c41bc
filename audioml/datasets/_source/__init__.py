"""Where recordings lie: a folder, a table file, or an address that fsspec reads. Layouts see no difference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audioml.datasets._record import Record
from audioml.params import is_url


@dataclass(frozen=True)
class Source(ABC):
    """A folder of recordings or a table file, here or elsewhere.

    Paths given to its methods and in its records are relative to it, with forward slashes; ``""`` is the source
    itself. Methods raise a SourceError when the address is wrong or may not be read, and a ServiceError when nothing
    answers there. `read` and `fetch` raise an OSError when it is the one recording that fails.
    """

    address: str
    """An absolute path, or a URL."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Of fsspec's file system; for a local table, of the URLs in it."""

    @staticmethod
    def of(address: str | Path, workspace: Path = Path(), storage_options: Mapping[str, Any] | None = None) -> Source:
        """Return the source at a path, relative to the workspace, or at a URL.

        Parameters
        ----------
        address
            ``recordings``, ``/data/birds.csv``, ``s3://bucket/prefix``, ``https://host/listing/``, or any other URL
            that fsspec knows.
        workspace
            Where relative paths start.
        storage_options
            Options of fsspec for URLs, such as ``endpoint_url``.

        Raises
        ------
        SourceError
            When nothing that is installed reads such a URL.
        """
        if isinstance(address, Path) or not is_url(address):
            from audioml.datasets._source.local import LocalSource

            return LocalSource(str((workspace / address).resolve()), dict(storage_options or {}))
        from audioml.datasets._source.remote import open_url

        return open_url(address, storage_options or {})

    def __str__(self) -> str:
        return self.address

    @property
    def is_remote(self) -> bool:
        """Whether reading goes over the network."""
        return is_url(self.address)

    @property
    def suffix(self) -> str:
        """The extension in lower case with its dot, such as ``.csv``."""
        return Path(self.address).suffix.lower()

    @abstractmethod
    def join(self, path: str) -> Source:
        """Return the source at a path relative to this one, at an absolute path, or at a URL."""

    @abstractmethod
    def parent(self) -> Source:
        """Return the folder in which it lies."""

    @abstractmethod
    def is_folder(self) -> bool:
        """Tell a folder from a file.

        Raises
        ------
        SourceError
            When there is neither.
        """

    @abstractmethod
    def folder_names(self) -> list[str]:
        """Return the names of the visible folders that lie directly in it, sorted."""

    @abstractmethod
    def has_folder(self, path: str) -> bool:
        """Tell whether there is a folder of this path below it."""

    @abstractmethod
    def list_files(self, below: str = "") -> list[Record]:
        """Return a record without columns for each file that may be a recording, sorted by path.

        Hidden files and sidecars are left out. With `below`, only that folder is looked into, which must be there.
        """

    @abstractmethod
    def describe(self, paths: Sequence[str]) -> list[Record]:
        """Return a record without columns for each path, in their order.

        One that is not there has the problem `missing`.
        """

    def describe_urls(self, urls: Sequence[str]) -> list[Record]:
        """Return what `describe` does, for URLs anywhere. The paths of the records are the whole URLs."""
        if not urls:
            return []
        from audioml.datasets._source.remote import describe_urls

        return describe_urls(urls, self.options_for)

    @abstractmethod
    def options_for(self, url: str) -> dict[str, Any]:
        """Return those of its options that suit a URL anywhere."""

    @abstractmethod
    def read(self, path: str = "") -> bytes:
        """Return the bytes of one file."""

    @abstractmethod
    def fetch(self, path: str = "") -> AbstractContextManager[Path]:
        """Give a local path of one file for the length of a ``with`` block, in memory that does not grow with it.

        A remote file is copied to disk (`TMPDIR`) for so long, without a name there: a killed process leaves nothing.
        """
