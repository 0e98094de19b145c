"""What users hear at a login of changes to what they have: every change, once, and only who has got in."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyotp
import pytest
from flows import (
    ALICE,
    BOB,
    FACTORS,
    SESSION,
    Clock,
    Memory,
    Response,
    World,
    account,
    code_at,
    recovery,
    totp,
    wrong_for,
)
from peers import COSE
from stores import SEALER, discard, do, enrol, make

from pam_mfa import notices
from pam_mfa.assessment import Request
from pam_mfa.config import FirstEnrolment, Settings
from pam_mfa.conversation import Aborted, Tell
from pam_mfa.enroll import Caller, Desk
from pam_mfa.errors import AbortedError, PamMfaError, RefusedError, StoreError
from pam_mfa.login import login
from pam_mfa.outcome import Outcome
from pam_mfa.rules import FirstFactor, Rule, Unenrolled
from pam_mfa.service.manage import RECORDED, VERBS
from pam_mfa.store.base import MAX_NOTICES, Announce, FindAccount, Heard, Remove, Rename
from pam_mfa.store.rows import Account, Notice
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace

PHONE, SHEET = totp(), recovery()
NOW = Clock()()
WHEN = "2023-11-14 22:13 UTC"
RIGHT, WRONG = code_at(PHONE, NOW), wrong_for(PHONE, NOW)
KEYS = [
    {
        "rp_id": "pam://host", "credential_id": b64encode(name).decode(), "public_key": b64encode(COSE).decode(),
        "verified": False, "discoverable": False, "user_handle": "",
    }
    for name in (b"one", b"two")
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    enrol(one, PHONE, SHEET)
    yield one
    discard(one)


def alice(store: SqliteStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


def change(store: SqliteStore, verb: str, *answers: Any, peer: int = 0, **args: Any) -> World:
    world = World(store, answers)
    settings = Settings(first_enrolment=FirstEnrolment.SELF)
    world.run(VERBS[verb](Desk(Caller(SESSION, peer, ALICE, "alice", "host"), settings, FACTORS, Clock()), args))
    return world


def logged_in(store: Any, *answers: str, rule: Rule | None = None, service: str = "sudo", **more: Any) -> World:
    world = World(store, answers or (RIGHT,), **more)
    verdict = world.run(login(Request(SESSION, 0, service, "alice", ALICE), Settings(rule or Rule()), FACTORS, Clock()))
    assert verdict.outcome in (Outcome.GRANTED, Outcome.EXEMPT)
    return world


# ------------------------------------------------------------------------------------------ every change


def scanned(world: Callable[[], World]) -> Callable[[str], str]:
    def app(prompt: str) -> str:
        shown = pyotp.parse_uri(next(record["uri"] for record in world().records if record["kind"] == "totp"))
        assert isinstance(shown, pyotp.TOTP)
        return shown.at(Clock().wall)

    return app


CHANGES: dict[str, tuple[Mapping[str, Any], str]] = {
    "enroll": ({"factor": "totp", "label": "tablet"}, 'totp "tablet" enrolled'),
    "rename": ({"credential": "phone", "label": "old"}, 'totp "old" renamed'),
    "remove": ({"credential": "phone"}, 'totp "phone" removed'),
    "recovery": ({"renew": True}, "new recovery codes made"),
    "unlock": ({}, "wrong answers forgotten"),
    "import": ({"source": "pam_u2f"}, "2 credentials (fido2) taken over from another program"),
    "issue": ({"valid": 60, "reason": "x"}, "a one-time code given out"),
    "reset": ({"reason": "x"}, "all that was enrolled removed"),
}


def test_every_change_is_here() -> None:
    assert set(CHANGES) == RECORDED - {"end_leases"}  # which changes nothing of what is enrolled


@pytest.mark.parametrize("verb", CHANGES)
def test_every_change_is_told_with_who_made_it_and_when(store: SqliteStore, verb: str) -> None:
    args, words = CHANGES[verb]
    world = World(store)
    answers: dict[str, list[Any]] = {"enroll": [scanned(lambda: world)], "import": [json.dumps(KEYS), ""]}
    world.type(*answers.get(verb, []))
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    world.run(VERBS[verb](desk, args))
    assert notices.news(alice(store)) == (f"Second factor: {words} by root, {WHEN}", notices.ADVICE)


def test_a_users_own_change_is_told_as_well(store: SqliteStore) -> None:
    change(store, "rename", RIGHT, peer=ALICE, credential="phone", label="old")
    assert notices.news(alice(store))[0] == f'Second factor: totp "old" renamed by you, {WHEN}'


def test_one_key_that_is_taken_over_has_its_name(store: SqliteStore) -> None:
    change(store, "import", json.dumps(KEYS[:1]), "", source="pam_u2f")
    assert 'fido2 "pam_u2f key 1" taken over' in notices.news(alice(store))[0]


def test_a_name_that_a_terminal_may_not_show_is_left_out(store: SqliteStore) -> None:
    change(store, "rename", credential="phone", label="\xe9")
    (text, _) = notices.news(alice(store))
    assert text.startswith("Second factor: totp renamed")
    assert text.isascii()


def test_what_is_refused_is_not_told(store: SqliteStore) -> None:
    with pytest.raises(RefusedError):
        change(store, "remove", WRONG, WRONG, WRONG, peer=ALICE, credential="phone")
    gone = Announce(Remove(ALICE, "f" * 32), notice())
    assert do(store, gone) == (False,)
    assert do(store, replace(gone, operation=Rename(ALICE, "f" * 32, "x"))) == (False,)
    assert alice(store).notices == ()


def test_a_change_that_fails_leaves_no_notice(store: SqliteStore) -> None:
    """The same transaction."""

    def late(prompt: str) -> str:
        do(store, Remove(ALICE, SHEET.id))
        return RIGHT

    with pytest.raises(RefusedError, match="changed meanwhile"):
        change(store, "recovery", late, peer=ALICE, renew=True)
    assert alice(store).notices == ()


# ------------------------------------------------------------------------------------------ who hears it


def notice(what: str = "removed", about: str = "it", user: str = "alice", at: int = NOW.wall) -> Notice:
    return Notice(ALICE, user, what, about, True, at)


TOLD = [f"Second factor: it removed by root, {WHEN}", notices.ADVICE]
NEWS = replace(account(PHONE), notices=(notice(),))
NOBODY = Account(ALICE, "alice", notices=(notice(),))


def test_it_is_told_after_the_proof_and_forgotten() -> None:
    store = Memory(NEWS)
    world = logged_in(store)
    assert world.told == TOLD
    assert world.kinds == ["Read", "AskSecret", "Commit", "Tell", "Tell", "Commit"]
    assert world.operations[-1] == (Heard(ALICE, "alice", 1),)
    assert logged_in(Memory(replace(store.accounts[ALICE], credentials=(PHONE,)))).told == []


def test_a_login_without_news_changes_nothing_more() -> None:
    assert logged_in(Memory(account(PHONE))).kinds == ["Read", "AskSecret", "Commit"]


@pytest.mark.parametrize("answers", [[WRONG] * 3, [""] * 3])
def test_who_is_refused_hears_nothing(answers: list[str]) -> None:
    store = Memory(NEWS)
    world = World(store, answers)
    verdict = world.run(login(Request(SESSION, 0, "sudo", "alice", ALICE), Settings(), FACTORS, Clock()))
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert world.told == []
    assert store.accounts[ALICE].notices == (notice(),)


OPEN = Rule(unenrolled=Unenrolled.ALLOW)


@pytest.mark.parametrize("rule", [OPEN, Rule(enrol_by=date(2023, 11, 14))])
def test_who_gets_in_without_a_credential_hears_it(rule: Rule) -> None:
    world = logged_in(Memory(NOBODY), rule=rule)
    assert world.told[-2:] == TOLD
    assert world.operations == [(Heard(ALICE, "alice", 1),)]


@pytest.mark.parametrize(
    "rule", [Rule(exempt=True), replace(OPEN, first_factor=FirstFactor.NONE), Rule(exempt=True, enrol_by=date.max)]
)
def test_where_nobody_has_proven_anything_or_may_be_there_it_is_kept(rule: Rule) -> None:
    store = Memory(NOBODY)
    assert logged_in(store, rule=rule).told == []
    assert store.accounts[ALICE].notices == (notice(),)


@pytest.mark.parametrize("rule", [Rule(), OPEN])
def test_a_store_that_cannot_forget_keeps_nobody_out(rule: Rule) -> None:
    held = NEWS if rule is not OPEN else NOBODY
    world = logged_in(Memory(held), rule=rule)
    last = len(world.wants) - 1
    again = logged_in(Memory(held), rule=rule, instead={last: StoreError("full")})
    assert again.told == TOLD
    with pytest.raises(AbortedError):
        logged_in(Memory(held), rule=rule, instead={last: AbortedError("gone")})


@pytest.mark.parametrize(
    ("ages", "left"),
    [((0,), 1), ((notices.TOLD_SECONDS - 1,), 1), ((notices.TOLD_SECONDS,), 0), ((10**7, 5), 1), ((5, 10**7), 2)],
)
def test_over_ssh_they_are_told_for_a_week(store: SqliteStore, ages: tuple[int, ...], left: int) -> None:
    keep(store, *[notice(at=NOW.wall - age) for age in ages])
    world = logged_in(store, service="sshd")
    assert len(world.told) == len(ages) + 1
    assert len(alice(store).notices) == left


@pytest.mark.parametrize("rule", [Rule(), OPEN])
@pytest.mark.parametrize("why", [AbortedError("gone"), Aborted(), OSError(), PamMfaError()])
def test_whoever_leaves_meanwhile_is_not_let_in(rule: Rule, why: Response) -> None:
    held = NEWS if rule is not OPEN else NOBODY
    number = next(n for n, want in enumerate(logged_in(Memory(held), rule=rule).wants) if isinstance(want, Tell))
    with pytest.raises((PamMfaError, OSError)):
        logged_in(Memory(held), rule=rule, instead={number: why})


# -------------------------------------------------------------------------------------------- in the store


def keep(store: SqliteStore, *what: Notice) -> None:
    for one in what:
        do(store, Announce(Rename(ALICE, PHONE.id, "phone"), one))


def test_the_last_ones_are_kept_and_those_before_them_counted(store: SqliteStore) -> None:
    sent = [notice(about=f"key {number}", at=NOW.wall + number) for number in range(MAX_NOTICES + 3)]
    keep(store, *sent)
    found = alice(store)
    assert (found.notices, found.earlier) == (tuple(sent[3:]), 3)
    assert notices.news(found)[0] == "Second factor: 3 earlier changes are not shown."
    assert len(notices.news(found)) == MAX_NOTICES + 2


def test_what_comes_while_the_others_are_told_is_kept(store: SqliteStore) -> None:
    keep(store, *[notice(about=f"key {number}") for number in range(MAX_NOTICES + 2)])
    late = [notice(about=f"late {number}") for number in range(2)]
    count = alice(store).earlier + MAX_NOTICES
    keep(store, *late)
    do(store, Heard(ALICE, "alice", count))
    found = alice(store)
    assert (found.notices, found.earlier) == (tuple(late), 0)
    do(store, Heard(ALICE, "alice", found.heard + 2))
    assert alice(store) == account(PHONE, SHEET)


def test_who_has_the_uid_later_hears_nothing_of_who_had_it(store: SqliteStore) -> None:
    do(store, Announce(Remove(ALICE, PHONE.id), notice()), Announce(Remove(ALICE, SHEET.id), notice()))
    assert store.read(FindAccount(ALICE, "newcomer")) == Account(ALICE, "newcomer")
    do(store, Heard(ALICE, "newcomer", 9))
    assert len(alice(store).notices) == 2
    keep_for = notice(user="newcomer")
    enrol(store, replace(PHONE, user="newcomer"))
    do(store, Announce(Rename(ALICE, PHONE.id, "x"), keep_for))
    found = store.read(FindAccount(ALICE, "newcomer"))
    assert (found.notices, found.earlier) == ((keep_for,), 0)


def test_others_keep_theirs(store: SqliteStore) -> None:
    enrol(store, replace(PHONE, uid=BOB, user="bob"))
    theirs = Notice(BOB, "bob", "removed", "it", True, 1)
    do(store, Announce(Rename(BOB, PHONE.id, "x"), theirs))
    keep(store, notice())
    do(store, Heard(ALICE, "alice", 1))
    assert store.read(FindAccount(BOB, "bob")).notices == (theirs,)


@pytest.mark.parametrize("words", ["x'00'", "(SELECT words FROM notice WHERE uid = 1001)", "zeroblob(60)"])
def test_a_notice_that_was_damaged_keeps_nobody_out_and_is_told_as_something(store: SqliteStore, words: str) -> None:
    """Whoever can damage it can as well delete it."""
    enrol(store, replace(PHONE, uid=BOB, user="bob"))
    do(store, Announce(Rename(BOB, PHONE.id, "x"), Notice(BOB, "bob", "removed", "it", True, 1)))
    keep(store, notice(), notice())
    assert store._db is not None
    store._db.execute(f"UPDATE notice SET words = {words} WHERE uid = {ALICE} AND number % 2")
    world = logged_in(store)
    assert world.told == ["Second factor: something changed; by whom and when cannot be read", *TOLD]
    assert alice(store).notices == ()


def test_damage_to_a_notice_does_not_stop_who_could_mend_it(store: SqliteStore) -> None:
    keep(store, notice())
    assert store._db is not None
    store._db.execute("UPDATE notice SET words = x'00'")
    assert [change(store, verb).kinds.count("Read") > 0 for verb in ("list", "unlock")] == [True, True]
    assert [each.what for each in alice(store).notices] == ["", "unlocked"]


def test_a_word_of_a_newer_program_is_told_as_something() -> None:
    (text, _) = notices.news(replace(NEWS, notices=(notice(what="moved"),)))
    assert text == f"Second factor: something changed by root, {WHEN}"
