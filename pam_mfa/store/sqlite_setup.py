"""Making and migrating a store: steps of an installation, never of a login."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

from ..errors import StoreError, StoreSchema
from .rows import DECOY_UID
from .seal import Sealer
from .sqlite_file import (
    APPLICATION_ID,
    PAGE_BYTES,
    SCHEMA,
    WAL_BYTES,
    as_store_error,
    check_application,
    check_directory,
    check_file,
    check_key,
    open_file,
)
from .sqlite_tallies import add_tally

SCHEMA_DIRECTORY = os.path.join(os.path.dirname(__file__), "schema")
DECOY_FACTORS = ("totp", "recovery", "fido2", "smartcard", "ticket")


def create(path: str, sealer: Sealer) -> None:
    """Make an empty store that belongs to the caller, mode 0600, with its log already grown.

    Complete or not there at all: it is built under another name and linked to its own at the end.

    Raises:
        StoreError: there is one already, or it could not be written.
    """
    check_directory(path)
    if os.path.lexists(path):
        raise StoreError(f"{path} exists already")
    new = f"{path}.new"
    try:
        # The log of a database that is gone would be replayed into the new one.
        for leftover in (new, f"{new}-wal", f"{new}-shm", f"{path}-wal", f"{path}-shm"):
            with suppress(FileNotFoundError):
                os.unlink(leftover)
        _make_file(new)
        _build(new, sealer)
        _make_file(f"{path}-wal")
        grow(f"{path}-wal", WAL_BYTES)
        os.link(new, path)
        os.unlink(new)
        _sync(os.path.dirname(path))
    except (OSError, UnicodeDecodeError, sqlite3.Error) as error:
        raise as_store_error(error, path) from error


def migrate(path: str, sealer: Sealer) -> int:
    """Bring a store to this program's schema, wholly or not at all; returns how many steps that took.

    Raises:
        StoreSchema: it is newer than this program.
        StoreError: as when it is opened; nothing has changed.
    """
    check_file(path)
    try:
        with closing(open_file(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            check_application(db)
            check_key(db, sealer)
            steps = _step_up(db)
            db.execute("COMMIT")
            return steps
    except (OSError, UnicodeDecodeError, sqlite3.Error) as error:
        raise as_store_error(error, path) from error


def grow(path: str, size: int) -> None:
    """Lengthen a file with zeros that are on disk, not holes: overwriting them needs no room.

    SQLite takes zeros at the end of its log for the end of the log. Raises OSError.
    """
    log = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        at = os.fstat(log).st_size
        while at < size:
            at += os.pwrite(log, bytes(min(size - at, 1 << 18)), at)
        os.fsync(log)
    finally:
        os.close(log)


def _make_file(path: str) -> None:
    new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(new, 0o600)  # whatever the umask
    finally:
        os.close(new)


def _build(path: str, sealer: Sealer) -> None:
    # This close is the last one, and meant to be: it moves everything out of the log into the file.
    with closing(open_file(path)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _step_up(db)
        db.execute("INSERT INTO meta VALUES ('key_check', ?)", (sealer.check,))
        for factor in DECOY_FACTORS:
            add_tally(db, DECOY_UID, factor)
        db.execute("COMMIT")


def _step_up(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise StoreSchema(f"the store has schema {version}, newer than this program's {SCHEMA}: update the program")
    for number in range(version + 1, SCHEMA + 1):
        for statement in _statements(number):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
    return SCHEMA - int(version)


def _statements(number: int) -> Iterator[str]:
    """The statements of one migration; sqlite3's own executescript would commit before it begins."""
    statement = ""
    with open(os.path.join(SCHEMA_DIRECTORY, f"{number:03}.sql"), encoding="utf-8") as script:
        for line in script:
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
