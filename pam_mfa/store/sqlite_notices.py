"""Notices in SQLite's words. They are numbered from 1: the number of the first that is kept tells how many went before.

A uid that has become somebody else's shows nothing of what it was: notices are found by uid and name.
"""

from __future__ import annotations

import sqlite3

from ..errors import StoreCorrupt
from .base import MAX_NOTICES, Heard, Notice
from .seal import Sealer

_FIND = "SELECT number, words FROM notice WHERE uid = ? AND user = ? ORDER BY number"
_ADD = "INSERT INTO notice (uid, number, user, words) VALUES (?, ?, ?, ?)"


def find_notices(db: sqlite3.Connection, sealer: Sealer, uid: int, user: str) -> tuple[tuple[Notice, ...], int]:
    """The notices of an account, and how many came before them. Raises StoreCorrupt."""
    rows = db.execute(_FIND, (uid, user)).fetchall()
    if not rows:
        return (), 0
    return tuple(_notice(uid, user, sealer.unseal(words, "notice", uid, user)) for _, words in rows), rows[0][0] - 1


def add_notice(db: sqlite3.Connection, sealer: Sealer, notice: Notice) -> None:
    """Keep a notice, and forget what is too old."""
    uid = notice.uid
    db.execute("DELETE FROM notice WHERE uid = ? AND user <> ?", (uid, notice.user))
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM notice WHERE uid = ?", (uid,)).fetchone()
    text = f"{notice.at}\n{int(notice.by_root)}\n{notice.what}\n{notice.about}"
    db.execute(_ADD, (uid, last + 1, notice.user, sealer.seal(text.encode(), "notice", uid, notice.user)))
    db.execute("DELETE FROM notice WHERE uid = ? AND number <= ?", (uid, last + 1 - MAX_NOTICES))


def hear(db: sqlite3.Connection, sealer: Sealer, op: Heard) -> None:
    """Forget what was heard; the others are numbered from 1 again."""
    left = [row for row in db.execute(_FIND, (op.uid, op.user)) if row[0] > op.count]
    db.execute("DELETE FROM notice WHERE uid = ? AND user = ?", (op.uid, op.user))
    db.executemany(_ADD, [(op.uid, number - op.count, op.user, words) for number, words in left])


def _notice(uid: int, user: str, words: bytes) -> Notice:
    try:
        at, by_root, what, about = words.decode().split("\n", 3)
        return Notice(uid, user, what, about, by_root == "1", int(at))
    except ValueError:
        raise StoreCorrupt("a notice in the store is damaged") from None
