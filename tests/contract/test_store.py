"""What store/base.py promises, for every store; named after the promises."""

from __future__ import annotations

import pytest
from stores import ALICE, SEALER, ThroughWriter, at, credential, do, enrol, later

from pam_mfa.errors import ChangedMeanwhile, NameMismatch, StoreError
from pam_mfa.store.base import (
    Advance,
    Attempt,
    Burn,
    Count,
    Enrol,
    FindAccount,
    FindOwners,
    KeepConfig,
    KeptConfig,
    ListAccounts,
    Remove,
    Rename,
    Tried,
    Unlock,
    Use,
)
from pam_mfa.store.rows import DECOY_UID, Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Instant, Tally

AnyStore = SqliteStore | ThroughWriter

PHONE = credential("phone")
CODES = credential("codes", factor="recovery", created=9)
BOBS = credential("bobs", uid=1001, user="bob")


def alice(store: AnyStore) -> Account:
    account = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(account, Account)
    return account


def answer(store: AnyStore, use: Use | None, now: Instant | None = None, factor: str = "totp") -> Tried:
    (tried,) = do(store, Attempt(ALICE, factor, use, now or at()))
    assert isinstance(tried, Tried)
    return tried


# ---------------------------------------------------------------------------------------------- queries


def test_nobody_is_an_answer(store: AnyStore) -> None:
    assert store.read(FindAccount(ALICE, "alice")) == Account(ALICE, "alice")
    assert store.read(ListAccounts()) == ()
    assert store.read(KeptConfig()) is None


def test_what_was_enrolled_is_found_oldest_first(store: AnyStore) -> None:
    newer = replace(credential("newer"), created=8, mark=41, used=12)
    enrol(store, CODES, newer, PHONE)
    account = alice(store)
    assert account.credentials == (PHONE, newer, CODES)
    assert account.of("totp") == (PHONE, newer)
    assert account.tallies == {"totp": Tally(), "recovery": Tally()}


def test_everybody_with_a_credential_is_listed_by_uid(store: AnyStore) -> None:
    enrol(store, BOBS)
    enrol(store, PHONE)
    assert store.read(ListAccounts()) == ((ALICE, "alice"), (1001, "bob"))


def test_the_owners_of_credentials_are_found_in_the_whole_store(store: AnyStore) -> None:
    shared = replace(PHONE, uid=1001, user="bob")
    enrol(store, PHONE, CODES)
    enrol(store, BOBS, shared)
    assert store.read(FindOwners(())) == ()
    assert store.read(FindOwners(("f" * 32,))) == ()
    assert store.read(FindOwners((CODES.id,))) == ((CODES.id, ALICE, "alice"),)
    assert store.read(FindOwners((PHONE.id, "f" * 32))) == ((PHONE.id, ALICE, "alice"), (PHONE.id, 1001, "bob"))


def test_a_uid_under_another_name_is_refused(store: AnyStore) -> None:
    enrol(store, PHONE)
    with pytest.raises(NameMismatch):
        store.read(FindAccount(ALICE, "mallory"))
    with pytest.raises(NameMismatch):
        do(store, Enrol((credential("new", user="mallory"),)))
    assert alice(store).credentials == (PHONE,)


def test_settings_are_kept(store: AnyStore) -> None:
    for text in ("", "[policy]\nunenrolled = 'deny'\n", "é\n" * 40_000):
        assert do(store, KeepConfig(text)) == (None,)
        assert store.read(KeptConfig()) == text


def test_an_unknown_query_or_operation_is_a_store_error(store: AnyStore) -> None:
    with pytest.raises(StoreError):
        store.read("everything")  # type: ignore[arg-type]
    (result,) = store.apply([("nonsense",)])  # type: ignore[list-item]
    assert isinstance(result, StoreError)
    assert alice(store) == Account(ALICE, "alice")


# --------------------------------------------------------------------------------------------- attempts


def test_a_use_is_accepted_once(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert answer(store, Advance(PHONE.id, 100)) is Tried.ACCEPTED
    assert answer(store, Advance(PHONE.id, 100)) is Tried.REPLAYED
    assert answer(store, Advance(PHONE.id, 99)) is Tried.REPLAYED
    assert answer(store, Advance(PHONE.id, 101)) is Tried.ACCEPTED
    (found,) = alice(store).credentials
    assert (found.mark, found.used) == (101, at().wall)


def test_each_bit_is_burnt_once(store: AnyStore) -> None:
    enrol(store, CODES)
    for bit in (0, 9, 61):
        assert answer(store, Burn(CODES.id, bit), factor="recovery") is Tried.ACCEPTED
        assert answer(store, Burn(CODES.id, bit), factor="recovery") is Tried.REPLAYED
    assert alice(store).credentials[0].mark == 1 | 1 << 9 | 1 << 61


@pytest.mark.parametrize(
    "use", [Advance(PHONE.id, -1), Advance(PHONE.id, 1 << 62), Burn(PHONE.id, 62), Count(PHONE.id, -1)]
)
def test_a_use_that_does_not_fit_is_refused(store: AnyStore, use: Use) -> None:
    enrol(store, PHONE)
    with pytest.raises(StoreError):
        answer(store, use)
    assert alice(store) == Account(ALICE, "alice", (PHONE,), {"totp": Tally()})


def test_a_wrong_answer_is_counted_and_a_right_one_resets(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    assert answer(store, None) is Tried.WRONG
    assert answer(store, None, later(3)) is Tried.WRONG
    assert alice(store).tallies == {"totp": Tally(2, later(3)), "recovery": Tally()}
    assert alice(store).credentials == (PHONE, CODES)
    assert answer(store, Advance(PHONE.id, 1)) is Tried.ACCEPTED
    assert alice(store).tallies["totp"] == Tally()


def test_a_replay_counts_as_a_failure(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert answer(store, Advance(PHONE.id, 5)) is Tried.ACCEPTED
    assert answer(store, Advance(PHONE.id, 5), later(1)) is Tried.REPLAYED
    assert alice(store).tallies["totp"] == Tally(1, later(1))


def test_a_waiting_account_is_not_compared_not_counted_and_nothing_is_used(store: AnyStore) -> None:
    enrol(store, PHONE)
    for _ in range(FREE + 1):
        assert answer(store, None) is Tried.WRONG
    before = alice(store)
    assert answer(store, Advance(PHONE.id, 50), later(29)) is Tried.WAITING
    assert answer(store, None, later(29)) is Tried.WAITING
    assert alice(store) == before
    assert answer(store, Advance(PHONE.id, 50), later(30)) is Tried.ACCEPTED


def test_a_disabled_factor_stays_so_until_it_is_unlocked(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    now = 0
    for _ in range(LIMIT):
        now += 3600
        assert answer(store, None, later(now)) is Tried.WRONG
    assert answer(store, Advance(PHONE.id, 5), later(now + 10**8)) is Tried.DISABLED
    assert answer(store, Burn(CODES.id, 0), later(now), factor="recovery") is Tried.ACCEPTED
    assert do(store, Unlock(ALICE)) == (1,)
    assert answer(store, Advance(PHONE.id, 5), later(now)) is Tried.ACCEPTED


def test_a_credential_that_went_meanwhile_is_gone(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    assert do(store, Remove(ALICE, PHONE.id)) == (True,)
    assert answer(store, Advance(PHONE.id, 5)) is Tried.GONE
    assert alice(store).tallies["totp"].failures == 1
    assert do(store, Remove(ALICE, CODES.id)) == (True,)
    assert answer(store, Burn(CODES.id, 0), factor="recovery") is Tried.GONE
    assert answer(store, None) is Tried.GONE


def test_another_accounts_or_another_factors_credential_is_gone(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    enrol(store, BOBS)
    assert answer(store, Advance(BOBS.id, 5)) is Tried.GONE
    assert answer(store, Advance(PHONE.id, 5), factor="recovery") is Tried.GONE
    assert answer(store, Advance(CODES.id, 5)) is Tried.GONE
    assert store.read(FindAccount(1001, "bob")).credentials == (BOBS,)
    assert alice(store).credentials == (PHONE, CODES)


@pytest.mark.parametrize("boot_id", ["", "   ", "x" * 37, "é" * 36])
def test_a_moment_that_cannot_be_kept_is_refused(store: AnyStore, boot_id: str) -> None:
    """Kept as "never failed" it would end the throttle."""
    enrol(store, PHONE)
    with pytest.raises(StoreError):
        answer(store, None, at(boot_id=boot_id))
    assert alice(store).tallies["totp"] == Tally()


# -------------------------------------------------------------------------------------------- the decoy


@pytest.mark.parametrize("factor", ["totp", "recovery", "fido2", "smartcard"])
def test_the_decoy_counts_for_ever_and_never_locks(store: AnyStore, factor: str) -> None:
    attempt = Attempt(DECOY_UID, factor, None, at())
    for _ in range(3):
        assert store.apply([(attempt,)] * (LIMIT // 2)) == [(Tried.WRONG,)] * (LIMIT // 2)


def test_the_decoy_owns_nothing(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert do(store, Attempt(DECOY_UID, "totp", Advance(PHONE.id, 5), at())) == (Tried.GONE,)
    with pytest.raises(StoreError):
        do(store, Enrol((replace(PHONE, uid=DECOY_UID),)))
    assert store.read(FindAccount(DECOY_UID, "nobody")) == Account(DECOY_UID, "nobody")
    assert store.read(ListAccounts()) == ((ALICE, "alice"),)


def test_the_decoy_learns_new_factors_when_the_service_starts(store: AnyStore) -> None:
    attempt = Attempt(DECOY_UID, "agent", None, at())
    assert do(store, attempt) == (Tried.GONE,)
    store.prepare(["totp", "agent"])
    store.prepare(["totp", "agent"])
    assert do(store, attempt) == (Tried.WRONG,)


# ------------------------------------------------------------------------------------------- management


def test_enrolling_keeps_what_is_there_and_forgives_nothing(store: AnyStore) -> None:
    enrol(store, PHONE)
    answer(store, None)
    second = credential("second")
    enrol(store, second)
    assert alice(store).credentials == (PHONE, second)
    assert alice(store).tallies["totp"].failures == 1


def test_enrolling_with_replace_takes_that_factors_older_ones_away(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    enrol(store, BOBS)
    fresh = credential("fresh", factor="recovery")
    assert do(store, Enrol((fresh,), frozenset({"recovery"}))) == (None,)
    assert set(alice(store).credentials) == {PHONE, fresh}
    assert answer(store, Burn(CODES.id, 1), factor="recovery") is Tried.GONE
    assert store.read(FindAccount(1001, "bob")).credentials == (BOBS,)


@pytest.mark.parametrize(("factor", "left"), [("ticket", 0), ("recovery", 1)])
def test_a_new_ticket_alone_forgets_the_failures_of_the_old_one(store: AnyStore, factor: str, left: int) -> None:
    enrol(store, PHONE, credential("old", factor=factor))
    for each in ("totp", factor):
        answer(store, None, factor=each)
    do(store, Enrol((credential("new", factor=factor),), frozenset({factor})))
    assert {name: tally.failures for name, tally in alice(store).tallies.items()} == {"totp": 1, factor: left}


@pytest.mark.parametrize(
    "credentials",
    [
        (),
        (PHONE, BOBS),
        (PHONE, PHONE),
        (replace(PHONE, id="short"),),
        (replace(PHONE, mark=-1),),
    ],
)
def test_an_enrolment_that_makes_no_sense_changes_nothing(store: AnyStore, credentials: tuple[Credential, ...]) -> None:
    enrol(store, CODES)
    with pytest.raises(StoreError):
        do(store, Enrol(credentials, frozenset({"recovery"})))
    assert alice(store) == Account(ALICE, "alice", (CODES,), {"recovery": Tally()})
    assert store.read(ListAccounts()) == ((ALICE, "alice"),)


def test_an_id_that_is_taken_is_refused(store: AnyStore) -> None:
    enrol(store, PHONE)
    with pytest.raises(StoreError):
        do(store, Enrol((replace(PHONE, material=b"another"),)))
    assert alice(store).credentials == (PHONE,)


def test_rename_changes_the_label_alone(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert do(store, Rename(ALICE, PHONE.id, "old phone")) == (True,)
    assert do(store, Rename(1001, PHONE.id, "mine")) == (False,)
    assert do(store, Rename(ALICE, BOBS.id, "mine")) == (False,)
    assert alice(store).credentials == (replace(PHONE, label="old phone"),)


def test_the_last_credential_takes_the_account_with_it(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    assert do(store, Remove(1001, PHONE.id)) == (False,)
    assert do(store, Remove(ALICE, BOBS.id)) == (False,)
    assert do(store, Remove(ALICE, PHONE.id)) == (True,)
    assert alice(store).credentials == (CODES,)
    assert do(store, Remove(ALICE, CODES.id)) == (True,)
    assert store.read(ListAccounts()) == ()
    assert store.read(FindAccount(ALICE, "somebody else")) == Account(ALICE, "somebody else")


def test_unlock_resets_tallies_and_caps_marks(store: AnyStore) -> None:
    ahead = replace(PHONE, mark=1000)
    enrol(store, ahead, CODES)
    enrol(store, replace(BOBS, mark=1000))
    answer(store, None)
    assert do(store, Unlock(ALICE, ((ahead.id, 990), (CODES.id, 5), (BOBS.id, 3)))) == (1,)
    assert [found.mark for found in alice(store).credentials] == [990, 0]
    assert set(alice(store).tallies.values()) == {Tally()}
    assert store.read(FindAccount(1001, "bob")).credentials[0].mark == 1000
    assert do(store, Unlock(ALICE)) == (0,)


# ----------------------------------------------------------------------------------------- transactions


def test_apply_answers_in_order_and_undoes_only_what_failed(store: AnyStore) -> None:
    enrol(store, PHONE)
    bad = Enrol((credential("bad", user="mallory"),))
    results = store.apply(
        [(Attempt(ALICE, "totp", None, at()), bad), (Enrol((BOBS,)),), (Attempt(ALICE, "totp", None, at()),)]
    )
    assert isinstance(results[0], NameMismatch)
    assert results[1:] == [(None,), (Tried.WRONG,)]
    assert alice(store).tallies["totp"].failures == 1
    assert store.read(FindAccount(1001, "bob")).credentials == (BOBS,)


def test_operations_of_one_tuple_see_each_other(store: AnyStore) -> None:
    assert do(store, Enrol((PHONE,)), Attempt(ALICE, "totp", Advance(PHONE.id, 3), at()), Remove(ALICE, PHONE.id)) == (
        None,
        Tried.ACCEPTED,
        True,
    )
    assert alice(store) == Account(ALICE, "alice")


def test_one_of_many_equal_uses_in_a_batch_is_accepted(store: AnyStore) -> None:
    enrol(store, PHONE)
    results = store.apply([(Attempt(ALICE, "totp", Advance(PHONE.id, 5), at()),)] * 4)
    assert results == [(Tried.ACCEPTED,)] + [(Tried.REPLAYED,)] * 3


def test_an_empty_batch_is_nothing(store: AnyStore) -> None:
    assert store.apply([]) == []
    assert store.apply([()]) == [()]


def test_another_connection_sees_what_was_acknowledged(store: AnyStore, store_path: str) -> None:
    enrol(store, PHONE)
    answer(store, Advance(PHONE.id, 5))
    other = ThroughWriter(store_path)
    assert other.read(FindAccount(ALICE, "alice")) == alice(store)
    assert answer(other, Advance(PHONE.id, 5)) is Tried.REPLAYED
    other.close()


def test_nothing_secret_lies_open_in_the_files(store: AnyStore, store_path: str) -> None:
    canary = b"CANARY-5e1f"
    enrol(store, replace(PHONE, material=canary))
    do(store, KeepConfig(canary.decode()))
    assert alice(store).credentials[0].material == canary
    for suffix in ("", "-wal", "-shm"):
        with open(store_path + suffix, "rb") as file:
            assert canary not in file.read()
    assert SEALER.check != canary


def test_enrol_refuses_what_another_account_has_where_it_must_be_alone(store: AnyStore) -> None:
    shared = replace(PHONE, uid=1001, user="bob")
    enrol(store, PHONE)
    (result,) = store.apply([(Enrol((BOBS, shared), alone=True),)])
    assert isinstance(result, ChangedMeanwhile)
    assert store.read(FindAccount(1001, "bob")).credentials == ()
    assert do(store, Enrol((BOBS,), alone=True)) == (None,)
    assert do(store, Enrol((replace(CODES, id=PHONE.id, uid=1002, user="carol"),))) == (None,)
    assert do(store, Enrol((CODES,), alone=True)) == (None,)
    assert do(store, Remove(1002, PHONE.id)) == (True,)
    assert do(store, Remove(ALICE, PHONE.id)) == (True,)
    assert do(store, Enrol((shared,), alone=True)) == (None,)


def test_enrol_refuses_an_account_that_is_not_as_expected(store: AnyStore) -> None:
    enrol(store, PHONE)
    again = replace(PHONE, id="f" * 32, label="another")
    for expected in (frozenset[str](), frozenset({PHONE.id, "e" * 32})):
        (result,) = store.apply([(Enrol((again,), expected=expected),)])
        assert isinstance(result, ChangedMeanwhile)
    assert do(store, Enrol((again,), expected=frozenset({PHONE.id}))) == (None,)
