"""Leases in SQLite's words, as sqlite_rows.py has the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from . import sqlite_rows
from .base import EndLeases, FindLease, Lend, ListLeases, Operation, Query
from .numbers import narrow, wide
from .rows import Lease
from .seal import Sealer, bind
from .sqlite_rows import end_leases

MOST = 16  # leases of one account

Row = tuple[int, bytes, str, int, int]  # uid, tag, boot id, begin, end: bound by the seal of the rest


def find_lease(db: sqlite3.Connection, sealer: Sealer, query: FindLease) -> Lease | None:
    """The lease of one binding."""
    tag = _tag(sealer, query.uid, query.bound, query.boot_id)
    row = db.execute(f"{_LEASES} AND tag = ?", (query.uid, tag)).fetchone()
    return None if row is None else _lease(sealer, query.uid, row)


def list_leases(db: sqlite3.Connection, sealer: Sealer, query: ListLeases) -> tuple[Lease, ...]:
    """All of an account."""
    return tuple(_lease(sealer, query.uid, row) for row in db.execute(f"{_LEASES} ORDER BY began", (query.uid,)))


def lend(db: sqlite3.Connection, sealer: Sealer, op: Lend) -> bool:
    """Write a lease; its credential may have gone since it was proven."""
    proven = (op.uid, op.credential, op.factor)
    if not db.execute("SELECT 1 FROM credential WHERE uid = ? AND id = ? AND factor = ?", proven).fetchone():
        return False
    lease = op.lease
    row = (op.uid, _tag(sealer, op.uid, op.bound, lease.boot_id), lease.boot_id, wide(lease.began), wide(lease.ends))
    db.execute(
        "DELETE FROM lease WHERE uid = ? AND (boot_id != ? OR ends <= ? OR tag = ?)",
        (op.uid, lease.boot_id, wide(lease.began), row[1]),
    )
    db.execute(
        "DELETE FROM lease WHERE uid = ? AND tag NOT IN"
        " (SELECT tag FROM lease WHERE uid = ? ORDER BY began DESC LIMIT ?)",
        (op.uid, op.uid, MOST - 1),
    )
    texts = "\0".join((lease.service, lease.place, lease.user)).encode()
    db.execute(
        "INSERT INTO lease (uid, tag, boot_id, began, ends, sealed) VALUES (?, ?, ?, ?, ?, ?)",
        (*row, _seal(sealer, texts, row)),
    )
    return True


def end(db: sqlite3.Connection, sealer: Sealer, op: EndLeases) -> int:
    """End leases."""
    return db.execute("DELETE FROM lease").rowcount if op.uid is None else end_leases(db, op.uid)


_LEASES = "SELECT tag, boot_id, began, ends, sealed FROM lease WHERE uid = ?"


def _tag(sealer: Sealer, uid: int, bound: tuple[str, ...], boot_id: str) -> bytes:
    return sealer.mac("lease", bind((uid, boot_id, *bound)))


def _seal(sealer: Sealer, texts: bytes, row: Row) -> bytes:
    uid, tag, boot_id, began, ends = row
    return sealer.seal(texts, "lease", uid, tag.hex(), boot_id, began, ends)


def _lease(sealer: Sealer, uid: int, row: tuple[Any, ...]) -> Lease:
    tag, boot_id, began, ends, sealed = row
    texts = sealer.unseal(sealed, "lease", uid, tag.hex(), boot_id, began, ends)
    service, place, user = texts.decode().split("\0")
    return Lease(service, place, user, narrow(began), narrow(ends), boot_id)


QUERIES: dict[type[Query], Callable[[sqlite3.Connection, Sealer, Any], Any]] = {
    **sqlite_rows.QUERIES,
    FindLease: find_lease,
    ListLeases: list_leases,
}
OPERATIONS: dict[type[Operation], Callable[[sqlite3.Connection, Sealer, Any], Any]] = {
    **sqlite_rows.OPERATIONS,
    Lend: lend,
    EndLeases: end,
}
