"""The file of a SQLite store: who may own it, how it is opened, what its errors mean. Never creates anything.

Neither this nor any other part of the program opens the file itself: POSIX drops all of a process's locks
on a file when any descriptor of it is closed, SQLite's among them.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import stat

from ..errors import StoreCorrupt, StoreError, StoreMissing, StoreSchema, StoreSealed
from .seal import Sealer

APPLICATION_ID = 0x70_4D_46_41
SCHEMA = 7
PATIENCE = 3.0

PAGE_BYTES = 4096
WAL_BYTES = 32 + 1024 * (24 + PAGE_BYTES)
CHECKPOINT_FRAMES = 256

Identity = tuple[int, int, int, int]

_SETTINGS = (
    "PRAGMA synchronous = FULL",
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_FRAMES}",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
)

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCAL = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)
_HARMLESS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


def identify(path: str) -> Identity:
    """Which file lies at the path, and whose it is; a change of any of it means opening anew.

    Raises:
        StoreMissing: no file, or an empty one.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise StoreMissing(f"{path} does not exist") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not status.st_size:
        raise StoreMissing(f"{path} is empty")
    return status.st_dev, status.st_ino, status.st_uid, status.st_mode


def check_directory(path: str) -> None:
    """Raises StoreError unless the store's directory is ours and closed to everybody else."""
    directory = os.path.dirname(path)
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        raise StoreMissing(f"{directory} does not exist") from None
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{directory} is not a directory")
    _check_owner(directory, status.st_uid, status.st_mode)


def check_file(path: str) -> Identity:
    """Raises StoreError unless the store is a regular file, ours, and closed to everybody else."""
    check_directory(path)
    identity = identify(path)
    _, _, owner, mode = identity
    if not stat.S_ISREG(mode):
        raise StoreError(f"{path} is not a regular file")
    _check_owner(path, owner, mode)
    return identity


def _check_owner(path: str, owner: int, mode: int) -> None:
    if owner != os.geteuid():
        raise StoreError(f"{path} belongs to uid {owner}, not to uid {os.geteuid()}")
    if mode & 0o077:
        raise StoreError(f"{path} has mode {stat.S_IMODE(mode):04o}; group and others may have no access")


def open_file(path: str, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file that exists, whatever is in it.

    Args:
        patience: seconds to wait for somebody else's lock.

    Raises:
        sqlite3.Error, UnicodeDecodeError: see as_store_error.
    """
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = sqlite3.connect(f"file:{escaped}?mode=rw", uri=True, isolation_level=None, timeout=patience)
    try:
        for setting in _SETTINGS:
            db.execute(setting)
        db.execute("PRAGMA schema_version").fetchone()  # the first read is what joins the others at the log
    except (sqlite3.Error, UnicodeDecodeError):
        db.close()
        raise
    return db


def check_application(db: sqlite3.Connection) -> None:
    """Raises StoreCorrupt for a database that is not a store, or no longer keeps a write-ahead log."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StoreCorrupt("the file is not a store of pam-mfa")
    (journal,) = db.execute("PRAGMA journal_mode").fetchone()
    if journal != "wal":
        raise StoreCorrupt(f"the store's journal is {journal}, not wal")


def check_schema(db: sqlite3.Connection) -> None:
    """Raises StoreSchema unless the store has the schema of this program."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise StoreSchema(f"the store has schema {version}, newer than this program's {SCHEMA}: update the program")
    if version < SCHEMA:
        raise StoreSchema(f"the store has schema {version}, older than this program's {SCHEMA}: migrate the store")


def check_key(db: sqlite3.Connection, sealer: Sealer) -> None:
    """Raises StoreSealed for a store that was sealed with another key."""
    row = db.execute("SELECT value FROM meta WHERE name = 'key_check'").fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise StoreCorrupt("the store has lost its key check value")
    if not hmac.compare_digest(row[0], sealer.check):
        raise StoreSealed("the store was sealed with another key than the one in use")


def page_count(db: sqlite3.Connection) -> int:
    """How many pages of PAGE_BYTES the database has, in the transaction that is open."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    return int(pages)


def as_store_error(error: Exception, path: str) -> StoreError:
    """What an error of SQLite, of the system or of a value that does not fit means to a caller of the store."""
    if isinstance(error, OSError):
        return StoreError(f"{path}: {error.strerror}")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    kind = StoreCorrupt if _code(error) in _DAMAGED else StoreError
    return kind(f"{path}: {name}: {error}")


def is_local(error: Exception) -> bool:
    """Whether the error is about the rows and values at hand, so that other rows can still be written."""
    return not isinstance(error, sqlite3.Error) or _code(error) in _LOCAL


def is_harmless(error: Exception) -> bool:
    """Whether the connection is as good after this error as it was before."""
    return is_local(error) or _code(error) in _HARMLESS


def _code(error: Exception) -> int:
    """SQLite's primary error code.

    Python's own errors have none: a text in the file, or in SQLite's complaint about the file, is not UTF-8
    (OperationalError, UnicodeDecodeError), or a value is none that SQLite can hold.
    """
    undecodable = isinstance(error, sqlite3.OperationalError | UnicodeDecodeError)
    own = sqlite3.SQLITE_CORRUPT if undecodable else sqlite3.SQLITE_MISMATCH
    return int(getattr(error, "sqlite_errorcode", own)) & 0xFF
