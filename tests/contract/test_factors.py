"""What factors/base.py asks of a factor, held against every one in the registry. A new factor adds one row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from factor_rows import ROWS, Given, Row
from flows import ALICE, BOB, FACTORS, SESSION, Clock, World, mac
from stores import discard, do, make

from pam_mfa.conversation import Commit, Steps
from pam_mfa.factors import UNASKED, registry
from pam_mfa.factors.base import Ceremony, Enrolment, Place
from pam_mfa.login import prove
from pam_mfa.outcome import Proof
from pam_mfa.store.base import Attempt, Enrol, FindAccount, Remove, Unlock
from pam_mfa.store.rows import DECOY_UID, Account
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE

NAMES = {ALICE: "alice", BOB: "bob"}


PLACE = Place(host="host", service="sudo", user="alice", local=True)


@pytest.fixture
def store(tmp_path: Any) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), Sealer(bytes(range(32))))
    one.prepare(FACTORS)
    yield one
    discard(one)


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest, store: SqliteStore) -> Row:
    """One factor, enrolled for alice."""
    made: Row = enrolled(request.param, store, ALICE)
    return made


def enrolled(kind: type[Row], store: SqliteStore, uid: int) -> Row:
    row = kind(Clock())
    row.world = World(store)
    given = row.enrolling()
    row.world = World(store, **given)
    enrolment = Enrolment(
        uid, NAMES[uid], f"{uid:032x}", "its name", "host", row.clock, row.options, SESSION, place=PLACE
    )
    row.made = row.world.run(FACTORS[row.name].enrol(enrolment))
    do(store, Enrol((row.made.credential,)))
    return row


def account(store: SqliteStore, uid: int = ALICE) -> Account:
    found = store.read(FindAccount(uid, NAMES[uid]))
    assert isinstance(found, Account)
    return found


def give(
    row: Row, store: SqliteStore, given: Given, of: Account | None = None, uid: int | None = ALICE
) -> tuple[Proof | None, World]:
    """One answer, the only one of its ceremony."""
    ceremony = Ceremony(SESSION, uid, of or account(store), row.clock, tries=1, place=PLACE)
    world = World(store, **given)
    return world.run(prove(ceremony, [row.name], FACTORS)), world


def failures(row: Row, store: SqliteStore) -> int:
    return account(store).tallies[row.name].failures


# ---------------------------------------------------------------------------------------------- the table


def test_every_factor_has_its_row() -> None:
    assert [row.name for row in ROWS] == [name for name in registry(mac) if name not in UNASKED]
    assert all(name == factor.name for name, factor in registry(mac).items())


def test_a_name_is_a_word_that_settings_and_commands_can_use() -> None:
    for name in registry(mac):
        assert name.isascii()
        assert name.replace("-", "_").isidentifier()
        assert name == name.lower()


# ---------------------------------------------------------------------------------------------- enrolment


def test_what_is_made_belongs_to_its_owner_and_is_not_yet_stored(row: Row) -> None:
    credential = row.credential
    assert (credential.uid, credential.user, credential.factor) == (ALICE, "alice", row.name)
    assert (credential.id, credential.label) == (row.id, "its name")
    assert credential.created == row.clock.wall
    assert credential.used is None
    assert row.world is not None
    assert not [want for want in row.world.wants if isinstance(want, Commit)]


def test_two_enrolments_share_no_secret(row: Row, store: SqliteStore) -> None:
    other = enrolled(type(row), store, BOB)
    assert other.credential.material != row.credential.material


def test_details_can_be_shown_to_anybody(row: Row, store: SqliteStore) -> None:
    row.right()
    (stored,) = account(store).of(row.name)
    text = json.dumps(dict(FACTORS[row.name].details(stored)))
    assert len(text) < 1000
    assert row.secrets
    assert not [secret for secret in row.secrets if secret in text or secret in repr(stored)]
    assert stored.material.hex() not in text


def test_a_ceiling_is_a_mark_that_the_clock_explains_or_none(row: Row) -> None:
    ceiling = FACTORS[row.name].ceiling(row.credential, row.clock())
    assert ceiling is None or ceiling >= row.credential.mark


# -------------------------------------------------------------------------------------------------- login


def test_a_right_answer_proves_once(row: Row, store: SqliteStore) -> None:
    given = row.right()
    proof, world = give(row, store, given)
    assert proof == Proof(SESSION, ALICE, row.name, row.credential.id, "its name")
    assert all(text.isascii() and text.isprintable() for text in world.asked + world.told)
    assert give(row, store, given)[0] is None
    assert failures(row, store) == 1
    assert give(row, store, row.right())[0] is not None
    assert failures(row, store) == 0


def test_a_right_answer_marks_its_credential_as_used(row: Row, store: SqliteStore) -> None:
    give(row, store, row.right())
    (stored,) = account(store).of(row.name)
    assert stored.used == row.clock.wall
    assert (stored.mark > row.credential.mark) is row.marks


def test_an_answer_of_a_session_that_began_before_it_was_used_is_a_replay(row: Row, store: SqliteStore) -> None:
    """R04: both sessions read the account before either answered."""
    given, stale = row.right(), account(store)
    assert give(row, store, given, stale)[0] is not None
    assert give(row, store, given, stale)[0] is None


def test_a_wrong_answer_proves_nothing_and_counts(row: Row, store: SqliteStore) -> None:
    assert give(row, store, row.wrong())[0] is None
    assert failures(row, store) == 1
    assert account(store).of(row.name)[0].mark == row.credential.mark


def test_foreign_text_is_a_wrong_answer(row: Row, store: SqliteStore) -> None:
    for number, given in enumerate(row.foreign(), start=1):
        assert give(row, store, given)[0] is None
        assert failures(row, store) == 1, number
        do(store, Unlock(ALICE))


def test_another_users_answer_is_wrong(row: Row, store: SqliteStore) -> None:
    bob = enrolled(type(row), store, BOB)
    bob.clock = row.clock
    assert give(row, store, bob.strange())[0] is None
    assert give(bob, store, bob.right(), account(store, BOB), BOB)[0] is not None


def test_another_accounts_credential_is_not_used_up(row: Row, store: SqliteStore) -> None:
    """A store that hands out the wrong rows: its own transaction refuses them."""
    bob = enrolled(type(row), store, BOB)
    bob.clock = row.clock
    mixed = replace(account(store), credentials=account(store, BOB).credentials)
    assert give(row, store, bob.right(), mixed)[0] is None
    assert account(store, BOB).of(row.name)[0].used is None


def test_a_right_answer_during_a_wait_is_nothing_and_is_not_used_up(row: Row, store: SqliteStore) -> None:
    for _ in range(FREE + 1):
        do(store, Attempt(ALICE, row.name, None, row.clock()))
    given = row.right()
    row.clock.sleep(-30 if row.name == "totp" else 0)
    assert give(row, store, given)[0] is None
    assert failures(row, store) == FREE + 1
    do(store, Unlock(ALICE))
    assert give(row, store, row.unspent(given))[0] is not None


def test_a_second_credential_of_the_same_factor_leaves_the_first_one_good(row: Row, store: SqliteStore) -> None:
    bob = enrolled(type(row), store, BOB)
    do(store, Remove(BOB, bob.credential.id))  # a card that is two users' is nobody's
    second = replace(bob.credential, id="f" * 32, uid=ALICE, user="alice", label="second")
    do(store, Enrol((second,)))
    assert give(row, store, row.beside())[0] is not None
    bob.clock = row.clock
    proof, _ = give(row, store, bob.beside())
    assert proof is not None
    assert (proof.credential, proof.label) == (second.id, "second")


# --------------------------------------------------------------------------------------------------- cost


def seen(world: World) -> list[tuple[str, int]]:
    """The wants, and how many operations each transaction has."""
    return [(type(want).__name__, len(want.operations) if isinstance(want, Commit) else 0) for want in world.wants]


def test_who_has_nothing_costs_and_sees_what_a_wrong_answer_does(row: Row, store: SqliteStore) -> None:
    """R09: and what it costs is paid by the decoy."""
    _, expected = give(row, store, row.wrong())
    for uid, of in {None: Account(DECOY_UID, "mallory"), 4242: Account(4242, "dave")}.items():
        for given in (row.wrong(), row.right()):
            proof, world = give(row, store, given, of, uid)
            assert proof is None
            if row.name in (
                "fido2",
                "smartcard",
            ):  # nobody waits for a key that nobody has: who has one is seen by its blinking
                assert world.wants == []
                continue
            assert seen(world) == seen(expected)
            assert world.asked == expected.asked
            ((attempt,),) = world.operations
            assert attempt == Attempt(DECOY_UID, row.name, None, row.clock())


def test_the_flow_does_no_io_of_its_own(row: Row) -> None:
    """A factor is a generator: making it runs nothing."""
    calls: list[Callable[[], Steps[Any]]] = [
        lambda: FACTORS[row.name].enrol(Enrolment(ALICE, "alice", "0" * 32, "x", "host", row.clock)),
        lambda: prove(Ceremony(SESSION, ALICE, Account(ALICE, "alice"), row.clock), [row.name], FACTORS),
    ]
    for call in calls:
        flow = call()
        assert iter(flow) is flow
        flow.close()
