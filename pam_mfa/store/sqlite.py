"""The SQLite store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import StoreError
from .base import Attempt, Operation, Query
from .rows import DECOY_UID
from .seal import Sealer
from .sqlite_file import (
    PAGE_BYTES,
    PATIENCE,
    WAL_BYTES,
    Identity,
    as_store_error,
    check_application,
    check_file,
    check_key,
    check_schema,
    identify,
    is_harmless,
    is_local,
    open_file,
    page_count,
)
from .sqlite_leases import OPERATIONS, QUERIES
from .sqlite_setup import grow
from .sqlite_tallies import add_tally

# Every open connection, so that forgetting a store never closes one: the last connection to close deletes
# the write-ahead log, and with it the room that lets logins go on when the disk is full.
_open: list[sqlite3.Connection] = []

SAVEPOINT = ("SAVEPOINT one",), ("ROLLBACK TO one", "RELEASE one"), ("RELEASE one",)


class SqliteStore:
    """One connection, opened at the first use and again whenever the file or an error demands it.

    It is never closed: a process that has used a store leaves by _exit (README.md says why).

    Args:
        path: the database; its directory holds nothing else.
        sealer: made from the seal key.
        patience: seconds to wait for another process's transaction.
    """

    def __init__(self, path: str, sealer: Sealer, patience: float = PATIENCE) -> None:
        self._path = path
        self._sealer = sealer
        self._patience = patience
        self._db: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._suspect = False
        self._checked = False
        self._file: int | None = None

    def read(self, query: Query) -> Any:
        """Answer a query from one snapshot. Raises StoreError."""
        with self._transaction("BEGIN") as db:
            return QUERIES[type(query)](db, self._sealer, query)

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        """Run each tuple of operations in its own savepoint, then commit them all at once. Raises StoreError."""
        # Answers change rows in place; anything else may need room.
        grows = not all(isinstance(operation, Attempt) for operations in batch for operation in operations)
        with self._change(grows) as db:
            return [self._run(db, operations, alone=len(batch) == 1) for operations in batch]

    def prepare(self, factors: Iterable[str] = ()) -> None:
        """What a service does once at its start, and a login never: rows for the decoy, room on the disk.

        Args:
            factors: names of the factors whose refusals the decoy shall pay for.

        Raises:
            StoreError: there was no room; logins go on as long as there is.
        """
        with self._change(grows=True) as db:
            for factor in factors:
                add_tally(db, DECOY_UID, factor)
        # Whoever holds the write lock is the only one who writes to the log.
        with self._change(grows=False):
            grow(f"{self._path}-wal", WAL_BYTES)

    def _run(
        self, db: sqlite3.Connection, operations: tuple[Operation, ...], alone: bool
    ) -> tuple[Any, ...] | Exception:
        """One tuple: undone by itself where it fails. The only one of its transaction needs no savepoint for that."""
        begin, undo, end = ((), ("ROLLBACK", "BEGIN"), ()) if alone else SAVEPOINT
        _execute(db, begin)
        try:
            results = tuple(OPERATIONS[type(operation)](db, self._sealer, operation) for operation in operations)
        except Exception as error:
            if not is_local(error) or not db.in_transaction:
                raise
            _execute(db, undo)
            return error if isinstance(error, StoreError) else as_store_error(error, self._path)
        _execute(db, end)
        return results

    @contextmanager
    def _change(self, grows: bool) -> Iterator[sqlite3.Connection]:
        """A transaction that writes. The log is emptied into the file, so the file must have the room first."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            pages = page_count(db) if grows else 0
            yield db
            if grows and (grown := page_count(db)) > pages:
                self._reserve(pages, grown)

    def _reserve(self, pages: int, grown: int) -> None:
        """Allocate what comes after the file's last page; nobody writes there but who holds the write lock.

        The descriptor is never closed: that would drop SQLite's locks (sqlite_file.py).
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.posix_fallocate(self._file, pages * PAGE_BYTES, (grown - pages) * PAGE_BYTES)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            db = self._current()
            db.execute(begin)
            check_schema(db)
            yield db
            db.execute("COMMIT")
        except StoreError:
            raise
        except Exception as error:
            self._suspect = not is_harmless(error)
            raise as_store_error(error, self._path) from error
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        try:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._suspect = True

    def _current(self) -> sqlite3.Connection:
        """The connection to the file that lies at the path now, once that file was found to be our store."""
        db = self._db
        if db is None or self._suspect or identify(self._path) != self._identity:
            db = self._reopen()
        if not self._checked:
            check_application(db)
            check_schema(db)
            check_key(db, self._sealer)
            self._checked = True
        return db

    def _reopen(self) -> sqlite3.Connection:
        old, was = self._db, self._identity
        identity = check_file(self._path)
        db = open_file(self._path, self._patience)
        _open.append(db)
        self._db, self._identity, self._suspect, self._checked = db, identity, False, False
        # The new one is open before the old one goes, so that this close is never the last one. The old one of
        # a file that was replaced stays: both may share a -shm file, and closing would drop the new one's locks.
        if old is not None and was == identity:
            _open.remove(old)
            old.close()
        else:
            self._file = None
        return db


def _execute(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)
