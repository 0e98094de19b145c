"""What store/base.py promises of notices and of resets, for every store."""

from __future__ import annotations

import pytest
from stores import ALICE, ThroughWriter, at, credential, do, enrol

from pam_mfa.errors import StoreError
from pam_mfa.store.base import (
    MAX_NOTICES,
    Announce,
    Attempt,
    Enrol,
    FindAccount,
    Heard,
    ListAccounts,
    Remove,
    Rename,
    Reset,
    Tried,
    Unlock,
)
from pam_mfa.store.rows import DECOY_UID, Account, Notice
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace

AnyStore = SqliteStore | ThroughWriter
PHONE, CODES = credential("phone"), credential("codes", factor="recovery")
NEWS = Notice(ALICE, "alice", "removed", 'totp "phone"', by_root=True, at=1_700_000_000)
LATE = replace(NEWS, about="late")


def alice(store: AnyStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


def test_a_notice_is_kept_with_what_it_is_about(store: AnyStore) -> None:
    assert do(store, Announce(Enrol((PHONE, CODES)), NEWS)) == (None,)
    assert do(store, Announce(Unlock(ALICE), NEWS), Announce(Remove(ALICE, PHONE.id), NEWS)) == (0, True)
    assert (alice(store).notices, alice(store).earlier) == ((NEWS,) * 3, 0)


def test_what_did_nothing_is_not_announced(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert do(store, Announce(Remove(ALICE, CODES.id), NEWS), Announce(Rename(ALICE, CODES.id, "x"), NEWS)) == (
        False,
        False,
    )
    assert alice(store).notices == ()


def test_a_change_that_is_undone_takes_its_notice_with_it(store: AnyStore) -> None:
    enrol(store, PHONE)
    with pytest.raises(StoreError):
        do(store, Announce(Remove(ALICE, PHONE.id), NEWS), Enrol((PHONE,), expected=frozenset({"other"})))
    with pytest.raises(StoreError):
        do(store, Announce(Enrol((CODES,), expected=frozenset()), NEWS))
    assert alice(store).credentials == (PHONE,)
    assert alice(store).notices == ()


def test_who_has_nothing_may_have_news(store: AnyStore) -> None:
    do(store, Announce(Reset(ALICE), NEWS))
    assert alice(store) == Account(ALICE, "alice", notices=(NEWS,))
    assert store.read(ListAccounts()) == ()
    do(store, Heard(ALICE, "alice", 1))
    assert alice(store) == Account(ALICE, "alice")


def test_they_are_bounded(store: AnyStore) -> None:
    for _ in range(5):
        do(store, *[Announce(Unlock(ALICE), NEWS)] * MAX_NOTICES)
    assert (len(alice(store).notices), alice(store).earlier) == (MAX_NOTICES, 4 * MAX_NOTICES)


def told(account: Account) -> Heard:
    """What a login that told all of them says."""
    return Heard(account.uid, account.user, account.heard + account.earlier + len(account.notices))


@pytest.mark.parametrize("between", [Unlock(ALICE), Reset(ALICE)])
def test_what_nobody_has_heard_of_is_not_forgotten_for_an_older_one(store: AnyStore, between: Unlock | Reset) -> None:
    """Two logins read the same notice; one is still at its prompt when the other has told it and the next one comes."""
    do(store, Announce(Unlock(ALICE), NEWS))
    first, second = told(alice(store)), told(alice(store))
    do(store, first)
    do(store, Announce(between, LATE))
    do(store, second)
    assert (alice(store).notices, alice(store).earlier) == ((LATE,), 0)
    do(store, told(alice(store)))
    assert alice(store) == Account(ALICE, "alice")


def test_nor_where_a_reset_or_another_user_came_between(store: AnyStore) -> None:
    do(store, *[Announce(Unlock(ALICE), NEWS)] * 3)
    old = told(alice(store))
    do(store, Announce(Reset(ALICE), LATE))
    do(store, old)
    assert (alice(store).notices, alice(store).earlier) == ((LATE,), 0)
    do(store, Announce(Unlock(ALICE), replace(NEWS, user="newcomer")))
    do(store, Announce(Unlock(ALICE), LATE))
    do(store, old)
    assert (alice(store).notices, alice(store).earlier) == ((LATE,), 0)


@pytest.mark.parametrize("late", [1, MAX_NOTICES - 1, MAX_NOTICES, MAX_NOTICES + 3])
@pytest.mark.parametrize("rounds", [1, 3])
def test_only_what_was_not_heard_counts_as_earlier(store: AnyStore, late: int, rounds: int) -> None:
    for _ in range(rounds):
        do(store, *[Announce(Unlock(ALICE), NEWS)] * (MAX_NOTICES + 2))
        before = told(alice(store))
        do(store, *[Announce(Unlock(ALICE), LATE)] * late)
        do(store, before)
        found = alice(store)
        assert (found.notices, found.earlier) == ((LATE,) * min(late, MAX_NOTICES), max(0, late - MAX_NOTICES))
        do(store, before)
        assert alice(store) == found
        do(store, told(found))
        assert alice(store) == Account(ALICE, "alice")


def test_a_reset_counts_what_went_and_forgets_what_was_counted(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    bobs = credential("bobs", uid=1001, user="bob")
    enrol(store, bobs)
    do(store, Attempt(ALICE, "totp", None, at()), Announce(Unlock(ALICE), NEWS))
    assert do(store, Reset(ALICE)) == (2,)
    assert do(store, Reset(ALICE)) == (0,)
    assert alice(store) == Account(ALICE, "alice")
    assert store.read(FindAccount(1001, "bob")).credentials == (bobs,)
    assert do(store, Attempt(ALICE, "totp", None, at())) == (Tried.GONE,)


def test_the_decoy_is_not_reset(store: AnyStore) -> None:
    with pytest.raises(StoreError):
        do(store, Reset(DECOY_UID))
    assert do(store, Attempt(DECOY_UID, "ticket", None, at())) == (Tried.WRONG,)
