"""Queries and operations in SQLite's words, each inside a transaction that its caller opened.

Operations raise StoreError, or whatever Python and SQLite raise for values that do not fit; the caller
undoes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from ..errors import ChangedMeanwhile, NameMismatch, StoreCorrupt, StoreError
from ..throttle import Budget, Standing, standing
from .base import (
    Advance,
    Announce,
    Attempt,
    Burn,
    Count,
    Enrol,
    FindAccount,
    FindBudgets,
    FindOwners,
    Grace,
    Heard,
    KeepConfig,
    KeptConfig,
    ListAccounts,
    Noted,
    Operation,
    Query,
    Remove,
    Rename,
    Reset,
    Tried,
    Unlock,
    Use,
)
from .numbers import WIDE, narrow, wide
from .rows import DECOY_UID, TICKET, Account, Credential
from .seal import Sealer
from .sqlite_notices import add_notice, find_notices, forget_notices, hear
from .sqlite_tallies import add_tally, budgets, find_budget, forgive, keep_budget, meet, tag_of, tallies_of

_ALL = WIDE - 1

# ---------------------------------------------------------------------------------------------- queries

_CREDENTIALS = "SELECT id, factor, created, label, mark, used, material, suspect FROM credential WHERE uid = ?"


def find_account(db: sqlite3.Connection, sealer: Sealer, query: FindAccount) -> Account:
    """An account, complete and as it was enrolled."""
    uid = query.uid
    holder = db.execute("SELECT user, seal FROM account WHERE uid = ?", (uid,)).fetchone()
    rows = db.execute(_CREDENTIALS, (uid,)).fetchall()
    tallies = tallies_of(db, uid, tag_of(sealer, uid, query.source))
    used = _graced(db, uid)
    news = find_notices(db, sealer, uid, query.user)
    if holder is None:
        if rows or (tallies and uid != DECOY_UID):
            raise StoreCorrupt(f"uid {uid} has lost its account row")
        return Account(uid, query.user, (), {}, used, *news, query.source)
    if holder[0] != query.user:
        raise NameMismatch(f"uid {uid} is stored under another name")
    _check_account(sealer, uid, holder, [row[0] for row in rows])
    credentials = [_credential(sealer, uid, query.user, row) for row in rows]
    if any(credential.factor not in tallies for credential in credentials):
        raise StoreCorrupt(f"uid {uid} has lost a tally")
    credentials.sort(key=lambda credential: (credential.created, credential.id))
    return Account(uid, query.user, tuple(credentials), tallies, used, *news, query.source)


def _graced(db: sqlite3.Connection, uid: int) -> int:
    """How many logins without a credential there were. A number that is damaged leaves none, and keeps no user out."""
    row = db.execute("SELECT used FROM grace WHERE uid = ?", (uid,)).fetchone()
    try:
        return narrow(row[0]) if row else 0
    except StoreCorrupt:
        return _ALL


def _credential(sealer: Sealer, uid: int, user: str, row: tuple[Any, ...]) -> Credential:
    id_, factor, created, label, mark, used, sealed, suspect = row
    if type(label) is not str or suspect not in (0, 1):
        raise StoreCorrupt("a label or a mark in the store is damaged")
    created = narrow(created)
    material = sealer.unseal(sealed, "credential", uid, user, factor, id_, created)
    return Credential(
        id_, uid, user, factor, label, material, narrow(mark), created, narrow(used) or None, suspect == 1
    )


def find_budgets(db: sqlite3.Connection, sealer: Sealer, query: FindBudgets) -> dict[str, Budget]:
    """What is counted of an account."""
    return budgets(db, query.uid)


def list_accounts(db: sqlite3.Connection, sealer: Sealer, query: ListAccounts) -> tuple[tuple[int, str], ...]:
    """Everybody with a credential."""
    return tuple(db.execute("SELECT uid, user FROM account ORDER BY uid"))


def find_owners(db: sqlite3.Connection, sealer: Sealer, query: FindOwners) -> tuple[tuple[str, int, str], ...]:
    """Who has credentials of these ids."""
    marks = ", ".join("?" * len(query.credentials))
    return tuple(
        db.execute(
            f"SELECT id, uid, user FROM credential JOIN account USING (uid) WHERE id IN ({marks}) ORDER BY id, uid",  # noqa: S608 - only marks
            query.credentials,
        )
    )


def kept_config(db: sqlite3.Connection, sealer: Sealer, query: KeptConfig) -> str | None:
    """The last good settings text."""
    row = db.execute("SELECT value FROM meta WHERE name = 'config'").fetchone()
    return None if row is None else sealer.unseal(row[0], "meta", "config").decode()


# ----------------------------------------------------------------------------------------- the account


def _check_account(sealer: Sealer, uid: int, holder: tuple[Any, ...], ids: list[Any]) -> None:
    sealer.unseal(holder[1], "account", uid, holder[0], *sorted(map(str, ids)))


def _ids(db: sqlite3.Connection, uid: int) -> list[str]:
    return [row[0] for row in db.execute("SELECT id FROM credential WHERE uid = ?", (uid,))]


def _holder(db: sqlite3.Connection, sealer: Sealer, uid: int) -> str | None:
    """The user name of a stored account, checked: only what is whole may be sealed anew."""
    ids = _ids(db, uid)
    holder = db.execute("SELECT user, seal FROM account WHERE uid = ?", (uid,)).fetchone()
    if holder is None:
        if ids:
            raise StoreCorrupt(f"uid {uid} has lost its account row")
        return None
    _check_account(sealer, uid, holder, ids)
    return str(holder[0])


def _seal_account(db: sqlite3.Connection, sealer: Sealer, uid: int, user: str) -> None:
    """Write the account row for the credentials that there are now; none: the account goes."""
    ids = sorted(_ids(db, uid))
    if ids:
        seal = sealer.seal(b"", "account", uid, user, *ids)
        db.execute("INSERT OR REPLACE INTO account (uid, user, seal) VALUES (?, ?, ?)", (uid, user, seal))
        return
    db.execute("DELETE FROM account WHERE uid = ?", (uid,))
    db.execute("DELETE FROM tally WHERE uid = ?", (uid,))


# ------------------------------------------------------------------------------------------- operations


_NOTE = "UPDATE credential SET used = ? WHERE uid = ? AND id = ? AND factor = ?"


def attempt(db: sqlite3.Connection, sealer: Sealer, op: Attempt) -> Tried:
    """One answer: the tally is read, the use is made and the outcome counted behind one write lock."""
    budget, source = find_budget(db, op.uid, op.factor), tag_of(sealer, op.uid, op.source)
    if budget is None:
        return Tried.GONE
    if op.uid != DECOY_UID and (allowed := standing(budget.of(source), op.at)) is not Standing.OPEN:
        return Tried.DISABLED if allowed is Standing.DISABLED else Tried.WAITING
    tried = Tried.WRONG if op.use is None else _use(db, op, op.use)
    good = tried in (Tried.ACCEPTED, Tried.TOLERATED)
    counted = budget.proven(source, op.at) if good else budget.failed(source, op.at)
    keep_budget(db, op.uid, op.factor, counted)
    if good and source is not None:
        meet(db, op.uid, op.factor, source)
    if tried is Tried.CLONE or standing(counted.of(source), op.at) is not Standing.OPEN:
        end_leases(db, op.uid)
    return tried


def _use(db: sqlite3.Connection, op: Attempt, use: Use) -> Tried:
    owner = (op.uid, use.credential, op.factor)
    if isinstance(use, Burn):
        bit = wide(1 << use.bit) - WIDE
        changed = db.execute(
            "UPDATE credential SET used = ?, mark = mark | ? WHERE uid = ? AND id = ? AND factor = ? AND mark & ? = 0",
            (wide(op.at.wall), bit, *owner, bit),
        )
    elif isinstance(use, Noted):
        changed = db.execute(_NOTE, (wide(op.at.wall), *owner))
    else:
        # An authenticator that does not count says 0 for ever.
        zero = int(isinstance(use, Count) and use.to == 0)
        # A suspect stays out: each refused try of a copy raises its count, and the next would pass the key's.
        most = int(isinstance(use, Advance) or use.tolerant)
        changed = db.execute(
            "UPDATE credential SET used = ?, mark = ?"
            " WHERE uid = ? AND id = ? AND factor = ? AND mark < ? AND suspect <= ?",
            (wide(op.at.wall), wide(use.to), *owner, wide(use.to) + zero, most),
        )
    if changed.rowcount == 1:
        return Tried.ACCEPTED
    if isinstance(use, Count):
        return _fell_back(db, op, use)
    known = db.execute("SELECT 1 FROM credential WHERE uid = ? AND id = ? AND factor = ?", owner).fetchone()
    return Tried.REPLAYED if known else Tried.GONE


def _fell_back(db: sqlite3.Connection, op: Attempt, use: Count) -> Tried:
    """A sign count that did not grow, or of a suspect: two devices may count, so it is marked whatever is decided."""
    owner = (op.uid, use.credential, op.factor)
    marked = db.execute("UPDATE credential SET suspect = 1 WHERE uid = ? AND id = ? AND factor = ?", owner)
    if marked.rowcount != 1:
        return Tried.GONE
    if not use.tolerant:
        return Tried.CLONE
    db.execute(_NOTE, (wide(op.at.wall), *owner))
    return Tried.TOLERATED


def enrol(db: sqlite3.Connection, sealer: Sealer, op: Enrol) -> None:
    """Add credentials to one account."""
    owners = {(credential.uid, credential.user) for credential in op.credentials}
    if len(owners) != 1 or (DECOY_UID, op.credentials[0].user) in owners:
        raise StoreError("credentials are enrolled for exactly one account")
    uid, user = owners.pop()
    if _holder(db, sealer, uid) not in (None, user):
        raise NameMismatch(f"uid {uid} is stored under another name")
    if op.expected is not None and op.expected != frozenset(_ids(db, uid)):
        raise ChangedMeanwhile(f"the credentials of uid {uid} have changed")
    if op.alone and find_owners(db, sealer, FindOwners(tuple(credential.id for credential in op.credentials))):
        raise ChangedMeanwhile("somebody has one of these credentials")
    for factor in op.replace:
        db.execute("DELETE FROM credential WHERE uid = ? AND factor = ?", (uid, factor))
        if factor == TICKET:  # what was typed for the old one says nothing of 80 fresh random bits
            db.execute("DELETE FROM tally WHERE uid = ? AND factor = ?", (uid, factor))
    for credential in op.credentials:
        _add_credential(db, sealer, credential)
        add_tally(db, uid, credential.factor)
    _seal_account(db, sealer, uid, user)


def _add_credential(db: sqlite3.Connection, sealer: Sealer, new: Credential) -> None:
    material = sealer.seal(new.material, "credential", new.uid, new.user, new.factor, new.id, new.created)
    numbers = wide(new.mark), wide(new.used or 0)
    db.execute(
        "INSERT INTO credential (uid, id, factor, created, label, mark, used, material, suspect)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (new.uid, new.id, new.factor, wide(new.created), new.label, *numbers, material, int(new.suspect)),
    )


def rename(db: sqlite3.Connection, sealer: Sealer, op: Rename) -> bool:
    """Give a credential another label."""
    changed = db.execute("UPDATE credential SET label = ? WHERE uid = ? AND id = ?", (op.label, op.uid, op.credential))
    return changed.rowcount == 1


def remove(db: sqlite3.Connection, sealer: Sealer, op: Remove) -> bool:
    """Take a credential away."""
    user = _holder(db, sealer, op.uid)
    removed = db.execute("DELETE FROM credential WHERE uid = ? AND id = ?", (op.uid, op.credential))
    if user is None or removed.rowcount != 1:
        return False
    _seal_account(db, sealer, op.uid, user)
    return True


def unlock(db: sqlite3.Connection, sealer: Sealer, op: Unlock) -> int:
    """Forget an account's failures and suspicions, and bring marks down that a wrong clock drove up."""
    reset = forgive(db, op.uid)
    db.execute("UPDATE credential SET suspect = 0 WHERE uid = ? AND suspect", (op.uid,))
    if op.now is not None:
        db.execute("UPDATE credential SET used = ? WHERE uid = ? AND used > ?", (wide(op.now), op.uid, wide(op.now)))
    end_leases(db, op.uid)
    for credential, highest in op.capped:
        db.execute(
            "UPDATE credential SET mark = ? WHERE uid = ? AND id = ? AND mark > ?",
            (wide(highest), op.uid, credential, wide(highest)),
        )
    return reset


def end_leases(db: sqlite3.Connection, uid: int) -> int:
    """End what was given for earlier proofs. A credential that goes does the same, by a trigger of the schema."""
    return db.execute("DELETE FROM lease WHERE uid = ?", (uid,)).rowcount


def grace(db: sqlite3.Connection, sealer: Sealer, op: Grace) -> int | None:
    """One login without a credential: looked at and counted behind one write lock."""
    db.execute("INSERT OR IGNORE INTO grace (uid, used) VALUES (?, ?)", (op.uid, wide(0)))
    more = "UPDATE grace SET used = used + 1 WHERE uid = ? AND used >= ? AND used < ? RETURNING used"
    counted = db.execute(more, (op.uid, WIDE, wide(op.most))).fetchall()
    return op.most - narrow(counted[0][0]) if counted else None


def reset(db: sqlite3.Connection, sealer: Sealer, op: Reset) -> int:
    """Take everything that an account has, whatever it is; the logins that it has used up stay used up."""
    if op.uid == DECOY_UID:
        raise StoreError("the decoy stays")
    removed = db.execute("DELETE FROM credential WHERE uid = ?", (op.uid,)).rowcount
    for table in ("account", "tally"):
        db.execute(f"DELETE FROM {table} WHERE uid = ?", (op.uid,))  # noqa: S608 - our own words
    db.execute("UPDATE grace SET used = ? WHERE uid = ? AND used < ?", (wide(_ALL), op.uid, WIDE))
    forget_notices(db, op.uid)
    return removed


def announce(db: sqlite3.Connection, sealer: Sealer, op: Announce) -> Any:
    """Change something, and keep the notice of it."""
    result = OPERATIONS[type(op.operation)](db, sealer, op.operation)
    if result is not False:
        add_notice(db, sealer, op.notice)
    return result


def keep_config(db: sqlite3.Connection, sealer: Sealer, op: KeepConfig) -> None:
    """Remember a settings text; sealed, since a service that starts with a broken file obeys it."""
    sealed = sealer.seal(op.text.encode(), "meta", "config")
    db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('config', ?)", (sealed,))


QUERIES: dict[type[Query], Callable[[sqlite3.Connection, Sealer, Any], Any]] = {
    FindAccount: find_account,
    FindBudgets: find_budgets,
    ListAccounts: list_accounts,
    FindOwners: find_owners,
    KeptConfig: kept_config,
}
OPERATIONS: dict[type[Operation], Callable[[sqlite3.Connection, Sealer, Any], Any]] = {
    Attempt: attempt,
    Enrol: enrol,
    Rename: rename,
    Remove: remove,
    Unlock: unlock,
    Grace: grace,
    Reset: reset,
    Announce: announce,
    Heard: hear,
    KeepConfig: keep_config,
}
