"""The login flow: every way out of it, and that nothing else than a proof or a store's plain word lets anybody in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import (
    ALICE,
    BOB,
    CODES,
    FACTORS,
    NOBODY,
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
from newcomers import from_app

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import (
    Aborted,
    Answer,
    Checked,
    Committed,
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Event,
    Expired,
    Found,
    LookedUp,
    Shown,
    Skipped,
)
from pam_mfa.errors import LookupFailed, NameMismatch, PamMfaError, StoreCorrupt, StoreError, StoreMissing, StoreSealed
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import FirstFactor, Match, Rule, Subject, Unenrolled
from pam_mfa.service.transaction import verdict_of
from pam_mfa.store.base import Tried
from pam_mfa.store.rows import DECOY_UID, Account
from pam_mfa.throttle import FREE, LIMIT, Tally

PHONE = totp()
NOW = Clock()()
RIGHT, WRONG = code_at(PHONE, NOW), wrong_for(PHONE, NOW)
LETS_IN = {Outcome.GRANTED, Outcome.EXEMPT}
ALLOW = Rule(unenrolled=Unenrolled.ALLOW)
RESCUE = Rule(exempt=True, match=Match(groups=("rescue",)))
KEY_FIRST = Rule(methods=("key", "totp", "recovery"))


def request(peer: int = 0, user: str = "alice", uid: int | None = ALICE, service: str = "sshd") -> Request:
    return Request(SESSION, peer, service, user, uid)


def run(world: World, asks: Request | None = None, rule: Rule | None = None) -> Verdict:
    """The verdict of a login, also of one that raises."""
    settings = Settings(rules=(rule or Rule(),))
    try:
        return world.run(login(asks or request(), settings, FACTORS_AND_KEY, Clock()))
    except BaseException as problem:
        if isinstance(problem, AssertionError):
            raise
        return verdict_of(problem)


# ------------------------------------------------------------------------------------------- the ways out


def test_a_right_code_is_granted_by_name() -> None:
    world = World(Memory(account(PHONE)), [RIGHT])
    assert run(world) == Verdict(Outcome.GRANTED, "proven", "totp", PHONE.id, "phone")
    assert world.kinds == ["Read", "AskSecret", "Commit"]


def test_a_recovery_code_is_granted_and_what_is_left_is_told() -> None:
    world = World(Memory(account(PHONE, recovery())), [CODES[3]])
    assert run(world).factor == "recovery"
    assert world.kinds == ["Read", "AskSecret", "Commit", "Tell"]
    assert world.told == ["Recovery code used: 9 left."]


@pytest.mark.parametrize("peer", [0, ALICE])
def test_root_asks_for_anyone_and_a_user_for_itself(peer: int) -> None:
    world = World(Memory(account(PHONE)), [RIGHT])
    assert run(world, request(peer)).outcome is Outcome.GRANTED
    assert ("LookUp" in world.kinds) is (peer != 0)


@pytest.mark.parametrize(
    ("peer", "user", "uid"),
    [
        (BOB, "alice", ALICE),  # L10: somebody else
        (BOB, "root", 0),
        (BOB, "alice", BOB),  # its own uid, another's name
        (BOB, "alice", None),
        (BOB, "bob", None),
        (NOBODY, "nobody", NOBODY),  # a uid without a name
        (0xFFFF_FFFF, "alice", ALICE),
    ],
)
def test_nobody_asks_for_somebody_else(peer: int, user: str, uid: int | None) -> None:
    world = World(Memory(account(PHONE)), [RIGHT])
    for rule in (Rule(), ALLOW, RESCUE):
        assert run(world, request(peer, user, uid), rule) == Verdict(Outcome.DENIED, "peer_denied")
    assert set(world.kinds) <= {"LookUp"}


def test_the_user_database_decides_whose_name_a_uid_is() -> None:
    world = World(Memory(account(PHONE)), [RIGHT], names={ALICE: "mallory"})
    assert run(world, request(ALICE)) == Verdict(Outcome.DENIED, "peer_denied")


@pytest.mark.parametrize("groups", [{"rescue"}, {"staff", "rescue"}])
def test_members_of_exempt_groups_are_not_asked(groups: set[str]) -> None:
    world = World(Memory(account(PHONE)), groups={"alice": groups})
    assert run(world, rule=RESCUE) == Verdict(Outcome.EXEMPT, "exempt")
    assert world.kinds == ["LookUp", "Read"]


@pytest.mark.parametrize("groups", [set(), {"staff"}, {"Rescue"}, {"rescue "}])
def test_others_are(groups: set[str]) -> None:
    world = World(Memory(account(PHONE)), [WRONG] * 3, groups={"alice": groups})
    assert run(world, rule=RESCUE) == Verdict(Outcome.TRIES_SPENT, "wrong")


def test_the_unenrolled_are_let_by_only_where_that_is_allowed() -> None:
    assert run(World(Memory()), rule=ALLOW) == Verdict(Outcome.EXEMPT, "unenrolled_allowed")
    assert run(World(Memory(), ["", "", ""])) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    assert run(World(Memory(account(PHONE)), [WRONG] * 3), rule=ALLOW).outcome is Outcome.TRIES_SPENT


@pytest.mark.parametrize(
    ("day", "told"),
    [
        (date(2023, 11, 14), "(today is the last day; "),
        (date(2023, 11, 15), "(1 day is left; "),
        (date(2023, 12, 14), "(30 days are left; "),
    ],
)
def test_up_to_a_date_the_unenrolled_get_in_and_are_told(day: date, told: str) -> None:
    world = World(Memory())
    assert run(world, rule=Rule(enrol_by=day)) == Verdict(Outcome.EXEMPT, "enrol_by")
    assert told in world.told[0]
    world = World(Memory())
    assert run(world, rule=Rule(enrol_by=day, first_factor=FirstFactor.NONE)).outcome is Outcome.EXEMPT
    assert world.told == []


def test_from_the_next_day_on_they_do_not() -> None:
    world = World(Memory(), [""] * 3)
    assert run(world, rule=Rule(enrol_by=date(2023, 11, 13))) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    for problem in (StoreError("x"), StoreMissing("x")):  # F03
        world = World(Memory(broken=problem))
        assert run(world, rule=Rule(enrol_by=date(2099, 1, 1))).outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("rule", [Rule(), ALLOW, RESCUE, Rule(exempt=True, match=Match(users=("mallory",)))])
def test_an_unknown_user_is_never_exempt_nor_granted(rule: Rule) -> None:
    """F01: not even with a code that is right for somebody."""
    world = World(Memory(account(PHONE)), [RIGHT] * 3)
    assert run(world, request(0, "mallory", None), rule) == Verdict(Outcome.TRIES_SPENT, "unenrolled")
    assert world.kinds == [*["LookUp"] * bool(rule.match.groups), "Read", *["AskSecret", "Commit"] * 3]


@pytest.mark.parametrize(("user", "uid"), [("alice", 4711), ("alice", None), ("mallory", ALICE)])
def test_groups_of_another_account_of_that_name_are_not_believed(user: str, uid: int | None) -> None:
    world = World(Memory(account(PHONE)), [RIGHT] * 3, groups={"alice": {"rescue"}})
    assert run(world, request(0, user, uid), RESCUE) == Verdict(Outcome.UNAVAILABLE, "lookup")
    assert world.kinds == ["LookUp", "BreakGlass"]


@pytest.mark.parametrize("rule", [Rule(), ALLOW, RESCUE])
@pytest.mark.parametrize("problem", [StoreError, StoreMissing, StoreCorrupt, StoreSealed, NameMismatch])
def test_a_store_that_does_not_answer_is_never_nobody_enrolled(rule: Rule, problem: type[StoreError]) -> None:
    """F04-F09."""
    world = World(Memory(broken=problem("x")), groups={"alice": {"rescue"}})
    assert run(world, rule=rule) == Verdict(Outcome.UNAVAILABLE, problem.reason)
    glass = ["BreakGlass"] * (problem is not NameMismatch)
    assert world.kinds == [*["LookUp"] * bool(rule.match.groups), "Read", *glass]


def test_a_user_database_that_does_not_answer_is_unavailable() -> None:
    world = World(Memory(), instead={0: LookupFailed("hangs")})
    assert run(world, rule=RESCUE) == Verdict(Outcome.UNAVAILABLE, "lookup")
    world = World(Memory(), instead={0: LookupFailed("hangs")})
    assert run(world, request(ALICE), ALLOW) == Verdict(Outcome.UNAVAILABLE, "lookup")


@pytest.mark.parametrize(("failures", "last", "reason"), [(FREE + 1, NOW, "waiting"), (LIMIT, NOW, "disabled")])
def test_a_right_code_is_nothing_during_a_wait_or_when_disabled(failures: int, last: Any, reason: str) -> None:
    store = Memory(account(PHONE, failures=failures, last=last))
    assert run(World(store, [RIGHT] * 3)) == Verdict(Outcome.TRIES_SPENT, reason)
    assert store.accounts[ALICE].tallies["totp"] == Tally(failures, last)


def test_a_code_works_once() -> None:
    store = Memory(account(PHONE))
    assert run(World(store, [RIGHT])).outcome is Outcome.GRANTED
    assert run(World(store, [RIGHT] * 3)) == Verdict(Outcome.TRIES_SPENT, "replayed")


def test_a_credential_that_is_removed_while_its_user_types_is_gone() -> None:
    """R16."""
    store = Memory(account(PHONE, recovery()))

    def type_late(prompt: str) -> str:
        store.accounts[ALICE] = account(recovery())
        return RIGHT

    assert run(World(store, [type_late, "", ""])).outcome is Outcome.TRIES_SPENT
    assert [attempt.uid for attempt in store.attempts[:2]] == [ALICE, DECOY_UID]


def test_another_users_code_is_wrong() -> None:
    bobs = totp("bobs", BOB, "bob", secret=b"b" * 20)
    store = Memory(account(PHONE), account(bobs, uid=BOB))
    assert run(World(store, [code_at(bobs, NOW)] * 3)) == Verdict(Outcome.TRIES_SPENT, "wrong")


def test_a_uid_under_another_name_is_unavailable() -> None:
    world = World(Memory(account(PHONE)))
    assert run(world, request(user="alicia")) == Verdict(Outcome.UNAVAILABLE, "name_mismatch")


def test_each_service_has_its_own_rule() -> None:
    settings = Settings(rules=(Rule(unenrolled=Unenrolled.ALLOW, match=Match(("su",))),))
    for service, outcome in {"su": Outcome.EXEMPT, "sudo": Outcome.TRIES_SPENT}.items():
        world = World(Memory(), ["", "", ""])
        assert world.run(login(request(service=service), settings, FACTORS, Clock())).outcome is outcome


# ------------------------------------------------------------------------- whatever goes wrong, anywhere


@dataclass
class Story:
    """A login that ends well, to be spoilt at every step."""

    ends: Outcome
    store: list[Account] = field(default_factory=list)
    asks: Request = field(default_factory=request)
    rule: Rule = field(default_factory=Rule)
    right: str | Callable[[str], str] = RIGHT
    device: list[Event] = field(default_factory=list)

    def world(self, spoilt: bool, instead: dict[int, Response]) -> World:
        answers = ["000000"] * 3 if spoilt else [self.right, "000000", "000000"]
        return World(Memory(*self.store), answers, groups={"alice": {"rescue"}}, device=self.device, instead=instead)

    def wants(self) -> list[str]:
        world = self.world(False, {})
        assert run(world, self.asks, self.rule).outcome is self.ends
        return world.kinds


KEYED = account(key(), PHONE)
STORIES = {
    "code": Story(Outcome.GRANTED, [account(PHONE)]),
    "recovery": Story(Outcome.GRANTED, [account(recovery())], right=CODES[0]),
    "own": Story(Outcome.GRANTED, [account(PHONE)], request(ALICE)),
    "group": Story(Outcome.EXEMPT, [account(PHONE)], request(ALICE), RESCUE),
    "unenrolled": Story(Outcome.EXEMPT, rule=ALLOW),
    "device": Story(Outcome.GRANTED, [KEYED], rule=KEY_FIRST, device=[DeviceTouch(), DeviceReply(key().material)]),
    "caller": Story(
        Outcome.GRANTED, [account(PHONE)], Request(SESSION, 0, "su", "bob", BOB, "alice"), Rule(subject=Subject.CALLER)
    ),
    "let in for a while": Story(Outcome.EXEMPT, rule=Rule(logins_left=2)),
    "enrols": Story(Outcome.GRANTED, rule=Rule(enrol_at_login=True), right=from_app),
    "no device": Story(Outcome.GRANTED, [KEYED], rule=KEY_FIRST, device=[DeviceTouch(), Skipped()]),
}
EVENTS: list[Any] = [
    Shown(),
    Answer("nonsense"),
    Answer(""),
    Found(None),
    Found(True),
    Committed(()),
    Committed((None,)),
    Committed((True,)),
    Committed(("accepted",)),
    Committed((Tried.WRONG,)),
    Committed((Tried.REPLAYED,)),
    Committed((Tried.WAITING,)),
    Committed((Tried.DISABLED,)),
    Committed((Tried.GONE,)),
    Committed((Tried.ACCEPTED, Tried.ACCEPTED)),
    LookedUp(None),
    LookedUp("mallory", frozenset({"staff"})),
    LookedUp("root", frozenset({"root", "wheel"}), 0),
    LookedUp("root", frozenset({"rescue"}), 0),
    Checked(True),
    DeviceTouch(),
    DeviceReply(None),
    DeviceReply(b"wrong"),
    DeviceGone("unplugged"),
    Skipped(),
    Aborted(),
    Expired(),
    None,
    True,
    Outcome.GRANTED,
    Verdict(Outcome.GRANTED, "forged"),
]
EXCEPTIONS: list[BaseException] = [
    PamMfaError("x"),
    StoreError("x"),
    LookupFailed("x"),
    RuntimeError("x"),
    MemoryError(),
    RecursionError(),
    OSError(28, "full"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    KeyboardInterrupt(),
    SystemExit(0),
    SystemExit(None),
    GeneratorExit(),
    StopIteration(Verdict(Outcome.GRANTED, "forged")),
    StopAsyncIteration(),
    AttributeError("granted"),
]
# Where such an event leads on as the story goes: it is asked for there, and its content is as good as the right one.
HARMLESS = {("Tell", "Shown"), ("About", "Shown"), ("Show", "Shown"), ("Wait", "DeviceTouch"), ("Ask", "Answer")}


def spots() -> Iterator[tuple[str, int, str]]:
    for name, story in STORIES.items():
        for number, kind in enumerate(story.wants()):
            yield name, number, kind


@pytest.mark.parametrize(("name", "number", "kind"), list(spots()))
def test_nothing_that_happens_at_any_step_lets_anybody_in(name: str, number: int, kind: str) -> None:
    """F12, F22: every event, right or wrong for the want, and every exception, in place of what was wanted."""
    story = STORIES[name]
    asked = not {"AskSecret", "Ask"}.isdisjoint(story.wants()[:number])
    for thing in (*EVENTS, *EXCEPTIONS):
        if (kind, type(thing).__name__) in HARMLESS:
            continue
        verdict = run(story.world(not asked, {number: thing}), story.asks, story.rule)
        assert verdict.outcome not in LETS_IN, thing
        assert verdict.credential is None, thing


def test_an_account_that_is_not_the_one_asked_for_lets_nobody_in() -> None:
    """A store that mixes up its rows: Bob's credential and Bob's right code, in Alice's login."""
    bobs = totp("bobs", BOB, "bob", secret=b"b" * 20)
    store = Memory(account(PHONE), account(bobs, uid=BOB))
    world = World(store, [code_at(bobs, NOW)] * 3, instead={0: Found(account(bobs, uid=BOB))})
    assert run(world).outcome is Outcome.TRIES_SPENT
