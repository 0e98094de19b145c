"""Logins of users without a credential: how long they are let in, and whom they are told to call."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from flows import ALICE, BOB, Clock, Memory, World, account, totp
from newcomers import CALL, request, run

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import Ask, Committed, GlassBroken, Warn
from pam_mfa.errors import StoreError
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.policy import Entry, decide
from pam_mfa.rules import FirstFactor, Rule, Subject, Unenrolled
from pam_mfa.store.rows import Account

TODAY = date(2023, 11, 14)  # of Clock
CLOCK = Clock()


# ------------------------------------------------------------------------------------------- logins_left


def told(left: str) -> str:
    return f"Enrol a second factor with: pam-mfa enroll ({left}; from then on it is needed here)"


def test_where_no_login_can_be_counted_break_glass_counts() -> None:
    class Full(Memory):
        def apply(self, batch: Any) -> Any:
            raise StoreError("full")

    taken = GlassBroken(0, "c0ffee00", "the safe")
    settings = Settings(Rule(logins_left=3))
    world = World(Full(), ["B" * 32], glass=lambda want: taken if want.digest else GlassBroken(1))
    assert run(world, settings).factor == "break-glass"
    assert run(World(Full()), settings).outcome is Outcome.UNAVAILABLE


def test_a_number_of_logins_and_then_none() -> None:
    store, settings = Memory(), Settings(Rule(logins_left=3))
    for left in ("2 logins are left", "1 login is left", "this is the last login"):
        world = World(store)
        assert run(world, settings) == Verdict(Outcome.EXEMPT, "logins_left")
        assert world.told == [told(left)]
        assert world.kinds == ["Read", "Commit", "Tell"]  # counted before it is believed
    world = World(store, [""] * 3)
    assert run(world, settings) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    assert store.graced == {ALICE: 3}


@pytest.mark.parametrize(
    ("day", "used", "entry", "reason", "left"),
    [
        (TODAY, 0, Entry.EXEMPT, "logins_left", "today is the last day, 1 login is left"),
        (date(2023, 11, 19), 1, Entry.EXEMPT, "logins_left", "5 days are left, this is the last login"),
        (date(2023, 11, 19), 2, Entry.PROVE, "logins_left_over", ""),
        (date(2023, 11, 13), 0, Entry.PROVE, "enrol_by_over", ""),
        (date(2023, 11, 13), 2, Entry.PROVE, "enrol_by_over", ""),
    ],
)
def test_with_a_date_as_long_as_both_allow_it(day: date, used: int, entry: Entry, reason: str, left: str) -> None:
    rule = Rule(enrol_by=day, logins_left=2)
    decision = decide(rule, True, False, (), CLOCK(), used)
    assert (decision.entry, decision.reason) == (entry, reason)
    store = Memory()
    store.graced[ALICE] = used
    world = World(store, [""] * 3)
    assert (run(world, Settings(rule)).outcome is Outcome.EXEMPT) is (entry is Entry.EXEMPT)
    assert world.told == ([told(left)] if left else [])
    assert store.graced[ALICE] - used == (entry is Entry.EXEMPT)


@pytest.mark.parametrize("rule", [Rule(logins_left=0), Rule(logins_left=3, enrol_by=date(2023, 11, 13))])
def test_none_and_a_day_of_the_past_let_nobody_in(rule: Rule) -> None:
    """So a rule switches off what it would inherit."""
    assert run(World(Memory(), [""] * 3), Settings(rule)).outcome is Outcome.TRIES_SPENT
    assert decide(Rule(logins_left=3, enrol_by=TODAY), True, False).entry is Entry.PROVE  # nobody knows what day it is


def test_who_is_enrolled_or_unknown_is_asked_and_nothing_is_counted() -> None:
    settings = Settings(Rule(logins_left=3))
    for people, asks in ([account(totp())], request()), ([], request(uid=None, user="mallory")):
        store = Memory(*people)
        assert run(World(store, [""] * 3), settings, asks).outcome is Outcome.TRIES_SPENT
        assert not store.graced


def test_who_is_let_in_anyway_uses_up_none() -> None:
    store = Memory()
    for rule in Rule(logins_left=1, unenrolled=Unenrolled.ALLOW), Rule(logins_left=1, exempt=True):
        assert run(World(store), Settings(rule)).outcome is Outcome.EXEMPT
    assert not store.graced


def test_where_nothing_was_proven_before_nothing_is_told() -> None:
    world = World(Memory())
    assert run(world, Settings(Rule(logins_left=1, first_factor=FirstFactor.NONE))).outcome is Outcome.EXEMPT
    assert world.kinds == ["Read", "Commit"]


@pytest.mark.parametrize("left", [None, -1, 3, True, "2", 2.0])
def test_whoever_does_not_get_one_of_them_is_not_let_in(left: object) -> None:
    """Another login took the last one between the look and the count."""
    world = World(Memory(), instead={1: Committed((left,))})
    assert run(world, Settings(Rule(logins_left=3))) == Verdict(Outcome.UNAVAILABLE, "changed_meanwhile")
    assert world.told == []


def test_the_caller_uses_up_their_own() -> None:
    store = Memory()
    asks = request(service="su", user="bob", uid=BOB, ruser="alice")
    assert run(World(store), Settings(Rule(logins_left=1, subject=Subject.CALLER)), asks).outcome is Outcome.EXEMPT
    assert store.graced == {ALICE: 1}


# ------------------------------------------------------------------------------------------------- help


def test_whom_to_call_is_told_after_the_last_answer() -> None:
    world = World(Memory(), [""] * 3)
    assert run(world, Settings(Rule(help=CALL))) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    assert world.kinds == ["Read", *["AskSecret", "Commit"] * 3, "Warn"]
    assert world.wants[-1] == Warn(CALL)


def test_by_ssh_it_stands_in_a_prompt() -> None:
    """Nothing else is seen there of a login that is refused."""
    world = World(Memory(), [""] * 4)
    assert run(world, Settings(Rule(help=CALL)), request(service="sshd")) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    assert world.wants[-1] == Ask(f"{CALL}\nPress Enter to go on: ")


@pytest.mark.parametrize(
    ("people", "more", "asks"),
    [
        ([], {"first_factor": FirstFactor.NONE}, request()),
        ([], {}, request(uid=None, user="mallory")),
        ([account(totp())], {}, request()),
    ],
)
def test_strangers_and_the_enrolled_are_told_nothing(
    people: list[Account], more: dict[str, Any], asks: Request
) -> None:
    world = World(Memory(*people), [""] * 3)
    assert run(world, Settings(Rule(help=CALL, **more)), asks).outcome is Outcome.TRIES_SPENT
    assert world.told == []
