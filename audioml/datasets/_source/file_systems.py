"""The file systems of fsspec: one of each kind and options for a process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import fsspec

DEFAULTS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}
"""s3fs would hold ten parts of 50 MB of a large object in memory at the same time; one after the other needs 64 KiB."""
_opened: dict[tuple[int, str, str], Any] = {}


def open_file_system(scheme: str, options: Mapping[str, Any]) -> Any:
    """Return the file system for a kind of URL.

    fsspec keeps one for each thread, as not all may be shared. The asynchronous ones may (they all run in one thread of
    fsspec's own), and must: each has connections, and an S3 client takes longer to make than a clip to read.

    Raises
    ------
    ImportError
        When a package for it is not installed.
    ValueError
        When there is none for such URLs.
    """
    options = {"use_listings_cache": False, **DEFAULTS.get(scheme, {}), **options}
    if not getattr(fsspec.get_filesystem_class(scheme), "async_impl", False):
        return fsspec.filesystem(scheme, **options)
    # The process, because a forked one must not use its parent's.
    key = (os.getpid(), scheme, json.dumps(options, sort_keys=True, default=repr))
    if key not in _opened:
        _opened[key] = fsspec.filesystem(scheme, **options)
    return _opened[key]
