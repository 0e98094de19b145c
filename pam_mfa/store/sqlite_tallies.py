"""Failures in SQLite's words: a row for each account and factor, whose length never changes."""

from __future__ import annotations

import sqlite3
from struct import Struct
from typing import Any

from ..errors import StoreCorrupt, StoreError
from ..throttle import FAMILIAR, SHARE, Budget, Instant, Tally
from .numbers import narrow, wide
from .seal import Sealer, bind

_BOOT_ID = 36
_SOURCE = 16
_SLOT = Struct(f">{_SOURCE}sBQQ{_BOOT_ID}s")  # source, failures; wall, boot and boot id of the last one
_NOWHERE = bytes(_SLOT.size * FAMILIAR)
_COLUMNS = "failures, wall, boot, boot_id, familiar"


def tag_of(sealer: Sealer, uid: int, source: str | None) -> bytes | None:
    """A source as it is stored: whoever reads the file learns no addresses, nor that two accounts share one."""
    return None if source is None else sealer.mac("source", bind((uid, source)))[:_SOURCE]


def budgets(db: sqlite3.Connection, uid: int) -> dict[str, Budget]:
    """All failures of an account, by factor."""
    rows = db.execute(f"SELECT factor, {_COLUMNS} FROM tally WHERE uid = ?", (uid,)).fetchall()  # noqa: S608 - our own words
    return {factor: _budget(*row) for factor, *row in rows}


def tallies_of(db: sqlite3.Connection, uid: int, source: bytes | None) -> dict[str, Tally]:
    """What counts for one source, by factor."""
    return {factor: budget.of(source) for factor, budget in budgets(db, uid).items()}


def find_budget(db: sqlite3.Connection, uid: int, factor: str) -> Budget | None:
    """The failures with one factor, None where the account has never had it."""
    row = db.execute(f"SELECT {_COLUMNS} FROM tally WHERE uid = ? AND factor = ?", (uid, factor)).fetchone()  # noqa: S608
    return None if row is None else _budget(*row)


def keep_budget(db: sqlite3.Connection, uid: int, factor: str, budget: Budget) -> None:
    """Overwrite the row."""
    changed = db.execute(
        "UPDATE tally SET failures = ?, wall = ?, boot = ?, boot_id = ?, familiar = ? WHERE uid = ? AND factor = ?",
        (*_row(budget), uid, factor),
    )
    if changed.rowcount != 1:
        raise StoreCorrupt("a tally could not be written")


def meet(db: sqlite3.Connection, uid: int, proven: str, source: bytes) -> None:
    """Where one factor was proven the others are not strangers' either: recovery codes are rarely proven anywhere."""
    for factor, budget in budgets(db, uid).items():
        if factor != proven and (met := budget.met(source)) is not budget:
            keep_budget(db, uid, factor, met)


def add_tally(db: sqlite3.Connection, uid: int, factor: str) -> None:
    """Make the row, unless there is one: a new credential forgives no old failures. What is familiar stays so."""
    known = max((budget.familiar for budget in budgets(db, uid).values()), key=len, default=())
    row = _row(Budget(familiar=known).forgiven())
    db.execute("INSERT OR IGNORE INTO tally VALUES (?, ?, ?, ?, ?, ?, ?)", (uid, factor, *row))


def forgive(db: sqlite3.Connection, uid: int) -> int:
    """Forget an account's failures; how many of its factors had any."""
    failed = {factor: budget for factor, budget in budgets(db, uid).items() if budget.failures}
    for factor, budget in failed.items():
        keep_budget(db, uid, factor, budget.forgiven())
    return len(failed)


def _row(budget: Budget) -> tuple[int, int, int, str, bytes]:
    failures, wall, boot, boot_id = _columns(budget.others)
    slots = b"".join(_slot(source, tally) for source, tally in budget.familiar)
    return wide(failures), wide(wall), wide(boot), boot_id, slots.ljust(len(_NOWHERE), b"\0")


def _columns(tally: Tally) -> tuple[int, int, int, str]:
    last = tally.last
    if last is None:
        return tally.failures, 0, 0, " " * _BOOT_ID
    if not (last.boot_id.isascii() and last.boot_id.strip() and len(last.boot_id) <= _BOOT_ID):
        raise StoreError("the boot id is not one of Linux")
    return tally.failures, last.wall, last.boot, last.boot_id.ljust(_BOOT_ID)


def _slot(source: bytes, tally: Tally) -> bytes:
    failures, wall, boot, boot_id = _columns(tally)
    return _SLOT.pack(source, failures, wall, boot, boot_id.encode("ascii"))


def _budget(failures: object, wall: object, boot: object, boot_id: object, familiar: object) -> Budget:
    others = _tally(narrow(failures), narrow(wall), narrow(boot), boot_id)
    if type(familiar) is not bytes or len(familiar) != len(_NOWHERE):
        raise StoreCorrupt("a source in the store is damaged")
    if familiar == _NOWHERE:  # nobody has proven anything yet
        return Budget(others)
    used = familiar.rstrip(b"\0")
    slots = familiar[: -(-len(used) // _SLOT.size) * _SLOT.size]
    found = tuple(_familiar(*slot) for slot in _SLOT.iter_unpack(slots))
    if len(dict(found)) != len(found):
        raise StoreCorrupt("a source in the store is there twice")
    return Budget(others, found)


def _familiar(source: bytes, failures: int, wall: int, boot: int, boot_id: bytes) -> tuple[bytes, Tally]:
    try:
        tally = _tally(failures, wall, boot, boot_id.decode("ascii"))
    except UnicodeDecodeError:
        raise StoreCorrupt("a boot id in the store is damaged") from None
    if not any(source) or failures >= SHARE or (failures > 0) is not (tally.last is not None):
        raise StoreCorrupt("a source in the store is damaged")
    return source, tally


def _tally(failures: int, wall: int, boot: int, boot_id: Any) -> Tally:
    if type(boot_id) is not str or len(boot_id) != _BOOT_ID:
        raise StoreCorrupt("a boot id in the store is damaged")
    boot_id = boot_id.rstrip()
    return Tally(failures, Instant(wall, boot, boot_id) if boot_id else None)
