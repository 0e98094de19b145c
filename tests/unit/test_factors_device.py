"""A factor that waits for a device joins without a change to the core: order, touch, skip, gone, late, wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import ALICE, CODES, SESSION, Clock, Memory, World, account, code_at, recovery, totp, wrong_for

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import (
    Aborted,
    Answer,
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Event,
    Expired,
    Shown,
    Skipped,
    Wait,
)
from pam_mfa.errors import AbortedError, ProtocolError
from pam_mfa.factors.base import Ceremony
from pam_mfa.login import login, prove
from pam_mfa.outcome import Outcome, Proof, Verdict
from pam_mfa.rules import Rule
from pam_mfa.store.rows import DECOY_UID, Account
from pam_mfa.throttle import FREE

PHONE, KEY = totp(), key()
RIGHT, WRONG = code_at(PHONE, Clock()()), wrong_for(PHONE, Clock()())
TOUCHED: list[Event] = [DeviceTouch("blue key"), DeviceTouch(), DeviceReply(KEY.material)]
ALL = account(KEY, PHONE, recovery())


def run(
    methods: Sequence[str], answers: Sequence[str] = (), device: Sequence[Event] = (), of: Account = ALL
) -> tuple[Proof | None, World, Ceremony]:
    ceremony = Ceremony(SESSION, ALICE, of, Clock())
    world = World(Memory(of), answers, device=device)
    return world.run(prove(ceremony, methods, FACTORS_AND_KEY)), world, ceremony


def test_a_touched_device_proves() -> None:
    proof, world, _ = run(["key", "totp", "recovery"], device=TOUCHED)
    assert proof == Proof(SESSION, ALICE, "key", KEY.id, "blue key")
    assert world.kinds == ["Wait", "Tell", "Wait", "Tell", "Wait", "Commit"]
    assert world.asked == []
    first, *others = [want for want in world.wants if isinstance(want, Wait)]
    assert first.request == ("assert", SESSION)
    assert [other.request for other in others] == [None, None]
    assert all(want.skippable for want in (first, *others))


@pytest.mark.parametrize("end", [Skipped(), Expired(), DeviceGone("unplugged")])
@pytest.mark.parametrize("touches", [0, 1])
def test_whoever_has_no_device_at_hand_is_asked_for_a_code(end: Event, touches: int) -> None:
    proof, world, ceremony = run(["key", "totp", "recovery"], [RIGHT], [*[DeviceTouch()] * touches, end])
    assert proof is not None
    assert proof.factor == "totp"
    assert len(world.asked) == 1
    assert ceremony.tries == 2


def test_a_wrong_reply_counts_as_a_try_and_a_failure() -> None:
    proof, world, ceremony = run(["key", "totp", "recovery"], [WRONG, WRONG], [DeviceReply(b"another's signature")])
    assert proof is None
    assert len(world.asked) == 2
    assert ceremony.tries == 0
    assert [attempt.factor for (attempt,) in world.operations] == ["key", "totp", "totp"]  # type: ignore[attr-defined]


def test_codes_first_then_the_device() -> None:
    """The codes share one prompt and its three answers; a device behind them is reached only with tries left."""
    proof, world, _ = run(["totp", "recovery", "key"], [WRONG, CODES[0]])
    assert proof is not None
    assert proof.factor == "recovery"
    assert "Wait" not in world.kinds
    proof, world, _ = run(["totp", "recovery", "key"], [WRONG] * 3, TOUCHED)
    assert proof is None
    assert "Wait" not in world.kinds


def test_two_devices_one_after_the_other() -> None:
    proof, world, _ = run(["key", "key"], device=[Skipped(), DeviceReply(KEY.material)])
    assert proof is not None
    assert world.kinds == ["Wait", "Wait", "Commit"]


def test_three_wrong_replies_spend_the_tries() -> None:
    proof, world, ceremony = run(["key", "key", "key", "totp"], device=[DeviceReply(b"wrong")] * 3)
    assert proof is None
    assert ceremony.tries == 0
    assert world.asked == []


def test_a_device_without_an_answer_is_a_denial_and_spends_nothing() -> None:
    settings = Settings(policy=Rule(methods=("key",)))
    request = Request(SESSION, 0, "sudo", "alice", ALICE)
    world = World(Memory(ALL), device=[Expired()])
    verdict = world.run(login(request, settings, FACTORS_AND_KEY, Clock()))
    assert verdict.outcome is Outcome.DENIED


def test_a_device_login_from_end_to_end() -> None:
    settings = Settings(policy=Rule(methods=("key", "totp", "recovery")))
    request = Request(SESSION, 0, "sudo", "alice", ALICE)
    world = World(Memory(ALL), device=TOUCHED)
    verdict = world.run(login(request, settings, FACTORS_AND_KEY, Clock()))
    assert verdict == Verdict(Outcome.GRANTED, "proven", "key", KEY.id, "blue key")


@pytest.mark.parametrize("of", [account(), account(PHONE), account(KEY, failures=FREE + 1, last=Clock()())])
def test_a_right_reply_is_nothing_where_it_is_not_compared(of: Account) -> None:
    proof, world, _ = run(["key"], device=TOUCHED, of=of)
    assert proof is None
    assert [attempt.uid for (attempt,) in world.operations] == [DECOY_UID]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("event", "error"), [(Aborted(), AbortedError), (Answer("123456"), ProtocolError), (Shown(), ProtocolError)]
)
@pytest.mark.parametrize("touches", [0, 1])
def test_any_other_event_ends_the_flow(event: Event, error: type[Exception], touches: int) -> None:
    with pytest.raises(error):
        run(["key", "totp"], [RIGHT], [*[DeviceTouch()] * touches, event])
