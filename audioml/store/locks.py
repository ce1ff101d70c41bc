"""Locks between processes that the kernel drops when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold a file's lock for the block, waiting for it first; yield its descriptor.

    Any number of holders may share it; one exclusive holder has it alone.
    """
    descriptor = _lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield descriptor
    finally:
        # Children forked in the block share the lock: unlock it for them too, closing is not enough.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def remove_lock(path: Path) -> None:
    """Remove the file of a lock, unless somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if try_exclusive(descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(path: Path, kind: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, kind)
        # The file may have been removed while this waited for it: then others lock the one that is there now.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)


def try_exclusive(descriptor: int) -> bool:
    """Turn the lock of an open file into an exclusive one, if nobody else holds it; don't wait."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
