"""What root does for somebody who has lost the rest, and a first credential that costs a one-time code (S08, S09)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import ALICE, BOB, FACTORS, SESSION, Clock, World, code_at, recovery, ticket, totp
from peers import Held, Monotonic, Peer, manager
from stores import SEALER, discard, do, enrol, make, raw

from pam_mfa import helpdesk
from pam_mfa.config import FirstEnrolment, Settings
from pam_mfa.conversation import Skipped
from pam_mfa.credentials import remove, rename
from pam_mfa.enroll import ASK_TICKET, Caller, Desk, enroll
from pam_mfa.errors import NameMismatch, RefusedError, StoreCorrupt
from pam_mfa.rules import FirstFactor, Rule
from pam_mfa.service.manage import CHANGED
from pam_mfa.store.base import Attempt, FindAccount, ListAccounts
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE

PHONE, HELD = totp(), ticket()
CODE, WRONG = "T" * 16, "Z" * 16
WHY = {"reason": "ticket 4711: lost phone"}
ISSUE = {"valid": 3600, **WHY}
ROOT_FOR_ALICE = {"uid": ALICE, "name": "alice"}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return make(tmp_path / "state")


@pytest.fixture
def store(path: str) -> Iterator[SqliteStore]:
    one = SqliteStore(path, SEALER)
    yield one
    discard(one)


def desk(peer: int = 0, costs: FirstEnrolment = FirstEnrolment.TICKET, user: str = "alice") -> Desk:
    return Desk(Caller(SESSION, peer, ALICE, user, "host"), Settings(first_enrolment=costs), FACTORS, Clock())


def alice(store: SqliteStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    assert caught.value.message.isprintable()
    return f"{caught.value.code}: {caught.value.message}"


# ------------------------------------------------------------------------------------------------- issue


def test_a_code_is_shown_once_it_is_stored_and_ends_the_one_before(store: SqliteStore) -> None:
    enrol(store, PHONE)
    worlds = [World(store) for _ in range(2)]
    for world in worlds:
        world.run(helpdesk.issue(desk(), ISSUE))
        assert world.kinds == ["Commit", "Show"]
    (record,) = worlds[1].records
    (held,) = alice(store).of("ticket")
    assert (record["id"], record["kind"], record["until"]) == (held.id, "issued", Clock().wall + 3600)
    assert len(record["code"]) == 19
    assert alice(store).of("totp") == (PHONE,)
    assert [record["code"] not in repr(held), worlds[0].records[0]["code"] != record["code"]] == [True, True]


@pytest.mark.parametrize("old", [HELD, replace(HELD, mark=1), replace(HELD, created=HELD.created - 3600)])
def test_a_new_one_counts_at_once_whatever_was_typed_for_the_one_before(store: SqliteStore, old: Credential) -> None:
    enrol(store, old)
    for _ in range(FREE + 1):
        do(store, Attempt(ALICE, "ticket", None, Clock()()))
    root = World(store)
    root.run(helpdesk.issue(desk(), ISSUE))
    assert first(store, root.records[0]["code"]).asked == ["Verification code: "]


@pytest.mark.parametrize(
    "args",
    [
        {**ISSUE, "reason": ""},
        {**ISSUE, "reason": "  "},
        {**ISSUE, "reason": "a\nb"},
        {**ISSUE, "reason": "x" * 201},
        {**ISSUE, "reason": 5},
        {"valid": 3600},
        {**WHY, "valid": 86401},
        WHY,
    ],
)
def test_a_code_without_a_reason_or_an_end_is_not_made(store: SqliteStore, args: dict[str, Any]) -> None:
    assert refused(lambda: World(store).run(helpdesk.issue(desk(), args))).startswith("invalid")
    assert alice(store) == Account(ALICE, "alice")


@pytest.mark.parametrize("verb", ["issue", "reset"])
def test_nobody_but_root(store: SqliteStore, verb: str) -> None:
    enrol(store, PHONE)
    assert refused(lambda: World(store).run(getattr(helpdesk, verb)(desk(ALICE), ISSUE))).startswith("not_allowed")
    assert alice(store).credentials == (PHONE,)


def ask(store: SqliteStore, verb: str, **args: Any) -> Peer:
    return manager(0, Held(store)).request(verb, ROOT_FOR_ALICE, **args)


@pytest.mark.parametrize(("verb", "args"), [("issue", ISSUE), ("reset", WHY), ("unlock", WHY)])
def test_the_log_says_why(store: SqliteStore, verb: str, args: dict[str, Any]) -> None:
    enrol(store, PHONE)
    records = ask(store, verb, **args).link.records
    counted = "credentials removed: 1; " if verb == "reset" else ""
    assert {record.note for record in records} == {counted + WHY["reason"]}
    assert [record.reason for record in records] == (["issued"] if verb == "issue" else []) + ["done"]


def test_the_code_is_in_no_record(store: SqliteStore) -> None:
    one = ask(store, "issue", **ISSUE)
    (part,) = one.parts
    assert not [record for record in one.link.records if part["code"] in repr(record)]


# ------------------------------------------------------------------------------------------------- reset


def reset(store: SqliteStore, user: str = "alice") -> World:
    world = World(store)
    world.run(helpdesk.reset(desk(user=user), WHY))
    return world


def test_everything_goes(store: SqliteStore) -> None:
    enrol(store, PHONE, recovery(), HELD)
    enrol(store, replace(PHONE, uid=BOB, user="bob"))
    do(store, Attempt(ALICE, "totp", None, Clock()()))
    assert reset(store).records == [{"kind": "reset", "credentials": 3}]
    left = alice(store)
    assert left == Account(ALICE, "alice", notices=left.notices)
    assert store.read(ListAccounts()) == ((BOB, "bob"),)
    enrol(store, PHONE)
    assert alice(store).tallies["totp"].failures == 0


def test_nothing_is_nothing(store: SqliteStore) -> None:
    assert reset(store).records == [{"kind": "reset", "credentials": 0}]


@pytest.mark.parametrize("args", [{}, {"reason": ""}])
def test_a_reset_needs_a_reason(store: SqliteStore, args: dict[str, Any]) -> None:
    enrol(store, PHONE)
    assert refused(lambda: World(store).run(helpdesk.reset(desk(), args))).startswith("invalid")
    assert alice(store).credentials == (PHONE,)


DAMAGE = {
    "its seal": "UPDATE account SET seal = x'00'",
    "its row": "DELETE FROM account",
    "a credential": "UPDATE credential SET material = x'00'",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_what_cannot_be_read_any_more_is_reset_as_well(store: SqliteStore, path: str, statement: str) -> None:
    enrol(store, PHONE)
    World(store, [code_at(PHONE, Clock()())]).run(rename(desk(ALICE), {"credential": "phone", "label": "x"}))
    raw(path, statement)
    with pytest.raises(StoreCorrupt):
        alice(store)
    reset(store)
    assert alice(store).credentials == ()


def test_what_another_name_had_is_reset_as_well(store: SqliteStore) -> None:
    enrol(store, replace(PHONE, user="former"), replace(HELD, user="former"))
    with pytest.raises(NameMismatch):
        alice(store)
    reset(store)
    assert alice(store).credentials == ()
    assert [notice.what for notice in alice(store).notices] == ["reset"]


# ------------------------------------------------------------------------- the first one costs a ticket


def first(store: SqliteStore, *answers: Any, costs: FirstEnrolment = FirstEnrolment.TICKET, peer: int = ALICE) -> World:
    world = World(store, answers, passwords={"alice": "correct horse"})
    world.run(enroll(desk(peer, costs), {"factor": "recovery"}))
    return world


def test_a_ticket_is_asked_for_and_used_up(store: SqliteStore) -> None:
    enrol(store, HELD)
    world = first(store, CODE)
    assert (world.asked, world.told) == (["Verification code: "], [ASK_TICKET, "One-time code used."])
    assert alice(store).of("ticket")[0].mark == 1
    (paid,) = (record for record in world.records if record["kind"] == "proven")
    assert (paid["factor"], paid["id"]) == ("ticket", alice(store).of("ticket")[0].id)
    assert "proven" in CHANGED  # and so in the log
    assert len(alice(store).of("recovery")) == 1


def test_a_used_one_is_worth_nothing(store: SqliteStore) -> None:
    enrol(store, replace(HELD, mark=1))
    assert "pam-mfa issue-code alice" in refused(lambda: first(store))
    assert alice(store).of("recovery") == ()


@pytest.mark.parametrize("held", [(), (replace(HELD, created=HELD.created - 3600),), (replace(HELD, created=2**33),)])
def test_without_one_the_way_to_get_one_is_told_at_once(store: SqliteStore, held: tuple[Any, ...]) -> None:
    if held:
        enrol(store, *held)
    world = World(store)
    message = refused(lambda: world.run(enroll(desk(ALICE), {"factor": "recovery"})))
    assert message == (
        "refused: nothing was changed: the first credential needs a one-time code from your administrator, who gets "
        "one by: sudo pam-mfa issue-code alice"
    )
    assert world.asked == []
    assert alice(store).of("recovery") == ()


@pytest.mark.parametrize("answer", [WRONG, "", "correct horse", "A" * 24])
def test_a_wrong_one_enrols_nothing(store: SqliteStore, answer: str) -> None:
    enrol(store, HELD)
    assert "one-time code" in refused(lambda: first(store, answer, answer, answer))
    assert alice(store).of("recovery") == ()
    assert alice(store).tallies["ticket"].failures == 3


def enrol_app(store: SqliteStore, *answers: Any) -> World:
    """The answer None is a right code of the new app."""
    world = World(store)

    def shown(prompt: str) -> str:
        found = pyotp.parse_uri(next(record["uri"] for record in world.records if record["kind"] == "totp"))
        assert isinstance(found, pyotp.TOTP)
        return found.at(Clock()().wall)

    world.type(*(shown if answer is None else answer for answer in answers))
    world.run(enroll(desk(ALICE), {"factor": "totp"}))
    return world


def test_it_is_used_up_by_what_was_proven_to_work(store: SqliteStore) -> None:
    enrol(store, HELD)
    assert refused(lambda: enrol_app(store, "1", "2", "3")).startswith("refused")
    assert alice(store).credentials == (HELD,)
    world = enrol_app(store, None, CODE)
    assert world.asked == ["Code that the app shows now: ", "Verification code: "]
    assert world.told == [ASK_TICKET, "One-time code used."]
    assert {c.factor for c in alice(store).credentials} == {"ticket", "totp", "recovery"}
    assert alice(store).of("ticket")[0].mark == 1


@pytest.mark.parametrize("answer", [WRONG, None])
def test_without_it_what_works_is_not_stored(store: SqliteStore, answer: str | None) -> None:
    enrol(store, HELD)
    assert "one-time code" in refused(lambda: enrol_app(store, None, answer, answer, answer))
    assert alice(store).credentials == (HELD,)


@pytest.mark.parametrize("held", [(), (replace(HELD, mark=1),)])
def test_who_has_none_makes_nothing(store: SqliteStore, held: tuple[Credential, ...]) -> None:
    if held:
        enrol(store, *held)
    world = World(store)
    assert "pam-mfa issue-code alice" in refused(lambda: world.run(enroll(desk(ALICE), {"factor": "totp"})))
    assert (world.asked, world.records) == ([], [])


def test_one_that_is_over_before_it_is_asked_for_enrols_nothing(store: SqliteStore) -> None:
    enrol(store, HELD)
    slow = Clock()
    world = World(store)

    def late(prompt: str) -> str:
        slow.sleep(3600)
        found = pyotp.parse_uri(next(record["uri"] for record in world.records if record["kind"] == "totp"))
        assert isinstance(found, pyotp.TOTP)
        return found.at(slow().wall)

    world.type(late, CODE)
    with pytest.raises(RefusedError, match="issue-code alice"):
        world.run(enroll(replace(desk(ALICE), now=slow), {"factor": "totp"}))
    assert world.told == []
    assert alice(store).credentials == (HELD,)


def test_root_needs_none(store: SqliteStore) -> None:
    assert first(store, peer=0).asked == []


def test_where_the_password_is_the_cost_a_ticket_is_no_substitute_and_no_credential(store: SqliteStore) -> None:
    enrol(store, HELD)
    assert refused(lambda: first(store, CODE, CODE, CODE, costs=FirstEnrolment.PASSWORD)).startswith("refused")
    world = first(store, "correct horse", costs=FirstEnrolment.PASSWORD)
    assert world.asked == ["Password of alice: "]


def test_where_nothing_is_the_cost_a_ticket_changes_nothing(store: SqliteStore) -> None:
    enrol(store, HELD)
    assert first(store, costs=FirstEnrolment.SELF).asked == []


def test_a_further_one_costs_a_proof_for_which_a_ticket_is_good(store: SqliteStore) -> None:
    """Who has lost the phone, and has credentials."""
    enrol(store, PHONE, HELD)
    assert "you already have" in refused(lambda: first(store, WRONG, WRONG, WRONG))
    assert first(store, CODE).told == ["One-time code used. Enrol with: pam-mfa enroll"]


def test_who_has_a_key_alone_is_asked_for_it_behind_the_key(store: SqliteStore) -> None:
    """The kernel says who sits at the desk: what a login tells no stranger is not hidden there."""
    enrol(store, key(), HELD)
    settings = Settings(policy=Rule(first_factor=FirstFactor.NONE))
    world = World(store, [CODE], device=[Skipped()])
    world.run(enroll(replace(desk(ALICE), settings=settings, factors=FACTORS_AND_KEY), {"factor": "recovery"}))
    assert world.asked == ["Verification code: "]
    assert len(alice(store).of("recovery")) == 1


def test_who_began_with_another_ticket_does_not_end(store: SqliteStore) -> None:
    """S08: what somebody may do was decided on what the account had."""
    enrol(store, HELD)

    def late(prompt: str) -> str:
        World(store).run(helpdesk.issue(desk(), ISSUE))
        return CODE

    assert refused(lambda: first(store, late, "", "")).startswith("refused")
    assert alice(store).of("recovery") == ()


def test_who_has_nothing_left_but_a_ticket_has_nothing_left(store: SqliteStore) -> None:
    enrol(store, PHONE, HELD)
    world = World(store)
    world.run(remove(desk(), {"credential": "phone"}))
    assert world.records[0]["left"] == 0
    assert [c.id for c in alice(store).credentials] == [HELD.id]


@pytest.mark.parametrize("peer", [0, ALICE])
def test_nobody_enrols_one(store: SqliteStore, peer: int) -> None:
    enrol(store, PHONE)
    args = {"factor": "ticket", "valid": 3600}
    message = refused(lambda: World(store, [code_at(PHONE, Clock()())]).run(enroll(desk(peer), args)))
    assert message == "invalid: choose a factor: fido2, smartcard, totp, recovery, ssh-key"
    assert alice(store).credentials == (PHONE,)
