"""The SQLite file of a rollout store: pointers, the trial, what was compared, and the audit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesparse_runtime.errors import BundleError

FILE = "rollout.sqlite"
VERSION = 1
# Another process holds the lock for one transaction; nobody waits long.
_BUSY_SECONDS = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS pointer (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bundle (sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, release INTEGER NOT NULL,
    expires TEXT NOT NULL, added REAL NOT NULL);
CREATE TABLE IF NOT EXISTS trial (one INTEGER PRIMARY KEY CHECK (one = 1), mode TEXT NOT NULL,
    began REAL NOT NULL, deadline REAL NOT NULL, windows INTEGER NOT NULL DEFAULT 0,
    equal INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, late INTEGER NOT NULL DEFAULT 0,
    current_ms REAL NOT NULL DEFAULT 0, trial_ms REAL NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS process (pid INTEGER NOT NULL, start TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (pid, start));
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL,
    action TEXT NOT NULL, sha256 TEXT NOT NULL, detail TEXT NOT NULL);
"""


class Database:
    """One connection; each change is one transaction, durable when it returns.

    Raises:
        BundleError: the file is no store, damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        with self._named():
            self._connection.execute("PRAGMA synchronous=FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise BundleError(f"{path} must be of version {VERSION}; it is of {version}. Update edgesparse.")
        if version < VERSION:
            with self.change() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """All statements of the block happen, or none."""
        with self._named():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._named():
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(5, str(error), str(self._path)) from None
        except sqlite3.DatabaseError as error:
            raise BundleError(f"{self._path} must be a rollout store; {error}.") from None
