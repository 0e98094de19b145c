"""Break-glass in the login flow: where it is asked for, what it opens, and every way in which it opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from deviceflows import FACTORS_AND_KEY, Key, key
from flows import ALICE, BOB, SESSION, Clock, Memory, World, account, code_at, totp, wrong_for

from pam_mfa import break_glass
from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import Aborted, Alert, BreakGlass, Expired, GlassBroken, HangUp, Shown
from pam_mfa.enroll import Caller, Desk, enroll
from pam_mfa.errors import LookupFailed, NameMismatch, RefusedError, StoreCorrupt, StoreError, StoreMissing, StoreSealed
from pam_mfa.factors.code import PROMPT, REFUSED
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import FirstFactor, Match, Rule, Subject, Unenrolled
from pam_mfa.service.transaction import verdict_of
from pam_mfa.store.base import Attempt
from pam_mfa.throttle import Tally

CODE = "ABCD-EFGH-JKMN-PQRS-TVWX-YZ01-2345-6789"
OTHER = CODE.replace("A", "B")
PHONE = totp()
RIGHT, WRONG = code_at(PHONE, Clock()()), wrong_for(PHONE, Clock()())
GRANTED = Verdict(Outcome.GRANTED, "proven", "break-glass", "c0ffee00", "the safe")
KEY_ONLY = Rule(methods=("key",))
LOST = [Expired()] * 9  # what becomes of waiting for a key that is not there
NO_SETTINGS = Verdict(Outcome.UNAVAILABLE, "config")
BROKEN = [StoreError, StoreMissing, StoreCorrupt, StoreSealed]


@dataclass
class Drawer:
    """Where codes lie: each opens once.

    Args:
        codes: by what is typed for them, the account that they open; None: any.
    """

    codes: dict[str, str | None] = field(default_factory=lambda: {CODE: None})
    wants: list[BreakGlass] = field(default_factory=list)

    def __call__(self, want: BreakGlass) -> GlassBroken:
        self.wants.append(want)
        for code, user in self.codes.items():
            if want.digest == break_glass.digest(code.replace("-", "")) and user in (None, want.user):
                del self.codes[code]
                return GlassBroken(len(self.codes), "c0ffee00", "the safe")
        return GlassBroken(len(self.codes))


def run(
    world: World,
    rule: Rule | None = None,
    settings: bool = True,
    user: str = "alice",
    uid: int | None = ALICE,
    peer: int = 0,
    ruser: str = "",
) -> Verdict:
    """The verdict of a login, also of one that raises."""
    request = Request(SESSION, peer, "sudo", user, uid, ruser=ruser)
    try:
        return world.run(
            login(request, Settings(policy=rule or Rule()) if settings else None, FACTORS_AND_KEY, Clock())
        )
    except BaseException as problem:
        if isinstance(problem, AssertionError):
            raise
        return verdict_of(problem)


def alerts(world: World) -> list[tuple[str, bool]]:
    """What the audit trail was told, and whether loudly."""
    return [(want.reason, want.loud) for want in world.wants if isinstance(want, Alert)]


def attempts(world: World) -> list[int]:
    """Whose answers were counted."""
    return [op.uid for some in world.operations for op in some if isinstance(op, Attempt)]


# ---------------------------------------------------------------------------------- settings that are no good


def test_without_settings_a_code_opens_and_nothing_else_is_asked_of_anybody() -> None:
    world = World(Memory(broken=StoreMissing("x")), [CODE], glass=Drawer())
    assert run(world, settings=False) == GRANTED
    assert world.kinds == ["BreakGlass", "HangUp", "AskSecret", "BreakGlass", "Alert", "Tell"]
    assert world.asked == [PROMPT]
    assert alerts(world) == [("break_glass_used", True)]
    assert world.told == ["Break-glass code used: 0 left. Make a new one with: sudo pam-mfa break-glass create"]


@pytest.mark.parametrize("answers", [[OTHER] * 3, [RIGHT] * 3, ["", "é", "A" * 24], ["A" * 31, "A" * 33, f"{CODE}U"]])
def test_without_settings_three_other_answers_end_it(answers: list[str]) -> None:
    world = World(Memory(account(PHONE)), answers, glass=Drawer())
    assert run(world, settings=False) == Verdict(Outcome.TRIES_SPENT, "config")
    assert world.asked == [PROMPT, REFUSED + PROMPT, REFUSED + PROMPT]
    assert alerts(world) == [("break_glass_wrong", False)] * 3
    assert attempts(world) == []


def test_without_settings_and_without_a_code_it_is_as_ever() -> None:
    world = World(Memory(account(PHONE)), glass=Drawer({}))
    assert run(world, settings=False) == NO_SETTINGS
    assert world.kinds == ["BreakGlass"]


@pytest.mark.parametrize(
    "typed", [CODE, CODE.lower(), CODE.replace("-", ""), CODE.replace("-", " "), CODE.replace("0", "O")]
)
def test_how_a_code_may_be_typed(typed: str) -> None:
    assert run(World(Memory(), [typed], glass=Drawer()), settings=False) == GRANTED


def test_a_code_opens_once_also_after_a_wrong_one() -> None:
    drawer = Drawer({CODE: None, OTHER: None})
    assert run(World(Memory(), [WRONG, CODE], glass=drawer), settings=False) == GRANTED
    assert run(World(Memory(), [CODE] * 3, glass=drawer), settings=False).outcome is Outcome.TRIES_SPENT


# ---------------------------------------------------------------------------------- a store that does not answer


@pytest.mark.parametrize("problem", BROKEN)
def test_without_a_store_a_code_opens(problem: type[StoreError]) -> None:
    assert run(World(Memory(broken=problem("x")), [CODE], glass=Drawer())) == GRANTED


@pytest.mark.parametrize("problem", BROKEN)
@pytest.mark.parametrize("rule", [Rule(), Rule(unenrolled=Unenrolled.ALLOW), Rule(exempt=True), KEY_ONLY])
def test_without_a_store_nothing_else_does(problem: type[StoreError], rule: Rule) -> None:
    world = World(Memory(broken=problem("x")), [RIGHT, OTHER, ""], glass=Drawer())
    assert run(world, rule) == Verdict(Outcome.TRIES_SPENT, problem.reason)
    world = World(Memory(broken=problem("x")), glass=Drawer({}))
    assert run(world, rule) == Verdict(Outcome.UNAVAILABLE, problem.reason)
    assert world.asked == []


def test_a_uid_that_is_another_names_is_refused_as_ever() -> None:
    """The store has answered: the account is not who it says."""
    world = World(Memory(broken=NameMismatch("x")), glass=Drawer())
    assert run(world) == Verdict(Outcome.UNAVAILABLE, "name_mismatch")
    assert world.kinds == ["Read"]


def test_groups_that_nobody_can_say() -> None:
    rule = Rule(match=Match(groups=("staff",)))
    world = World(Memory(account(PHONE)), [CODE], glass=Drawer(), instead={0: LookupFailed("hangs")})
    request = Request(SESSION, 0, "sudo", "alice", ALICE)
    assert world.run(login(request, Settings(rules=(rule,)), FACTORS_AND_KEY, Clock())) == GRANTED


def test_a_store_that_fails_at_an_answer_leaves_the_tries_that_were_left() -> None:
    def broken(prompt: str) -> str:
        store.broken = StoreError("full")
        return RIGHT

    store = Memory(account(PHONE))
    world = World(store, [WRONG, broken, CODE], glass=Drawer())
    assert run(world) == GRANTED
    assert world.asked == [PROMPT, REFUSED + PROMPT, REFUSED + PROMPT]
    assert HangUp() in world.wants

    store = Memory(account(PHONE))
    world = World(store, [WRONG, broken, RIGHT], glass=Drawer())
    assert run(world) == Verdict(Outcome.TRIES_SPENT, "store_unavailable")
    store = Memory(account(PHONE))
    world = World(store, [WRONG, WRONG, broken], glass=Drawer())
    assert run(world) == Verdict(Outcome.UNAVAILABLE, "store_unavailable")
    assert len(world.asked) == 3


# ---------------------------------------------------------------------------------- at every prompt for codes


def test_at_the_prompt_for_codes_it_opens_without_the_store() -> None:
    world = World(Memory(account(PHONE)), [CODE], glass=Drawer())
    assert run(world) == GRANTED
    assert world.kinds == ["Read", "AskSecret", "BreakGlass", "Alert", "Tell"]


def test_a_wrong_one_there_counts_as_any_wrong_answer() -> None:
    world = World(Memory(account(PHONE)), [OTHER, RIGHT], glass=Drawer())
    assert run(world).factor == "totp"
    assert attempts(world) == [ALICE, ALICE]
    assert alerts(world) == [("break_glass_wrong", False)]


@pytest.mark.parametrize("typed", [RIGHT, WRONG, "A" * 24, "A" * 16, "", "u" * 32])
def test_what_has_not_its_form_is_looked_for_nowhere(typed: str) -> None:
    world = World(Memory(account(PHONE)), [typed] * 3, glass=Drawer())
    run(world)
    assert "BreakGlass" not in world.kinds


@pytest.mark.parametrize("failures", [9, 100])
def test_it_opens_during_a_wait_and_when_the_factor_is_disabled(failures: int) -> None:
    store = Memory(account(PHONE, failures=failures, last=Clock()()))
    assert run(World(store, [RIGHT, CODE], glass=Drawer())) == GRANTED
    assert store.accounts[ALICE].tallies["totp"] == Tally(failures, Clock()())


def test_it_opens_for_who_has_nothing_enrolled() -> None:
    assert run(World(Memory(), [CODE], glass=Drawer())) == GRANTED


def test_it_opens_where_nothing_was_proven_before() -> None:
    assert run(World(Memory(), [CODE], glass=Drawer()), Rule(first_factor=FirstFactor.NONE)) == GRANTED


# ---------------------------------------------------------------------------------- who it opens


@pytest.mark.parametrize("settings", [True, False])
@pytest.mark.parametrize("rule", [Rule(), Rule(first_factor=FirstFactor.NONE), Rule(unenrolled=Unenrolled.ALLOW)])
def test_an_account_that_does_not_exist_is_opened_by_nothing_and_takes_no_code(settings: bool, rule: Rule) -> None:
    drawer = Drawer()
    world = World(Memory(), [CODE] * 3, glass=drawer)
    assert run(world, rule, settings, user="mallory", uid=None).outcome is Outcome.TRIES_SPENT
    assert drawer.codes == {CODE: None}
    assert all(want.digest is None for want in drawer.wants)


def test_it_costs_who_does_not_exist_what_it_costs_everybody() -> None:
    kinds = []
    for uid in (ALICE, None):
        world = World(Memory(account(PHONE)), [OTHER] * 3, glass=Drawer())
        run(world, uid=uid, user="alice" if uid else "mallory")
        kinds.append(world.kinds)
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("settings", [True, False])
@pytest.mark.parametrize(("user", "uid", "opens"), [("alice", ALICE, False), ("bob", BOB, True)])
def test_a_code_that_is_for_one_account(settings: bool, user: str, uid: int, opens: bool) -> None:
    drawer = Drawer({CODE: "bob"})
    world = World(Memory(), [CODE] * 3, glass=drawer)
    assert (run(world, settings=settings, user=user, uid=uid) == GRANTED) is opens
    assert drawer.codes == ({} if opens else {CODE: "bob"})


def test_that_is_the_account_that_is_entered_whosever_factor_is_asked_for() -> None:
    world = World(Memory(account(PHONE)), [CODE], glass=Drawer({CODE: "bob"}))
    assert run(world, Rule(subject=Subject.CALLER), user="bob", uid=BOB, ruser="alice") == GRANTED


@pytest.mark.parametrize("settings", [True, False])
def test_a_user_asks_for_itself_alone(settings: bool) -> None:
    drawer = Drawer()
    world = World(Memory(), [CODE], glass=drawer)
    assert run(world, settings=settings, peer=BOB) == Verdict(Outcome.DENIED, "peer_denied")
    assert drawer.wants == []
    assert run(world, settings=settings, peer=ALICE) == GRANTED


# ---------------------------------------------------------------------------------- behind devices alone


def test_after_devices_it_is_asked_for_once() -> None:
    world = World(Memory(account(key())), [CODE], device=LOST, glass=Drawer())
    assert run(world, KEY_ONLY) == GRANTED
    assert world.asked == ["Break-glass code (Enter for none): "]
    world = World(Memory(account(key())), [OTHER], device=LOST, glass=Drawer())
    assert run(world, KEY_ONLY) == Verdict(Outcome.DENIED, "break_glass_wrong")
    assert alerts(world) == [("break_glass_wrong", False)]


def test_enter_is_no_attempt() -> None:
    world = World(Memory(account(key())), [""], device=LOST, glass=Drawer())
    assert run(world, KEY_ONLY).outcome is Outcome.DENIED
    assert alerts(world) == []


@pytest.mark.parametrize(
    ("rule", "codes"),
    [(KEY_ONLY, {}), (Rule(methods=("key",), first_factor=FirstFactor.NONE), {CODE: None})],
)
def test_where_there_is_none_and_where_strangers_ask_nothing_more_is_asked(
    rule: Rule, codes: dict[str, str | None]
) -> None:
    world = World(Memory(account(key())), device=LOST, glass=Drawer(codes))
    assert run(world, rule).outcome is Outcome.DENIED
    assert world.asked == []


def test_not_after_three_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def spend(self: Key, ceremony: Any) -> Any:
        ceremony.tries = 0
        yield from ()

    monkeypatch.setattr(Key, "prove", spend)
    world = World(Memory(account(key())), glass=Drawer())
    assert run(world, KEY_ONLY).outcome is Outcome.TRIES_SPENT
    assert world.asked == []


def test_not_where_the_device_was_right_nor_where_codes_were_asked_for() -> None:
    world = World(Memory(account(key(), PHONE)), [RIGHT], device=LOST, glass=Drawer())
    assert run(world, Rule(methods=("totp", "key"))).outcome is Outcome.GRANTED
    world = World(Memory(account(key(), PHONE)), [WRONG] * 3, device=LOST, glass=Drawer())
    assert run(world, Rule(methods=("key", "totp"))).outcome is Outcome.TRIES_SPENT
    assert "BreakGlass" not in world.kinds


# ---------------------------------------------------------------------------------- rules stay what they are


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        (Rule(exempt=True), Outcome.EXEMPT),
        (Rule(unenrolled=Unenrolled.ALLOW), Outcome.EXEMPT),
        (Rule(first_factor=FirstFactor.PUBLICKEY), Outcome.DENIED),
    ],
)
def test_who_is_let_by_or_refused_is_asked_for_none(rule: Rule, outcome: Outcome) -> None:
    world = World(Memory(), glass=Drawer())
    assert run(world, rule).outcome is outcome
    assert world.kinds == ["Read"]


def test_it_changes_no_credentials() -> None:
    """It opens a login. Who is root by that needs no proof for changes."""
    world = World(Memory(account(PHONE)), [CODE] * 3, glass=Drawer())
    desk = Desk(Caller(SESSION, ALICE, ALICE, "alice", "host"), Settings(), FACTORS_AND_KEY, Clock())
    with pytest.raises(RefusedError):
        world.run(enroll(desk, {"factor": "totp"}))
    assert "BreakGlass" not in world.kinds


# ---------------------------------------------------------------------------------- answers that are none, and ends


@pytest.mark.parametrize(
    "answer",
    [
        LookupFailed("the disk hangs"),
        GlassBroken(1),
        GlassBroken(1, None, "the safe"),
        GlassBroken(1, reason="break_glass_expired"),
        GlassBroken(1, reason="break_glass_not_taken"),
    ],
    ids=str,
)
@pytest.mark.parametrize("settings", [True, False])
def test_nothing_but_a_code_that_was_taken_proves_anything(answer: Any, settings: bool) -> None:
    first = 2 if settings else 3
    world = World(Memory(account(PHONE)), [CODE, "", ""], glass=Drawer({OTHER: None}), instead={first: answer})
    assert run(world, settings=settings).outcome is Outcome.TRIES_SPENT
    assert isinstance(world.wants[first], BreakGlass)
    reason = getattr(answer, "reason", "")
    expected = "break_glass_no_answer" if isinstance(answer, LookupFailed) else reason or "break_glass_wrong"
    assert alerts(world)[0] == (expected, False)


@pytest.mark.parametrize("answer", [Shown(), Aborted(), Expired(), RuntimeError("x")], ids=str)
@pytest.mark.parametrize("settings", [True, False])
def test_an_event_of_another_kind_ends_the_login(answer: Any, settings: bool) -> None:
    good = World(Memory(account(PHONE)), [CODE], glass=Drawer())
    assert run(good, settings=settings) == GRANTED
    for number, kind in enumerate(good.kinds):
        world = World(Memory(account(PHONE)), [CODE] * 3, glass=Drawer(), instead={number: answer})
        verdict = run(world, settings=settings)
        if answer == Shown() and kind in ("HangUp", "Alert", "Tell"):
            assert verdict == GRANTED
        else:
            assert verdict.outcome in (Outcome.UNAVAILABLE, Outcome.ABORTED), kind


def test_a_disk_that_hangs_has_no_codes() -> None:
    world = World(Memory(), glass=Drawer(), instead={0: LookupFailed("hangs")})
    assert run(world, settings=False) == NO_SETTINGS
