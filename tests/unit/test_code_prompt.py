"""The prompt that typed codes share, and how each answer is counted before it is believed."""

from __future__ import annotations

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account, code_at, recovery, totp, wrong_for

from pam_mfa.conversation import Aborted, Answer, Committed, Expired
from pam_mfa.errors import AbortedError, DeadlineError, ProtocolError, StoreError, StoreMissing
from pam_mfa.factors import code
from pam_mfa.factors.base import MAX_TRIES, Ceremony, CodeFactor, Place, comparable, settle
from pam_mfa.factors.totp import Parameters
from pam_mfa.outcome import Proof
from pam_mfa.rules import FirstFactor, Rule
from pam_mfa.store.base import Advance, Attempt, Tried
from pam_mfa.store.rows import DECOY_UID, Account
from pam_mfa.throttle import FREE, LIMIT, Tally

TOTP, RECOVERY = FACTORS["totp"], FACTORS["recovery"]
BOTH: tuple[CodeFactor, ...] = (TOTP, RECOVERY)  # type: ignore[assignment]
CODES = [char * 24 for char in "ABCDEFGHJK"]
PHONE = totp()
AGAIN = code.REFUSED + code.PROMPT
WRONG = wrong_for(PHONE, Clock()())
RIGHT = code_at(PHONE, Clock()())


def ceremony(of: Account, uid: int | None = ALICE, clock: Clock | None = None) -> Ceremony:
    return Ceremony(SESSION, uid, of, clock or Clock())


def prove(of: Account, *answers: str, factors: tuple[CodeFactor, ...] = BOTH) -> tuple[Proof | None, World, Ceremony]:
    store = Memory(of)
    world = World(store, answers)
    one = ceremony(of)
    return world.run(code.prove(one, factors)), world, one


# ------------------------------------------------------------------------------------------------- words


def test_the_words_are_printable_ascii_and_the_same_whatever_was_wrong() -> None:
    _, world, _ = prove(account(PHONE, recovery(CODES)), WRONG, "Z" * 24, "nonsense")
    assert world.asked == [code.PROMPT, AGAIN, AGAIN]
    assert world.told == []
    for text in world.asked:
        assert text.isascii()
        assert text.isprintable()


TOO_MANY = "Too many wrong answers: "
LOCKED = "totp is locked until an administrator unlocks it"


@pytest.mark.parametrize(
    ("failures", "seconds", "told"),
    [
        (FREE, 0, ""),
        (FREE + 1, 0, f"{TOO_MANY}totp counts again in 30 s. "),
        (FREE + 1, 29, f"{TOO_MANY}totp counts again in 1 s. "),
        (FREE + 1, 30, ""),
        (FREE + 3, 0, f"{TOO_MANY}totp counts again in 2 min. "),
        (FREE + 3, 1, f"{TOO_MANY}totp counts again in 119 s. "),
        (LIMIT - 1, 1, f"{TOO_MANY}totp counts again in 60 min. "),
        (LIMIT, 9999, f"{TOO_MANY}{LOCKED}. "),
    ],
)
def test_whoever_has_proven_a_first_factor_is_told_how_long_to_wait(failures: int, seconds: int, told: str) -> None:
    of = account(PHONE, failures=failures, last=Clock()())
    clock = Clock()
    clock.sleep(seconds)
    for first, expected in ((FirstFactor.STACK, told), (FirstFactor.PUBLICKEY, told), (FirstFactor.NONE, "")):
        world = World(Memory(of), [""] * MAX_TRIES)
        one = Ceremony(SESSION, ALICE, of, clock, place=Place(rule=Rule(first_factor=first)))
        world.run(code.prove(one, BOTH))
        assert world.asked[0] == f"{expected}{code.PROMPT}"
        assert first is not FirstFactor.NONE or world.asked == [code.PROMPT, AGAIN, AGAIN]


def test_a_wait_that_begins_now_is_told_at_once_and_others_are_not_concerned() -> None:
    of = account(PHONE, recovery(CODES), failures=FREE)
    _, world, _ = prove(of, WRONG, CODES[0])
    assert world.asked == [code.PROMPT, f"{code.REFUSED}{TOO_MANY}totp counts again in 30 s. {code.PROMPT}"]


def test_every_factor_of_the_prompt_is_told_of_and_no_other() -> None:
    of = account(PHONE, recovery(CODES), failures=FREE + 1, last=Clock()())
    _, world, _ = prove(of, "", "", "")
    assert world.asked[0].startswith(f"{TOO_MANY}totp counts again in 30 s, recovery counts again in 30 s. ")
    _, world, _ = prove(of, "", "", "", factors=(RECOVERY,))  # type: ignore[arg-type]
    assert world.asked[0].startswith(f"{TOO_MANY}recovery counts again in 30 s. ")


def test_nobody_is_told_of_an_account_that_cannot_get_in() -> None:
    of = account(PHONE, failures=FREE + 1, last=Clock()())
    world = World(Memory(of), [""] * MAX_TRIES)
    world.run(code.prove(ceremony(of, uid=None), BOTH))
    assert world.asked == [code.PROMPT, AGAIN, AGAIN]


@pytest.mark.parametrize("place", range(MAX_TRIES))
def test_a_right_answer_ends_the_asking(place: int) -> None:
    proof, world, one = prove(account(PHONE), *[WRONG] * place, RIGHT)
    assert proof == Proof(SESSION, ALICE, "totp", PHONE.id, "phone")
    assert len(world.asked) == place + 1
    assert one.tries == MAX_TRIES - place - 1


def test_after_three_answers_nobody_is_asked_again() -> None:
    proof, world, one = prove(account(PHONE), *[WRONG] * 3, RIGHT)
    assert proof is None
    assert len(world.asked) == 3
    assert one.tries == 0


def test_tries_are_shared_with_whoever_asked_before() -> None:
    one = ceremony(account(PHONE))
    one.tries = 1
    world = World(Memory(account(PHONE)), [WRONG])
    assert world.run(code.prove(one, BOTH)) is None
    assert len(world.asked) == 1


# ----------------------------------------------------------------------------------------- whose failure


@pytest.mark.parametrize(
    ("answer", "factor"),
    [(WRONG, "totp"), ("Z" * 24, "recovery"), ("", "totp"), ("nonsense", "totp"), ("é" * 400, "totp")],
)
def test_an_answer_counts_for_the_factor_whose_form_it_has(answer: str, factor: str) -> None:
    _, world, _ = prove(account(PHONE, recovery(CODES)), answer, RIGHT)
    (attempt,) = world.operations[0]
    assert attempt == Attempt(ALICE, factor, None, Clock()())


def test_the_order_of_methods_decides_whose_a_formless_answer_is() -> None:
    _, world, _ = prove(account(PHONE, recovery(CODES)), "", RIGHT, factors=(RECOVERY, TOTP))  # type: ignore[arg-type]
    (attempt,) = world.operations[0]
    assert isinstance(attempt, Attempt)
    assert attempt.factor == "recovery"


def test_a_method_that_is_not_offered_is_not_compared() -> None:
    proof, world, _ = prove(account(PHONE, recovery(CODES)), *[CODES[0]] * 3, factors=(TOTP,))  # type: ignore[arg-type]
    assert proof is None
    assert all(attempt.factor == "totp" and attempt.use is None for (attempt,) in world.operations)  # type: ignore[attr-defined]


def test_any_of_several_credentials_fits_and_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    phones = [totp(f"phone{n}", secret=bytes([n]) * 20) for n in range(3)]
    compared: list[bytes] = []
    real = Parameters.find

    def find(self: Parameters, answer: str, wall: int) -> int | None:
        compared.append(self.secret)
        return real(self, answer, wall)

    monkeypatch.setattr(Parameters, "find", find)
    for phone in phones:
        compared.clear()
        proof, _, _ = prove(account(*phones), code_at(phone, Clock()()))
        assert proof is not None
        assert (proof.credential, proof.label) == (phone.id, phone.label)
        assert compared == [bytes([n]) * 20 for n in range(3)]


# ------------------------------------------------------------------------------- what cannot be compared

NOT_COMPARED = {
    "unknown": (None, Account(DECOY_UID, "alice"), "unenrolled"),
    "unenrolled": (ALICE, Account(ALICE, "alice"), "unenrolled"),
    "waiting": (ALICE, account(PHONE, failures=FREE + 1, last=Clock()()), "waiting"),
    "disabled": (ALICE, account(PHONE, failures=LIMIT, last=Clock(wall=0, boot=0, boot_id="other")()), "disabled"),
    "other factor": (ALICE, account(recovery(CODES)), "wrong"),
}


@pytest.mark.parametrize("case", NOT_COMPARED)
def test_what_cannot_be_compared_is_counted_on_the_decoy_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uid, of, reason = NOT_COMPARED[case]
    compared: list[bytes] = []

    def fits_all(self: Parameters, answer: str, wall: int) -> int:
        compared.append(self.secret)
        return wall // self.period

    monkeypatch.setattr(Parameters, "find", fits_all)
    world = World(Memory(of), [RIGHT, WRONG, ""])
    one = ceremony(of, uid)
    assert world.run(code.prove(one, BOTH)) is None
    assert world.operations == [(Attempt(DECOY_UID, "totp", None, Clock()()),)] * 3
    assert compared == [Parameters.unpack(BOTH[0].decoy.material).secret] * 2
    assert one.reason == reason


def test_whoever_fails_into_a_wait_goes_on_as_a_stranger_would() -> None:
    """The sixth failure starts the wait; the answers after it cost the same and are not counted."""
    of = account(PHONE, failures=FREE, last=Clock()())
    store = Memory(of)
    world = World(store, [WRONG, RIGHT, RIGHT])
    one = ceremony(of)
    assert world.run(code.prove(one, BOTH)) is None
    assert world.kinds == ["AskSecret", "Commit"] * 3
    assert [attempt.uid for attempt in store.attempts] == [ALICE, DECOY_UID, DECOY_UID]
    assert one.reason == "waiting"
    assert store.accounts[ALICE].tallies["totp"].failures == FREE + 1


def test_a_wait_that_ends_while_its_user_types_is_no_failure() -> None:
    """An answer that was not compared is never counted, even if it could be by the time it is recorded."""
    of = account(PHONE, failures=FREE + 1, last=Clock()())
    moments = iter([Clock().wall + 29, Clock().wall + 29, *[Clock().wall + 31] * 20])
    store = Memory(of)

    def now() -> object:
        wall = next(moments)
        return Clock(wall, 5_000 + wall - Clock().wall)()

    one = Ceremony(SESSION, ALICE, of, now)  # type: ignore[arg-type]
    world = World(store, [RIGHT, RIGHT])
    assert world.run(code.prove(one, BOTH)) is not None
    assert [attempt.uid for attempt in store.attempts] == [DECOY_UID, ALICE]


def test_comparable() -> None:
    assert comparable(ceremony(account(PHONE)), "totp")
    assert comparable(ceremony(account(PHONE, failures=FREE, last=Clock()())), "totp")
    assert not comparable(ceremony(account(PHONE)), "recovery")
    assert not comparable(ceremony(account(PHONE), uid=None), "totp")
    clock = Clock()
    waiting = account(PHONE, failures=FREE + 1, last=clock())
    assert not comparable(ceremony(waiting, clock=clock), "totp")
    clock.sleep(30)
    assert comparable(ceremony(waiting, clock=clock), "totp")


# ------------------------------------------------------------------------------------------------ settle

MATCHED = (PHONE, Advance(PHONE.id, 99))


def settled(answers: tuple[object, ...], compared: bool = True, matched: object = MATCHED) -> tuple[object, World]:
    """What settle makes of the store's answers."""
    queue = list(answers)
    world = World(Memory())
    world._commit = lambda operations: queue.pop(0)  # type: ignore[method-assign, assignment, return-value]
    one = ceremony(account(PHONE))
    return world.run(settle(one, "totp", compared, matched)), world  # type: ignore[arg-type]


def test_only_accepted_makes_a_proof() -> None:
    proof, _ = settled((Committed((Tried.ACCEPTED,)),))
    assert proof == Proof(SESSION, ALICE, "totp", PHONE.id, "phone")


@pytest.mark.parametrize("tried", [tried for tried in Tried if tried is not Tried.ACCEPTED])
def test_anything_else_the_store_says_makes_none(tried: Tried) -> None:
    proof, world = settled((Committed((tried,)), Committed((Tried.ACCEPTED,))))
    assert proof is None
    uncounted = tried in (Tried.WAITING, Tried.DISABLED, Tried.GONE, Tried.TOLERATED)
    assert len(world.operations) == 1 + uncounted
    assert not uncounted or world.operations[1] == (Attempt(DECOY_UID, "totp", None, Clock()()),)


@pytest.mark.parametrize("results", [(), (None,), (True,), (1,), ("accepted",), (Tried.ACCEPTED, Tried.ACCEPTED)])
def test_a_store_that_talks_nonsense_makes_none(results: tuple[object, ...]) -> None:
    with pytest.raises((ValueError, AttributeError)):
        settled((Committed(results), Committed((Tried.ACCEPTED,))))


def test_an_answer_that_was_wrong_or_not_compared_makes_none_whatever_the_store_says() -> None:
    accepted = Committed((Tried.ACCEPTED,))
    assert settled((accepted,), matched=None)[0] is None
    assert settled((accepted,), compared=False)[0] is None


@pytest.mark.parametrize("problem", [StoreError("full"), StoreMissing("gone"), RuntimeError("a bug")])
def test_what_cannot_be_recorded_is_no_proof(problem: Exception) -> None:
    """F08: the failure that cannot be counted ends the login."""
    with pytest.raises(type(problem)):
        settled((problem,))


@pytest.mark.parametrize(
    ("event", "error"),
    [(Aborted(), AbortedError), (Expired(), DeadlineError), (Answer("x"), ProtocolError), (None, ProtocolError)],
)
def test_what_is_no_answer_of_the_store_is_no_proof(event: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        settled((event,))


def test_failures_of_this_session_are_remembered() -> None:
    of = account(PHONE)
    one = ceremony(of)
    World(Memory(of), [WRONG, WRONG, WRONG]).run(code.prove(one, BOTH))
    assert one.account.tallies["totp"] == Tally(3, Clock()())
