"""Logins without a credential, counted: what store/base.py promises of Grace, for every store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stores import ALICE, SEALER, ThroughWriter, credential, do, enrol, make, raw, refuses, take_back

from pam_mfa.errors import StoreError, StoreSchema
from pam_mfa.policy import Entry, decide
from pam_mfa.rules import Rule
from pam_mfa.store import sqlite_file
from pam_mfa.store.base import Enrol, FindAccount, Grace, ListAccounts, Remove, Reset, Unlock
from pam_mfa.store.rows import Account
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import migrate

AnyStore = SqliteStore | ThroughWriter
Open = Callable[..., SqliteStore]
PHONE = credential("phone")
MOST = (1 << 62) - 1
FIND = FindAccount(ALICE, "alice")


def left(store: AnyStore, most: int, uid: int = ALICE) -> int | None:
    (left,) = do(store, Grace(uid, most))
    assert left is None or type(left) is int
    return left


def test_logins_are_counted_down_to_none(store: AnyStore) -> None:
    assert [left(store, 3) for _ in range(5)] == [2, 1, 0, None, None]
    assert store.read(FIND) == Account(ALICE, "alice", graced=3)
    assert left(store, 0) is None
    assert store.read(ListAccounts()) == ()


def test_each_account_has_its_own(store: AnyStore) -> None:
    assert left(store, 1) == 0
    assert left(store, 1, 1001) == 0
    assert left(store, 0, 1002) is None
    assert [store.read(FindAccount(uid, "x")).graced for uid in (ALICE, 1001, 1002)] == [1, 1, 0]


def test_one_number_counts_for_every_rule(store: AnyStore) -> None:
    assert left(store, 2) == 1
    assert left(store, 5) == 3
    assert left(store, 2) is None
    assert left(store, 3) == 0


def test_nothing_gives_them_back(store: AnyStore) -> None:
    """Neither a credential that comes and goes nor an unlock."""
    assert left(store, 1) == 0
    enrol(store, PHONE)
    assert store.read(FIND) == Account(ALICE, "alice", (PHONE,), store.read(FIND).tallies, graced=1)
    do(store, Unlock(ALICE))
    assert do(store, Remove(ALICE, PHONE.id)) == (True,)
    assert store.read(FIND) == Account(ALICE, "alice", graced=1)
    assert left(store, 1) is None


def test_what_fails_in_the_same_transaction_is_not_counted(store: AnyStore) -> None:
    enrol(store, PHONE)
    with pytest.raises(StoreError):
        do(store, Grace(ALICE, 1), Enrol((credential("new", user="mallory"),)))
    assert left(store, 1) == 0


@pytest.mark.parametrize("most", [-1, 1 << 62])
def test_a_number_that_does_not_fit_is_refused(store: AnyStore, most: int) -> None:
    with pytest.raises(StoreError):
        left(store, most)
    assert left(store, 1) == 0


@pytest.mark.parametrize("used", ["1", "-1", "used - (1 << 62)"])
def test_a_damaged_number_leaves_no_login_and_keeps_no_enrolled_user_out(
    store_path: str, opened: Open, used: str
) -> None:
    store = opened(store_path)
    assert left(store, 5) == 4
    raw(store_path, "PRAGMA ignore_check_constraints = 1", f"UPDATE grace SET used = {used}")
    assert store.read(FIND).graced == MOST
    assert left(store, MOST) is None
    enrol(store, PHONE)
    assert store.read(FIND).credentials == (PHONE,)
    assert decide(Rule(logins_left=5), True, True, graced=MOST).entry is Entry.PROVE
    assert decide(Rule(logins_left=MOST), True, False, graced=MOST).entry is Entry.PROVE


def test_a_reset_makes_a_damaged_number_whole_and_gives_no_login_back(store_path: str, opened: Open) -> None:
    store = opened(store_path)
    assert (left(store, 5), left(store, 5, 1001)) == (4, 4)
    raw(store_path, "PRAGMA ignore_check_constraints = 1", f"UPDATE grace SET used = 1 WHERE uid = {ALICE}")
    do(store, Reset(ALICE), Reset(1001))
    assert (left(store, MOST), left(store, 5, 1001)) == (None, 3)
    assert store._db is not None
    assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_store_of_schema_3_learns_it(tmp_path: Path, opened: Open) -> None:
    path = make(tmp_path / "state")
    enrol(opened(path), PHONE)
    take_back(path, 3)
    refuses(opened(path), StoreSchema)
    assert migrate(path, SEALER) == sqlite_file.SCHEMA - 3
    store = opened(path)
    assert store.read(FIND).credentials == (PHONE,)
    assert left(store, 2) == 1
