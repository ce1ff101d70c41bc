import sqlite3
from contextlib import closing

import pytest

from audioml.orchestration.airflow_sqlite import CONNECT_ARGUMENTS


@pytest.fixture
def connect(tmp_path):
    def make(**arguments):
        connection = sqlite3.connect(tmp_path / "db", timeout=0, **arguments)
        connection.execute("PRAGMA journal_mode=WAL")
        return closing(connection)

    with make() as first:
        first.execute("CREATE TABLE runs (id INTEGER)")
    return make


def read_then_write(cursor, other):
    """A nested transaction that reads, then writes; another process writes in between."""
    cursor.execute("SAVEPOINT one")
    cursor.execute("SELECT * FROM runs").fetchall()
    try:
        other.execute("INSERT INTO runs VALUES (1)")
        other.commit()
    finally:
        cursor.execute("INSERT INTO runs VALUES (2)")
        cursor.execute("RELEASE SAVEPOINT one")
        cursor.connection.commit()


def test_without_it_the_write_fails_however_long_it_would_wait(connect):
    with connect() as ours, connect() as other:
        ours.execute("PRAGMA busy_timeout=60000")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            read_then_write(ours.cursor(), other)


def test_with_it_the_other_waits_and_both_are_written(connect):
    with connect(**CONNECT_ARGUMENTS) as ours, connect() as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            read_then_write(ours.cursor(), other)
        other.execute("INSERT INTO runs VALUES (1)")
        other.commit()
        assert ours.execute("SELECT id FROM runs").fetchall() == [(2,), (1,)]
