"""Time in a session: every wait has an end, no silence is long, and a peer that takes nothing is let go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flows import ALICE, CODES, Memory
from peers import RIGHT, WRONG, Monotonic, Peer, asking, committing, fresh, held, introduced, manager, peer, reading

from pam_mfa.conversation import Aborted
from pam_mfa.outcome import Outcome
from pam_mfa.service.transaction import GRACE_SECONDS


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


# -------------------------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("state", [fresh, introduced], ids=lambda state: state.__name__)
def test_who_does_not_introduce_itself_is_told_so_after_two_seconds(
    state: Callable[[], Peer], clock: Monotonic
) -> None:
    one = state()
    clock.sleep(1.5, one.session)
    assert not one.session.over
    clock.sleep(0.5, one.session)
    assert one.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(("service", "seconds"), [("login", 45), ("sshd", 90), ("sudo", 180), ("su", 180), ("x", 180)])
def test_a_login_takes_no_longer_than_its_service_allows(service: str, seconds: int, clock: Monotonic) -> None:
    """L13: one total deadline from the connection on, whatever the peer sends meanwhile."""
    one = peer()
    clock.sleep(1, one.session)
    one.hello(service=service)
    clock.sleep(seconds // 2, one.session)
    one.reply(WRONG)
    clock.sleep(seconds - seconds // 2 - 1.5, one.session)
    assert not one.session.over
    clock.sleep(0.5, one.session)
    assert one.outcome is Outcome.UNAVAILABLE
    assert one.link.records[0].reason == "deadline"


def test_a_management_request_takes_ten_minutes_at_most(clock: Monotonic) -> None:
    one = manager(0).request("enroll", {"uid": ALICE, "name": "alice"}, factor="totp")
    clock.sleep(599, one.session)
    assert not one.session.over
    clock.sleep(1, one.session)
    assert one.done["error"] == "unavailable"


def test_an_answer_after_the_deadline_is_not_evaluated(clock: Monotonic) -> None:
    """The loop looks at the time twice a second: who is read first must not matter."""
    one = asking()
    clock.now += 90
    one.reply(RIGHT)
    assert one.outcome is Outcome.UNAVAILABLE
    store = held(one).store
    assert isinstance(store, Memory)
    assert store.attempts == []


def test_an_answer_just_before_it_is(clock: Monotonic) -> None:
    one = asking()
    clock.now += 89.9
    assert one.reply(RIGHT).outcome is Outcome.GRANTED


def test_a_store_that_hangs_ends_the_login_soon_after_its_deadline(clock: Monotonic) -> None:
    """What is being used up is waited for, but not for ever."""
    one = committing()
    clock.sleep(89 + GRACE_SECONDS, one.session)
    assert not one.session.over
    clock.sleep(1.5, one.session)
    assert one.outcome is Outcome.UNAVAILABLE
    held(one).release()
    assert one.outcome is Outcome.UNAVAILABLE
    assert [record.reason for record in one.link.records] == ["deadline"]


def test_who_hangs_up_has_a_store_that_hangs_waited_for_no_longer(clock: Monotonic) -> None:
    one = committing()
    one.session.stop(Aborted())
    clock.sleep(GRACE_SECONDS - 0.5, one.session)
    one.session.receive(b"")
    assert not one.session.over
    clock.sleep(0.5, one.session)
    assert one.outcome is Outcome.UNAVAILABLE


def test_the_next_tick_is_never_later_than_something_to_do(clock: Monotonic) -> None:
    one = peer()
    assert one.session.next_tick == clock.now + 2
    one.hello()
    assert one.session.next_tick == clock.now + 4
    clock.sleep(88, one.session)
    assert one.session.next_tick == clock.now + 2
    one.session.receive(b"")
    assert one.session.next_tick == float("inf")


# -------------------------------------------------------------------------------------------- alive


def test_alive_comes_at_once_and_every_four_seconds_but_not_over_a_prompt(clock: Monotonic) -> None:
    one = reading()
    assert one.kinds == ["ALIVE"]
    clock.sleep(12, one.session)
    assert one.kinds == ["ALIVE"] * 4
    held(one).hold = False
    held(one).release()
    assert one.kinds == [*["ALIVE"] * 4, "ASK_SECRET"]
    clock.sleep(40, one.session)
    assert one.kinds == [*["ALIVE"] * 4, "ASK_SECRET"]
    held(one).hold = True
    one.reply(RIGHT)
    clock.sleep(8, one.session)
    assert one.kinds[5:] == ["ALIVE", "ALIVE"]


def test_no_silence_is_longer_than_four_seconds_and_a_half_after_an_answer(clock: Monotonic) -> None:
    for pause in (0.5, 1.0, 3.5, 4.0):
        one = asking()
        clock.sleep(pause, one.session)
        held(one).hold = True
        one.reply(RIGHT)
        clock.sleep(4.5, one.session)
        assert one.kinds[-1] == "ALIVE"


# ------------------------------------------------------------------------------------------ a deaf peer


def test_a_peer_that_closed_its_end_is_let_go_at_the_next_sign_of_life(clock: Monotonic) -> None:
    one = reading()
    one.link.gone = True
    clock.sleep(4, one.session)
    assert one.session.over
    assert one.link.closed == 1
    assert one.link.records[0].outcome is Outcome.UNAVAILABLE


def test_a_peer_that_leaves_signs_of_life_unread_has_until_its_deadline(clock: Monotonic) -> None:
    one = reading()
    one.link.deaf = True
    clock.sleep(89.5, one.session)
    assert not one.session.over
    clock.sleep(0.5, one.session)
    assert one.session.over
    assert one.link.closed == 1


def test_a_peer_that_takes_no_prompt_ends() -> None:
    one = reading()
    one.link.deaf = True
    held(one).release()
    assert one.session.over
    assert one.link.records[0].outcome is Outcome.UNAVAILABLE


def test_a_peer_that_takes_no_result_ends_and_is_recorded() -> None:
    one = asking()
    one.link.deaf = True
    one.reply(RIGHT)
    assert one.session.over
    assert one.link.closed == 1
    assert one.link.records[0].outcome is Outcome.GRANTED


def test_a_peer_that_misses_what_is_told_is_not_let_in() -> None:
    """The recovery code is used up, its user was not told: refused, not granted behind his back."""
    one = asking()
    held(one).hold = True
    one.reply(CODES[0])
    one.link.deaf = True
    held(one).release()
    assert one.link.records[0].outcome is Outcome.UNAVAILABLE
