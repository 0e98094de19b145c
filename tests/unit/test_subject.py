"""Whose factor is asked for, and what has to be proven before that: `subject` and `first_factor = "publickey"`."""

from __future__ import annotations

from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, account, code_at, totp
from peers import RIGHT, held, peer

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import About
from pam_mfa.errors import LookupFailed
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import FirstFactor, Match, Rule, Subject, Unenrolled
from pam_mfa.store.rows import DECOY_UID

PHONE = totp()
NOW = Clock()()


def run(world: World, asks: Request, rule: Rule) -> Verdict:
    return world.run(login(asks, Settings(rules=(rule,)), FACTORS, Clock()))


PUBLIC_KEY = (b"password", b"publickey ssh-ed25519 AAAA")


@pytest.mark.parametrize(
    ("peer", "authinfo", "outcome"),
    [
        (0, PUBLIC_KEY, Outcome.GRANTED),
        (0, (), Outcome.DENIED),
        (0, (b"password",), Outcome.DENIED),
        (ALICE, PUBLIC_KEY, Outcome.DENIED),  # who is not root has proven nothing by saying so
    ],
)
def test_where_a_public_key_comes_first_nobody_is_asked_without(
    peer: int, authinfo: tuple[bytes, ...], outcome: Outcome
) -> None:
    for term in ({}, {"exempt": True}):
        asks = Request(SESSION, peer, "sshd", "alice", ALICE, authinfo=authinfo)
        world = World(Memory(account(PHONE)), [RIGHT])
        verdict = run(world, asks, Rule(first_factor=FirstFactor.PUBLICKEY, **term))  # type: ignore[arg-type]
        if outcome is Outcome.DENIED:
            assert verdict == Verdict(Outcome.DENIED, "no_public_key")
            assert world.asked == []
        else:
            assert verdict.outcome is (Outcome.EXEMPT if term else outcome)


# ------------------------------------------------------------------------------------- whose factor it is

CALLER = Settings(rules=(Rule(subject=Subject.CALLER, match=Match(("su",))),))
BOBS = totp("bobs", BOB, "bob", secret=b"b" * 20)
BOBS_CODE = code_at(BOBS, NOW)


def become(
    answers: list[str], ruser: str = "alice", peer: int = 0, settings: Settings = CALLER, **more: Any
) -> tuple[Verdict, World]:
    """Somebody becomes bob by su."""
    service, rhost = more.pop("service", "su"), more.pop("rhost", "")
    uid = more.pop("uid", BOB)
    store = Memory(account(PHONE), account(BOBS, uid=BOB))
    world = World(store, answers, names={ALICE: "alice", BOB: "bob", 0: "root"}, **more)
    asks = Request(SESSION, peer, service, "bob" if uid else "nobody", uid, ruser, rhost)
    return world.run(login(asks, settings, FACTORS, Clock())), world


def test_who_becomes_another_proves_who_they_are() -> None:
    verdict, world = become([RIGHT])
    assert verdict == Verdict(Outcome.GRANTED, "proven", "totp", PHONE.id, "phone")
    assert world.kinds == ["LookUp", "Read", "About", "AskSecret", "Commit"]
    assert world.wants[2] == About(ALICE, "alice")


def test_the_others_code_does_not_help_and_is_counted_for_who_gave_it() -> None:
    verdict, world = become([BOBS_CODE] * 3)
    assert verdict == Verdict(Outcome.TRIES_SPENT, "wrong")
    assert [attempt.uid for attempt in world.store.attempts] == [ALICE] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "how",
    [
        {"ruser": ""},
        {"ruser": "bob"},
        {"ruser": "root"},
        {"ruser": "toor", "names": {0: "toor", BOB: "bob"}},  # root by another name
        {"service": "sudo"},
        {"rhost": "192.0.2.1"},  # rlogin: it says what the other machine says
        {"settings": Settings()},
        {"peer": BOB},  # no root: nobody believes whom it names
    ],
    ids=str,
)
def test_otherwise_it_is_the_users_own(how: dict[str, Any]) -> None:
    names = how.pop("names", {ALICE: "alice", BOB: "bob", 0: "root"})
    for answers, outcome in (([BOBS_CODE], Outcome.GRANTED), ([RIGHT] * 3, Outcome.TRIES_SPENT)):
        world = World(Memory(account(PHONE), account(BOBS, uid=BOB)), answers, names=names)
        asks = Request(
            SESSION, how.get("peer", 0), how.get("service", "su"), "bob", BOB, how.get("ruser", "alice"),
            how.get("rhost", ""),
        )  # fmt: skip
        assert world.run(login(asks, how.get("settings", CALLER), FACTORS, Clock())).outcome is outcome
        assert "About" not in world.kinds


@pytest.mark.parametrize(("ruser", "uid"), [("mallory", BOB), ("alice", None)])
def test_neither_an_unknown_caller_nor_an_unknown_account_gets_anywhere(ruser: str, uid: int | None) -> None:
    for term in ({}, {"exempt": True}, {"unenrolled": Unenrolled.ALLOW}):
        settings = Settings(rules=(Rule(subject=Subject.CALLER, **term),))
        verdict, world = become([RIGHT, BOBS_CODE, RIGHT], ruser, settings=settings, uid=uid)
        assert verdict.outcome is Outcome.TRIES_SPENT
        assert {attempt.uid for attempt in world.store.attempts} == {DECOY_UID}  # type: ignore[attr-defined]


def test_a_caller_without_credentials_is_what_the_rule_is_about() -> None:
    allow = Settings(rules=(Rule(subject=Subject.CALLER, unenrolled=Unenrolled.ALLOW),))
    for settings, outcome in ((allow, Outcome.EXEMPT), (CALLER, Outcome.TRIES_SPENT)):
        world = World(Memory(account(BOBS, uid=BOB)), [BOBS_CODE] * 3, names={ALICE: "alice", BOB: "bob"})
        asks = Request(SESSION, 0, "su", "bob", BOB, "alice")
        assert world.run(login(asks, settings, FACTORS, Clock())).outcome is outcome


@pytest.mark.parametrize(("subject", "source"), [(Subject.CALLER, ""), (Subject.USER, "~alice")])
def test_callers_prove_their_own_at_this_host_and_others_as_who_they_are(subject: Subject, source: str) -> None:
    """What somebody guesses of another's is not counted as that user's own mistakes (R03)."""
    verdict, world = become([RIGHT, BOBS_CODE, RIGHT], settings=Settings(rules=(Rule(subject=subject),)))
    assert verdict.outcome is Outcome.GRANTED
    assert {attempt.source for attempt in world.store.attempts} == {source}  # type: ignore[attr-defined]


def test_a_user_database_that_does_not_know_the_caller_is_no_way_in() -> None:
    with pytest.raises(LookupFailed):
        become([RIGHT], instead={0: LookupFailed("hangs")})


def test_the_subject_is_who_waits_for_a_touch_and_stands_in_every_record() -> None:
    settings = Settings(rules=(Rule(subject=Subject.CALLER, match=Match(("su",))),))
    one = peer(settings=settings)
    held(one).names = {ALICE: "alice", BOB: "bob"}
    one.hello("bob", BOB, service="su", ruser="alice")
    assert one.session.account == ALICE
    one.reply(RIGHT)
    (record,) = one.link.records
    assert (record.user, record.uid, record.subject, record.outcome) == ("bob", BOB, "alice", Outcome.GRANTED)
    assert peer().hello(ruser="mallory").session.account == ALICE
