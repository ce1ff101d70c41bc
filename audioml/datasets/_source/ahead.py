"""Reading ahead of a source that takes its time: several files at once, given in the order asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from audioml.datasets._record import Record
from audioml.datasets._source import Source

THREADS = 16
AHEAD_BYTES = 64e6
"""Read at most before they are asked for, by the listing's sizes; one file is read whatever its size."""


def read_ahead(
    source: Source | None, read: Callable[[Record], bytes], records: Sequence[Record]
) -> Iterator[Callable[[], bytes]]:
    """Yield for each record, in order, a function that returns its bytes or raises what reading it raised.

    Parameters
    ----------
    source
        Where they are. Of a local one, or of none, each is read when its function is called: disks gain nothing.
    read
        What reads one record; called in threads for a remote source.
    records
        In the order in which they are wanted.
    """
    if source is None or not source.is_remote:
        yield from (partial(read, record) for record in records)
        return
    pool = ThreadPoolExecutor(THREADS, "audioml-read")
    begun: deque[Future[bytes]] = deque()
    ahead_bytes = 0
    position = 0
    try:
        for record in records:
            while position < len(records) and _has_room(len(begun), ahead_bytes + records[position].size_bytes):
                begun.append(pool.submit(read, records[position]))
                ahead_bytes += records[position].size_bytes
                position += 1
            yield begun.popleft().result
            ahead_bytes -= record.size_bytes
    finally:
        pool.shutdown(cancel_futures=True)


def _has_room(n_begun: int, ahead_bytes: int) -> bool:
    return n_begun == 0 or (n_begun < 2 * THREADS and ahead_bytes <= AHEAD_BYTES)
