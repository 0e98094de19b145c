"""One-time codes of the help desk: how they look, when they count, and where they are asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import (
    ALICE,
    BOB,
    BOOT,
    FACTORS,
    SESSION,
    Clock,
    Memory,
    World,
    account,
    code_at,
    mac,
    recovery,
    ticket,
    totp,
)
from stores import SEALER, discard, do, enrol, make

from pam_mfa.assessment import Request
from pam_mfa.cli.settings_file import check
from pam_mfa.config import Settings, parse
from pam_mfa.conversation import Skipped
from pam_mfa.errors import ConfigError, RefusedError, StoreError
from pam_mfa.factors import methods
from pam_mfa.factors.base import Ceremony, Enrolment
from pam_mfa.factors.ticket import LENGTH, LONGEST, SHORTEST, Ticket, over, usable
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import FirstFactor, Rule, Unenrolled
from pam_mfa.service.ground import Base
from pam_mfa.service.settings import InForce
from pam_mfa.store.base import Burn, Enrol, FindAccount
from pam_mfa.store.rows import DECOY_UID, Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Instant, Tally
from pam_mfa.tickets import offered

FACTOR = Ticket(mac)
NOW = Clock()()
CODE, WRONG = "T" * 16, "Z" * 16
HELD, PHONE = ticket(), totp()
PROMPT = "Verification code: "
USED = "One-time code used. Enrol with: pam-mfa enroll"
OTHER_BOOT = BOOT[:-1] + "2"
VALID = 3600


def make_one(valid: Any = VALID) -> tuple[str, Credential]:
    options = {"valid": valid}
    made = World(Memory()).run(FACTOR.enrol(Enrolment(ALICE, "alice", "ab" * 16, "it", "h", Clock(), options)))
    assert made.reveal is not None
    return str(made.reveal["code"]), made.credential


def run(
    *answers: str, of: Account | None = None, rule: Rule | None = None, now: Clock | None = None, **more: Any
) -> tuple[Verdict, World]:
    world = World(Memory(of or account(HELD)), answers, **more)
    asks = Request(SESSION, 0, "sudo", "alice", ALICE)
    rules = (rule or Rule(),)
    verdict = world.run(login(asks, Settings(rules=rules), FACTORS_AND_KEY, now or Clock()))
    return verdict, world


# ------------------------------------------------------------------------------------------------ the code


def test_four_groups_of_four_with_80_random_bits_of_which_a_hash_is_stored() -> None:
    made = [make_one() for _ in range(200)]
    assert len({code for code, _ in made}) == 200
    for code, credential in made:
        assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", code)
        plain = code.replace("-", "").encode()
        assert plain not in credential.material
        assert mac(plain) not in credential.material  # a key of its own: no recovery code's hash is ever a ticket's
        assert FACTOR.match(credential, code, NOW) == Burn(credential.id, 0)


@pytest.mark.parametrize("code", ["tttt-tttt tttt-tttt", "TTTTTTTTTTTTTTTT", " t t t t t t t t t t t t t t t t "])
def test_it_is_read_as_people_write_it(code: str) -> None:
    assert FACTOR.fits(code)
    assert FACTOR.match(HELD, code, NOW) is not None


@pytest.mark.parametrize("code", ["T" * 15, "T" * 17, "T" * 24, "T" * 32, "T" * 15 + "U", "é" * 16, "", "123456"])
def test_nothing_else_has_its_form(code: str) -> None:
    assert not FACTOR.fits(code)
    assert FACTOR.match(HELD, code, NOW) is None


@pytest.mark.parametrize("valid", [None, 0, SHORTEST - 1, LONGEST + 1, -5, True, 3600.0, "3600"])
def test_it_holds_for_a_minute_to_a_day(valid: object) -> None:
    with pytest.raises(RefusedError, match="1 minute to 24 hours"):
        make_one(valid)
    assert make_one(SHORTEST)
    assert make_one(LONGEST)


def at(wall: int, boot: int, boot_id: str = BOOT) -> Instant:
    return Instant(NOW.wall + wall, boot, boot_id)


RUNNING = NOW.boot


@pytest.mark.parametrize(
    ("now", "counts"),
    [
        (at(0, RUNNING), True),
        (at(VALID - 1, RUNNING + VALID - 1), True),
        (at(VALID, RUNNING + VALID), False),
        (at(VALID + 10**9, RUNNING + VALID + 10**9), False),
        (at(-1, RUNNING), False),  # before it was made
        (at(60, RUNNING + VALID), False),  # the clock was set back after its end (F19)
        (at(-86400, RUNNING + 60), False),
        (at(VALID, RUNNING), False),  # or forward
        (at(60, 30, OTHER_BOOT), True),
        (at(VALID, 30, OTHER_BOOT), False),
        (at(60, VALID, OTHER_BOOT), False),  # set back, and this boot is older than it may be
        (at(-1, 30, OTHER_BOOT), False),
    ],
)
def test_its_time_is_over_on_either_clock(now: Instant, counts: bool) -> None:
    assert over(HELD, now) is not counts
    assert usable(HELD, now) is counts
    assert (FACTOR.match(HELD, CODE, now) is not None) is counts


def test_a_used_one_is_not_usable() -> None:
    assert not usable(replace(HELD, mark=1), NOW)


def test_details_are_its_end_and_whether_it_was_used() -> None:
    assert FACTOR.details(HELD) == {"until": NOW.wall + VALID, "spent": False}
    assert FACTOR.details(replace(HELD, mark=1))["spent"] is True


# --------------------------------------------------------------------------------------------- in a login


def test_it_is_taken_in_every_prompt_for_codes() -> None:
    for held in (account(HELD), account(PHONE, recovery(), HELD)):
        verdict, world = run(CODE, of=held)
        assert (verdict.outcome, verdict.factor, verdict.label) == (Outcome.GRANTED, "ticket", "one-time code")
        assert world.asked == [PROMPT]
        assert world.told == [USED]


@pytest.mark.parametrize("answer", [WRONG, code_at(PHONE, NOW), "", "A" * 24])
def test_nothing_else_is_taken_for_it(answer: str) -> None:
    verdict, world = run(answer, answer, answer)
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert world.told == []


def test_it_counts_once() -> None:
    store = Memory(account(HELD))
    outcomes = []
    for _ in range(2):
        world = World(store, [CODE] * 3)
        asks = Request(SESSION, 0, "sudo", "alice", ALICE)
        outcomes.append(world.run(login(asks, Settings(), FACTORS, Clock())).outcome)
    assert outcomes == [Outcome.GRANTED, Outcome.TRIES_SPENT]


def test_its_time_is_looked_at_when_the_answer_comes() -> None:
    clock = Clock()
    world = World(Memory(account(HELD)), [lambda prompt: clock.sleep(VALID) or CODE, "", ""])  # type: ignore[func-returns-value]
    verdict = world.run(login(Request(SESSION, 0, "sudo", "alice", ALICE), Settings(), FACTORS, clock))
    assert verdict.outcome is Outcome.TRIES_SPENT


KEYS = Rule(methods=("key",))


def test_where_only_keys_are_asked_for_a_prompt_follows() -> None:
    verdict, world = run(CODE, of=account(key(), HELD), rule=KEYS, device=[Skipped()])
    assert (verdict.outcome, verdict.factor, world.asked) == (Outcome.GRANTED, "ticket", [PROMPT])


@pytest.mark.parametrize(
    ("held", "rule", "wall"),
    [
        ((key(),), KEYS, 0),
        ((key(), replace(HELD, mark=1)), KEYS, 0),
        ((key(), HELD), KEYS, VALID),
        ((key(), HELD), replace(KEYS, first_factor=FirstFactor.NONE), 0),
    ],
)
def test_nobody_else_is_asked(held: tuple[Credential, ...], rule: Rule, wall: int) -> None:
    clock = Clock()
    clock.sleep(wall)
    verdict, world = run(of=account(*held), rule=rule, device=[Skipped()], now=clock)
    assert (verdict.outcome, world.asked) == (Outcome.DENIED, [])


def test_an_account_that_does_not_exist_has_none() -> None:
    world = World(Memory(account(HELD)), [CODE] * 3)
    asks = Request(SESSION, 0, "sudo", "alice", None)
    verdict = world.run(login(asks, Settings(), FACTORS, Clock()))
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert {attempt.uid for attempt in world.store.attempts} == {DECOY_UID}  # type: ignore[attr-defined]


def test_nobody_is_not_offered_anybodys() -> None:
    assert offered(Ceremony(SESSION, ALICE, account(HELD), Clock()))
    assert not offered(Ceremony(SESSION, None, account(HELD), Clock()))


@pytest.mark.parametrize("first_factor", FirstFactor)
def test_who_has_one_is_asked_as_who_has_none(first_factor: FirstFactor) -> None:
    """R09: the same words, and the same number of transactions."""
    seen = []
    for held in (account(HELD), account(PHONE), Account(ALICE, "alice")):
        world = World(Memory(held), [WRONG] * 3)
        rule = Rule(first_factor=first_factor)
        asks = Request(SESSION, 0, "sshd", "alice", ALICE, authinfo=(b"publickey x",))
        world.run(login(asks, Settings(rule), FACTORS, Clock()))
        seen.append((world.asked, world.kinds))
    assert seen[0] == seen[1] == seen[2]


def test_who_has_nothing_else_is_not_enrolled() -> None:
    assert not account(HELD).enrolled
    assert account(HELD, recovery()).enrolled
    verdict, world = run(rule=Rule(unenrolled=Unenrolled.ALLOW))
    assert (verdict.outcome, verdict.reason, world.asked) == (Outcome.EXEMPT, "unenrolled_allowed", [])
    verdict, world = run(rule=Rule(enrol_by=date(2023, 11, 14)))
    assert (verdict.outcome, verdict.reason) == (Outcome.EXEMPT, "enrol_by")
    assert run("", "", "")[0].reason != "enrolled"


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        (FREE + 1, "one-time code counts again in 30 s. "),
        (LIMIT, "one-time code is locked until an administrator unlocks it. "),
    ],
)
def test_it_waits_like_any_other(failures: int, words: str) -> None:
    held = replace(account(HELD), tallies={"ticket": Tally(failures, NOW)})
    verdict, world = run(CODE, CODE, CODE, of=held)
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert words in world.asked[0]


# --------------------------------------------------------------------------------------------- in the store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def log_in(store: SqliteStore, *answers: Any) -> Verdict:
    world = World(store, answers)
    return world.run(login(Request(SESSION, 0, "sudo", "alice", ALICE), Settings(), FACTORS, Clock()))


def test_one_that_another_took_the_place_of_while_the_prompt_was_open(store: SqliteStore) -> None:
    """R16."""
    enrol(store, HELD)

    def late(prompt: str) -> str:
        do(store, Enrol((replace(HELD, id="0" * 32),), frozenset({"ticket"})))
        return CODE

    verdict = log_in(store, late, "", "")
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert [c.id for c in store.read(FindAccount(ALICE, "alice")).credentials] == ["0" * 32]


def test_a_new_one_does_not_wait_for_what_was_typed_for_the_one_before(store: SqliteStore) -> None:
    enrol(store, HELD)
    for _ in range(2):
        assert log_in(store, WRONG, WRONG, WRONG).outcome is Outcome.TRIES_SPENT
    do(store, Enrol((replace(HELD, id="0" * 32),), frozenset({"ticket"})))
    assert log_in(store, CODE).outcome is Outcome.GRANTED


def test_another_users_is_nobodys(store: SqliteStore) -> None:
    enrol(store, replace(HELD, uid=BOB, user="bob"))
    enrol(store, PHONE)
    assert log_in(store, CODE, CODE, CODE).outcome is Outcome.TRIES_SPENT


# ------------------------------------------------------------------------------------------------ in rules


def test_no_rule_lists_it() -> None:
    assert methods(FACTORS) == ("fido2", "smartcard", "totp", "recovery")
    with pytest.raises(ConfigError, match="methods"):
        parse("[policy]\nmethods = ['ticket']", methods(FACTORS))


def test_lengths_tell_codes_apart() -> None:
    assert LENGTH == 16
    assert not FACTORS["recovery"].fits(CODE)  # type: ignore[attr-defined]


def test_settings_that_list_it_are_refused_wherever_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[tuple[str, ...]] = []

    def choose(kept: object, names: Collection[str]) -> InForce:
        known.append(tuple(names))
        return InForce(None, "none")

    monkeypatch.setattr("pam_mfa.service.settings.choose", choose)
    base = Base("service", SEALER)
    base.load_settings(Memory(broken=StoreError("no store")))
    assert known == [methods(base.factors)]
    with pytest.raises(ConfigError):
        check("[policy]\nmethods = ['ticket']")
