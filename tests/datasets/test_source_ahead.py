import threading
from functools import partial

import pytest

from audioml.datasets._record import Record
from audioml.datasets._source import Source, ahead
from audioml.datasets._source.ahead import read_ahead

RECORDS = [Record(f"{i}.wav", 10, "v") for i in range(100)]


@pytest.fixture
def slow():
    """A source at a URL."""
    return Source.of("memory://birds")


def test_order_and_errors_are_those_of_reading_one_by_one(slow):
    def read(record):
        if record.path == "7.wav":
            raise FileNotFoundError(2, "gone")
        return record.path.encode()

    for source in (slow, None):
        found = []
        for get in read_ahead(source, read, RECORDS):
            try:
                found.append(get())
            except FileNotFoundError:
                found.append(b"gone")
        assert found == [b"gone" if r.path == "7.wav" else r.path.encode() for r in RECORDS]


def test_several_are_read_at_once(slow):
    together = threading.Barrier(ahead.THREADS)

    def read(record):
        together.wait(timeout=30)
        return b""

    assert len([get() for get in read_ahead(slow, read, RECORDS[: 2 * ahead.THREADS])]) == 2 * ahead.THREADS


def test_no_more_is_held_than_the_bound(slow, monkeypatch):
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 30)
    begun = []

    def read(record):
        begun.append(record)
        return b"x" * record.size_bytes

    for done, get in enumerate(read_ahead(slow, read, RECORDS)):
        assert len(get()) == 10
        assert len(begun) - done <= 3


def test_a_reader_that_stops_early_stops_the_reading(slow):
    begun = []
    gets = read_ahead(slow, lambda record: begun.append(record) or b"", RECORDS)
    next(gets)()
    gets.close()
    assert len(begun) <= 2 * ahead.THREADS


def test_a_local_source_is_read_when_asked(tmp_path):
    begun = []
    gets = list(read_ahead(Source.of(tmp_path), partial(begun.append), RECORDS))
    assert (len(gets), begun) == (100, [])
