"""Notices in SQLite's words. An account's are numbered without a gap, and no number is given twice: what somebody has
heard of at a prompt that stood open for long is not taken for what came meanwhile.

A uid that has become somebody else's shows nothing of what it was: notices are found by uid and name.
"""

from __future__ import annotations

import sqlite3

from ..errors import StoreCorrupt
from .base import MAX_NOTICES, Heard
from .numbers import WIDE
from .rows import Notice
from .seal import Sealer

_FIND = "SELECT number, words FROM notice WHERE uid = ? AND user = ? ORDER BY number"
_ADD = "INSERT INTO notice (uid, number, user, words) VALUES (?, ?, ?, ?)"
_LAST = "SELECT max(number) FROM (SELECT uid, number FROM heard UNION ALL SELECT uid, number FROM notice) WHERE uid = ?"
_OTHERS = "SELECT max(number) FROM notice WHERE uid = heard.uid AND user IS NOT ?"
_PASS = f"UPDATE heard SET number = max(number, coalesce(({_OTHERS}), 0)) WHERE uid = ?"  # noqa: S608 - our own words


def find_notices(db: sqlite3.Connection, sealer: Sealer, uid: int, user: str) -> tuple[tuple[Notice, ...], int, int]:
    """The notices of an account, how many before them are lost, and the number of the last one before those."""
    rows = db.execute(_FIND, (uid, user)).fetchall()
    if not rows:
        return (), 0, 0
    before = rows[0][0] - 1
    found = db.execute("SELECT number FROM heard WHERE uid = ?", (uid,)).fetchone()
    heard = min(found[0] if found else WIDE, before)
    return tuple(_notice(sealer, uid, user, words) for _, words in rows), before - heard, heard - WIDE


def add_notice(db: sqlite3.Connection, sealer: Sealer, notice: Notice) -> None:
    """Keep a notice, and forget what is too old."""
    uid = notice.uid
    db.execute("INSERT OR IGNORE INTO heard (uid, number) VALUES (?, ?)", (uid, WIDE))
    forget_notices(db, uid, notice.user)
    (last,) = db.execute(_LAST, (uid,)).fetchone()
    text = f"{notice.at}\n{int(notice.by_root)}\n{notice.what}\n{notice.about}"
    db.execute(_ADD, (uid, last + 1, notice.user, sealer.seal(text.encode(), "notice", uid, notice.user)))
    db.execute("DELETE FROM notice WHERE uid = ? AND number <= ?", (uid, last + 1 - MAX_NOTICES))


def forget_notices(db: sqlite3.Connection, uid: int, but: str | None = None) -> None:
    """Forget all notices of a uid, or those that are not for this user; nobody hears how many there were."""
    db.execute(_PASS, (but, uid))
    db.execute("DELETE FROM notice WHERE uid = ? AND user IS NOT ?", (uid, but))


def hear(db: sqlite3.Connection, sealer: Sealer, op: Heard) -> None:
    """Forget what was heard."""
    last = op.last + WIDE
    db.execute("UPDATE heard SET number = max(number, ?) WHERE uid = ?", (last, op.uid))
    db.execute("DELETE FROM notice WHERE uid = ? AND user = ? AND number <= ?", (op.uid, op.user, last))


def _notice(sealer: Sealer, uid: int, user: str, words: object) -> Notice:
    """A notice; of one that is damaged all that is known is that there was one. Whoever can damage it can delete it."""
    try:
        at, by_root, what, about = sealer.unseal(words, "notice", uid, user).decode().split("\n", 3)
        return Notice(uid, user, what, about, by_root == "1", int(at))
    except (StoreCorrupt, ValueError):
        return Notice(uid, user, "", "", False, 0)
