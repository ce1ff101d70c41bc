"""How a command of Airflow's writes to the embedded Airflow's SQLite while its scheduler does too.

SQLAlchemy's nested transactions begin with SAVEPOINT, which in SQLite takes no lock. When another process writes
between a read and a write in one, the write fails at once with ``database is locked``, whatever the timeout, as what
was read is out of date (https://sqlite.org/rescode.html#busy_snapshot). So a transaction that begins in this way takes
the write lock first, and waits for it.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Self


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> Self:
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class WritingConnection(sqlite3.Connection):
    """A connection whose nested transactions take the write lock as they begin."""

    def cursor(self, factory: Any = _Cursor) -> Any:
        """Return a cursor of the kind that does so."""
        return super().cursor(factory)


CONNECT_ARGUMENTS = {"factory": WritingConnection}
"""For Airflow's setting `[database] sql_alchemy_connect_args`, which names this."""
