"""What every session does whatever it is about: turns, replies, devices, an end from outside."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import ALICE, Memory, account
from peers import (
    PHONE,
    RIGHT,
    Held,
    Monotonic,
    Peer,
    asking,
    committing,
    fresh,
    held,
    introduced,
    manager,
    peer,
    reading,
)

from pam_mfa import wire
from pam_mfa.config import Settings
from pam_mfa.conversation import Aborted, Answer, DeviceReply, DeviceTouch, Expired, Wait
from pam_mfa.errors import StoreError
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import Rule
from pam_mfa.service.session import Session
from pam_mfa.wire import Type

DEVICE = Settings(policy=Rule(methods=("key", "totp")))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


def waiting() -> Peer:
    return Peer(backend=Held(Memory(account(key(), PHONE))), settings=DEVICE, factors=FACTORS_AND_KEY).hello()


def managing() -> Peer:
    return manager()


STATES: dict[Callable[[], Peer], set[Type]] = {
    fresh: {Type.HELLO, Type.ABORT},
    introduced: {Type.AUTHINFO, Type.ABORT},
    asking: {Type.REPLY, Type.ABORT},
    committing: {Type.ABORT},
    reading: {Type.ABORT},
    waiting: {Type.SKIP, Type.ABORT},
    managing: {Type.REQUEST},
}
HELLO = wire.encode_hello(wire.Hello(bytes(16), "sshd", "alice", ALICE))[wire.HEADER.size :]
PAYLOADS = {Type.HELLO: HELLO, Type.REPLY: RIGHT.encode(), Type.REQUEST: b'{"verb": "list"}'}


@pytest.mark.parametrize("kind", list(Type))
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_frame_out_of_turn_ends_the_session_and_lets_nobody_in(state: Callable[[], Peer], kind: Type) -> None:
    one = state()
    one.send(kind, PAYLOADS.get(kind, b""))
    if kind in STATES[state]:
        return
    held(one).release()
    if state is managing:
        assert one.done == {"ok": False, "error": "invalid", "message": one.done["message"]}
    else:
        assert one.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    "packet",
    [
        b"\x01",
        b"\x01\x02\x00",
        b"\x01\x02\x00\x00\x00",
        b"\x02\x02\x00\x00",
        b"\x01\x02\xff\xff" + RIGHT.encode(),
        b"\x01\x99\x00\x00",
        b"\x01\x00\x00\x00",
        b"\0" * 4101,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_what_is_no_frame_ends_the_session(state: Callable[[], Peer], packet: bytes) -> None:
    """L15, L16."""
    one = state()
    one.session.receive(packet)
    held(one).release()
    assert one.session.over
    assert state is managing or one.outcome is Outcome.UNAVAILABLE


def test_a_packet_may_lie_in_a_buffer_that_is_used_again() -> None:
    one, buffer = peer(), bytearray(wire.RECEIVE_SIZE)
    for frame in (wire.encode_hello(wire.Hello(bytes(16), "sshd", "alice", ALICE)), wire.encode(Type.REPLY, b"x" * 9)):
        buffer[: len(frame)] = frame
        one.session.receive(memoryview(buffer)[: len(frame)])
        buffer[:] = bytes(len(buffer))
    assert one.kinds == ["ALIVE", "ASK_SECRET", "ASK_SECRET"]


@pytest.mark.parametrize("state", [asking, committing, reading, waiting], ids=lambda state: state.__name__)
def test_giving_up(state: Callable[[], Peer]) -> None:
    one = state().send(Type.ABORT)
    held(one).release()
    assert one.outcome is Outcome.ABORTED


@pytest.mark.parametrize("state", [fresh, introduced], ids=lambda state: state.__name__)
def test_giving_up_before_it_began(state: Callable[[], Peer]) -> None:
    assert state().send(Type.ABORT).outcome is Outcome.ABORTED


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_peer_that_is_gone(state: Callable[[], Peer]) -> None:
    one = state()
    one.session.receive(b"")
    held(one).release()
    assert one.session.over
    assert one.link.closed == 1
    assert state is managing or one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)


def test_a_late_answer_of_the_store_is_nobodys() -> None:
    one = reading().send(Type.ABORT)
    assert one.outcome is Outcome.ABORTED
    frames = len(one.link.frames)
    held(one).release()
    assert len(one.link.frames) == frames
    assert one.outcome is Outcome.ABORTED


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_after_the_end_nothing_is_heard(state: Callable[[], Peer], clock: Monotonic) -> None:
    one = state()
    one.session.receive(b"")
    held(one).release()
    frames = len(one.link.frames)
    one.hello().reply(RIGHT)
    one.session.receive(b"")
    one.session.receive(b"nonsense")
    clock.sleep(700, one.session)
    one.session.stop(Expired())
    assert len(one.link.frames) == frames
    assert one.link.closed == 1
    assert len(one.link.records) <= 1


# ---------------------------------------------------------------------------------------------- replies


def test_a_reply_has_512_bytes_at_most() -> None:
    assert asking().reply("x" * 512).kinds[-1] == "ASK_SECRET"
    assert asking().reply("x" * 513).outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    "answer", [b"", b"\xff\xfe", b"\x00", RIGHT.encode() + b"\0", "１２３４５６".encode(), b"\xed\xb0\x80"]
)
def test_a_reply_in_whatever_encoding_is_a_wrong_answer(answer: bytes) -> None:
    """F16, F17: never a weaker method, never an error that tells more."""
    one = asking().reply(answer, answer, answer)
    assert one.kinds == ["ALIVE", *["ASK_SECRET"] * 3, "RESULT"]
    assert one.outcome is Outcome.TRIES_SPENT


def test_a_reply_that_was_sent_ahead_is_out_of_turn() -> None:
    one = committing().reply(RIGHT)
    held(one).release()
    assert one.outcome is Outcome.UNAVAILABLE


def test_a_reply_that_no_prompt_asked_for_never_reaches_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the flow would take it."""

    def gullible(*_: object) -> Generator[Wait, object, Verdict]:
        event = yield Wait(None, 30, skippable=True)
        return Verdict(Outcome.GRANTED if isinstance(event, Answer) else Outcome.DENIED, "whatever")

    monkeypatch.setattr("pam_mfa.service.transaction.login", gullible)
    assert peer().hello().reply(RIGHT).outcome is not Outcome.GRANTED


# ---------------------------------------------------------------------------------------------- devices


def test_a_device_may_answer_whenever_and_its_cue_can_be_skipped(clock: Monotonic) -> None:
    one = waiting()
    assert one.kinds == ["ALIVE"]
    ((want, done),) = held(one).waits
    assert want.skippable
    clock.sleep(5, one.session)
    done(DeviceTouch("blue key"))
    assert one.kinds == ["ALIVE", "ALIVE", "TELL"]
    assert one.link.frames[-1][1][0] == 1
    _, (_, again) = held(one).waits
    again(DeviceReply(key().material))
    assert one.outcome is Outcome.GRANTED


def test_a_skipped_device_leads_to_the_prompt() -> None:
    one = waiting().send(Type.SKIP)
    assert one.kinds == ["ALIVE", "ASK_SECRET"]
    ((_, done),) = held(one).waits
    done(DeviceReply(key().material))
    assert one.kinds == ["ALIVE", "ASK_SECRET"]
    assert one.reply(RIGHT).outcome is Outcome.GRANTED


def test_a_device_that_takes_too_long_leads_to_the_prompt(clock: Monotonic) -> None:
    one = waiting()
    clock.sleep(29.5, one.session)
    assert "ASK_SECRET" not in one.kinds
    clock.sleep(0.5, one.session)
    assert one.kinds[-1] == "ASK_SECRET"
    assert one.reply(RIGHT).outcome is Outcome.GRANTED


@pytest.mark.parametrize("payload", [b"x", b"\0"])
@pytest.mark.parametrize("kind", [Type.SKIP, Type.ABORT])
def test_skip_and_abort_carry_nothing(kind: Type, payload: bytes) -> None:
    assert waiting().send(kind, payload).outcome is Outcome.UNAVAILABLE


# ------------------------------------------------------------------------------------------- from outside


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("why", [Aborted(), Expired(), StoreError("x")], ids=repr)
def test_a_session_can_be_ended_from_outside(state: Callable[[], Peer], why: Aborted | Expired | StoreError) -> None:
    one = state()
    one.session.stop(why)
    held(one).release()
    assert one.session.over
    assert state is managing or one.outcome in (Outcome.UNAVAILABLE, Outcome.ABORTED)


def test_a_fault_of_ours_ends_one_session_and_escapes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem in (RuntimeError("x"), MemoryError(), RecursionError()):

        def broken(self: Session, *_: object, problem: Exception = problem) -> None:
            raise problem

        one = fresh()
        monkeypatch.setattr(Session, "_run", broken)
        assert one.hello().outcome is Outcome.UNAVAILABLE
        assert one.link.records[0].reason == f"exception_{type(problem).__name__}"


def test_ids_are_random_and_128_bits_long() -> None:
    ids = {fresh().session.id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)
