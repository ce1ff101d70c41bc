"""Recordings on a web server: a listing in HTML, as Apache, nginx, Caddy and `python -m http.server` write it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import aiohttp
from aiohttp_retry import ExponentialRetry, RetryClient

from audioml.audio.recordings import is_visible
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.datasets._source.failures import explain_failures, explain_object_failures
from audioml.datasets._source.remote import RemoteSource, make_record, may_be_recording

ATTEMPTS = 5
FIRST_WAIT_S = 0.2
"""Doubled after each attempt. fsspec itself does not try a web server again."""
CONNECT_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 60.0
"""Between two pieces of an answer. There is no limit on the whole, which may be hours of audio."""
REQUESTS = 16
"""Asked at the same time."""


async def make_client(**options: Any) -> RetryClient:
    """Return a client that tries again, and takes proxies and ``~/.netrc`` from the environment."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    retry = ExponentialRetry(
        ATTEMPTS,
        start_timeout=FIRST_WAIT_S / 2,
        statuses={429},
        exceptions={aiohttp.ClientConnectionError, TimeoutError},
    )
    options.pop("loop", None)
    return RetryClient(retry_options=retry, **{"timeout": timeout, "trust_env": True, **options})


@dataclass(frozen=True)
class HttpSource(RemoteSource):
    """A listing or a table on a web server. Its versions are what HEAD requests say: ETag or Last-Modified."""

    def fs_options(self) -> dict[str, Any]:
        """Return the options with a client that tries again."""
        return {"get_client": make_client, **self.options}

    @property
    def suffix(self) -> str:
        """The extension, without what follows a question mark."""
        return posixpath.splitext(urlsplit(self.address).path)[1].lower()

    def relative(self, url: str) -> str:
        """Return the URL itself: what follows a question mark must be kept."""
        return url

    def url(self, path: str) -> str:
        """Return the URL of a relative path."""
        return self.place(path)

    def parent(self) -> Source:
        """Return the folder in which it lies."""
        return replace(self, address=urljoin(self.address.partition("?")[0].rstrip("/"), "."))

    def place(self, path: str) -> str:
        """Return the URL of a path, or of a URL."""
        if not path or "://" in path:
            return path or self.address
        return f"{self.address.partition('?')[0].rstrip('/')}/{quote(path)}"

    def folder_place(self, path: str) -> str:
        """Return the URL of a folder, with the slash that servers want at its end."""
        return self.place(path).rstrip("/") + "/"

    def describes_folder(self, info: Mapping[str, Any]) -> bool:
        """Tell a listing from a file: it is a page."""
        return bool(info.get("mimetype") == "text/html")

    def folder_names(self) -> list[str]:
        """Return the names of the folders that the listing links to."""
        return sorted(link.rstrip("/") for link in self._links("") if link.endswith("/") and is_visible(link[:-1]))

    def list_files(self, below: str = "") -> list[Record]:
        """Return a record for each file that the listing and those below it link to."""
        start = f"{below}/" if below else ""
        return self.describe(sorted(path for path in self._walk(start) if may_be_recording(path)))

    def describe(self, paths: Sequence[str]) -> list[Record]:
        """Return a record for each path by a request for its headers."""
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(self._describe, paths))

    def _describe(self, path: str) -> Record:
        fs, place = self.fs, self.place(path)
        try:
            with explain_object_failures(self.address, place, self.answers):
                return make_record(path, fs.info(place))
        except FileNotFoundError as error:
            return Record(path, 0, "", problem=("missing", f"{error.strerror}"))
        except OSError as error:
            return Record(path, 0, "", problem=("unreadable", f"{error.strerror}"))

    def _walk(self, start: str) -> Iterator[str]:
        folders = [start]
        with ThreadPoolExecutor(REQUESTS) as pool:
            while folders:
                links = [
                    folder + link
                    for folder, found in zip(folders, pool.map(self._links, folders), strict=True)
                    for link in found
                ]
                yield from (link for link in links if not link.endswith("/"))
                folders = [link for link in links if link.endswith("/") and is_visible(link[:-1].rpartition("/")[2])]

    def _links(self, folder: str) -> list[str]:
        """Return the names that the page of a folder links to directly below it, folders with a slash at their end."""
        fs, url = self.fs, self.folder_place(folder)
        with explain_failures(url):
            page = fs.cat_file(url).decode(errors="replace")
        return find_names(page, url)


def find_names(page: str, url: str) -> list[str]:
    """Return the names directly below a URL to which its page links, once each, in the order of the page.

    Links elsewhere (to the folder above, to other orders of the list) are left out. fsspec has a search for links too,
    but it loses names with an apostrophe, an ampersand or a leading ``http``.
    """
    parser = _Links()
    parser.feed(page)
    base = unquote(urlsplit(url).path)
    names: dict[str, None] = {}
    for link in parser.links:
        target = urlsplit(urljoin(url, link))
        path = unquote(target.path)
        name = path.removeprefix(base)
        below = path.startswith(base) and target.netloc == urlsplit(url).netloc and not target.query
        if below and name.strip("/") and "/" not in name[:-1]:
            names[name] = None
    return list(names)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where an anchor leads."""
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]
