"""Sign counts, for every store: one that falls back is refused and remembered in the transaction that saw it (K09)."""

from __future__ import annotations

import pytest
from stores import ALICE, ThroughWriter, at, credential, do, enrol, later

from pam_mfa.store.base import Attempt, Count, FindAccount, Noted, Tried, Unlock, Use
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, Instant, Tally

AnyStore = SqliteStore | ThroughWriter

PHONE = credential("phone")
KEY = credential("key", factor="fido2", created=8, mark=40)
BOBS = credential("bobs", uid=1001, user="bob")


def alice(store: AnyStore) -> Account:
    account = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(account, Account)
    return account


def answer(store: AnyStore, use: Use | None, now: Instant | None = None) -> Tried:
    (tried,) = do(store, Attempt(ALICE, "fido2", use, now or at()))
    assert isinstance(tried, Tried)
    return tried


def count(store: AnyStore, to: int, tolerant: bool = False, now: Instant | None = None) -> Tried:
    return answer(store, Count(KEY.id, to, tolerant), now)


def found_key(store: AnyStore) -> Credential:
    (found,) = alice(store).of("fido2")
    return found


def test_a_sign_count_that_grows_is_stored(store: AnyStore) -> None:
    enrol(store, KEY)
    for to in (41, 45, 2**32 - 1):
        assert count(store, to) is Tried.ACCEPTED
        assert (found_key(store).mark, found_key(store).used) == (to, at().wall)
    assert not found_key(store).suspect


@pytest.mark.parametrize("to", [40, 39, 1, 0])
def test_a_sign_count_that_falls_back_is_refused_counted_and_remembered(store: AnyStore, to: int) -> None:
    enrol(store, KEY, PHONE)
    assert count(store, to) is Tried.CLONE
    assert found_key(store) == replace(KEY, suspect=True)
    assert alice(store).tallies["fido2"] == Tally(1, at())
    assert alice(store).of("totp") == (PHONE,)


def test_a_copy_does_not_count_itself_past_the_key(store: AnyStore) -> None:
    """Each refused try raises the count of a copy, so the next one may be higher than the key's."""
    enrol(store, KEY)
    assert count(store, 40) is Tried.CLONE
    assert count(store, 41) is Tried.CLONE
    assert found_key(store) == replace(KEY, suspect=True)
    assert count(store, 41, tolerant=True) is Tried.ACCEPTED
    assert count(store, 42) is Tried.CLONE
    do(store, Unlock(ALICE))
    assert count(store, 42) is Tried.ACCEPTED


def test_a_sign_count_that_falls_back_may_be_tolerated_but_never_forgotten(store: AnyStore) -> None:
    enrol(store, KEY)
    answer(store, None)
    assert count(store, 3, tolerant=True, now=later(5)) is Tried.TOLERATED
    assert found_key(store) == replace(KEY, suspect=True, used=later(5).wall)
    assert alice(store).tallies["fido2"] == Tally()
    assert count(store, 41, tolerant=True) is Tried.ACCEPTED


def test_an_authenticator_that_does_not_count_says_zero_for_ever(store: AnyStore) -> None:
    enrol(store, replace(KEY, mark=0))
    for _ in range(3):
        assert count(store, 0) is Tried.ACCEPTED
    assert found_key(store) == replace(KEY, mark=0, used=at().wall)
    assert count(store, 1) is Tried.ACCEPTED
    assert count(store, 0) is Tried.CLONE


def test_one_of_many_equal_sign_counts_is_accepted(store: AnyStore) -> None:
    enrol(store, KEY)
    results = store.apply([(Attempt(ALICE, "fido2", Count(KEY.id, 41), at()),)] * 4)
    assert results == [(Tried.ACCEPTED,)] + [(Tried.CLONE,)] * 3


def test_a_suspicion_ends_with_unlock_and_only_that_accounts(store: AnyStore) -> None:
    bobs = replace(KEY, uid=1001, user="bob", id="b" * 32, suspect=True)
    enrol(store, bobs)
    enrol(store, KEY)
    assert count(store, 40) is Tried.CLONE
    assert do(store, Unlock(ALICE)) == (1,)
    assert found_key(store) == KEY
    assert store.read(FindAccount(1001, "bob")).credentials == (bobs,)


def test_during_a_wait_no_count_is_compared_and_none_suspected(store: AnyStore) -> None:
    enrol(store, KEY)
    for _ in range(FREE + 1):
        answer(store, None)
    assert count(store, 1) is Tried.WAITING
    assert count(store, 1, tolerant=True) is Tried.WAITING
    assert found_key(store) == KEY


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_sign_count_of_a_key_that_went_or_is_anothers_is_gone(store: AnyStore, tolerant: bool) -> None:
    enrol(store, KEY, PHONE)
    enrol(store, BOBS)
    for id_ in (BOBS.id, PHONE.id, "0" * 32):
        assert answer(store, Count(id_, 41, tolerant)) is Tried.GONE
        assert answer(store, Count(id_, 0, tolerant)) is Tried.GONE
    assert alice(store).of("fido2") == (KEY,)
    assert store.read(FindAccount(1001, "bob")).credentials == (BOBS,)


def test_a_use_of_what_cannot_count_is_noted_as_often_as_it_comes(store: AnyStore) -> None:
    enrol(store, KEY)
    answer(store, None)
    for seconds in (0, 60):
        assert answer(store, Noted(KEY.id), later(seconds)) is Tried.ACCEPTED
        assert found_key(store) == replace(KEY, used=later(seconds).wall)
    assert alice(store).tallies["fido2"] == Tally()


def test_a_use_of_what_went_or_is_anothers_is_not_noted(store: AnyStore) -> None:
    enrol(store, KEY, PHONE)
    enrol(store, BOBS)
    for id_ in (PHONE.id, BOBS.id, "f" * 32):
        assert answer(store, Noted(id_)) is Tried.GONE
    assert alice(store).credentials == (PHONE, KEY)
    assert alice(store).tallies["fido2"].failures == 3
