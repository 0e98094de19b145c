"""The driver of a flow: one event for each want, late answers are nobody's, and nothing a flow does escapes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest
from peers import Held

from pam_mfa.conversation import (
    Aborted,
    Answer,
    Ask,
    CheckPassword,
    CheckPath,
    Commit,
    Committed,
    DeviceReply,
    Expired,
    Found,
    LookUp,
    Read,
    Shown,
    Tell,
    Wait,
    expect,
)
from pam_mfa.errors import AbortedError, DeadlineError, ProtocolError, StoreError
from pam_mfa.service.channel import Channel, found, stored
from pam_mfa.store.base import FindAccount

Flow = Generator[Any, Any, Any]
ENDS: list[BaseException] = [
    ProtocolError("x"),
    RuntimeError("x"),
    SystemExit(0),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    RecursionError(),
    StopIteration("forged"),
]


class Ends(list[Any]):
    """Everything a channel finished with."""

    @property
    def one(self) -> Any:
        (end,) = self
        return end


def start(flow: Flow, backend: Held | None = None, say: Any = None) -> tuple[Channel[Any], Ends]:
    ends = Ends()
    channel: Channel[Any] = Channel(flow, backend or Held(), say or (lambda want: None), ends.append)
    channel.start()
    return channel, ends


def asks(times: int = 1) -> Flow:
    answers = []
    for number in range(times):
        answers.append(expect((yield Ask(str(number))), Answer).text)
    return answers


def test_a_flow_gets_one_event_for_each_want() -> None:
    channel, ends = start(asks(2))
    assert channel.want == Ask("0")
    channel.deliver(Answer("a"))
    assert channel.want == Ask("1")
    assert ends == []
    channel.deliver(Answer("b"))
    assert channel.want is None
    assert ends.one == ["a", "b"]


def test_what_comes_after_the_end_is_nobodys() -> None:
    channel, ends = start(asks())
    channel.deliver(Answer("a"))
    for late in (Answer("b"), Aborted(), RuntimeError()):
        channel.deliver(late)
    channel.stop(Expired())
    assert ends.one == ["a"]


def test_answers_that_come_at_once_need_no_stack() -> None:
    def many() -> Flow:
        for _ in range(50_000):
            expect((yield Tell("x")), Shown)
        return "done"

    assert start(many(), say=lambda want: Shown())[1].one == "done"

    def reads() -> Flow:
        for _ in range(20_000):
            expect((yield Read(FindAccount(1, "x"))), Found)
        return "done"

    assert start(reads())[1].one == "done"


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_whatever_a_flow_raises_is_its_end(end: BaseException) -> None:
    def raises() -> Flow:
        yield Ask("x")
        raise end

    channel, ends = start(raises())
    channel.deliver(Answer("a"))
    assert isinstance(ends.one, BaseException)
    assert channel.want is None


@pytest.mark.parametrize("problem", ENDS, ids=repr)
@pytest.mark.parametrize("where", ["read", "commit", "look_up", "check_password", "check_path", "wait", "say"])
def test_whatever_a_backend_raises_is_thrown_into_the_flow(where: str, problem: BaseException) -> None:
    def broken(*_: object) -> None:
        raise problem

    wants = {
        "read": Read(0),
        "commit": Commit(()),
        "look_up": LookUp(uid=1),
        "check_password": CheckPassword("a", "b"),
        "check_path": CheckPath(None),
        "wait": Wait(None, 1),
        "say": Ask("x"),
    }
    backend = Held()
    setattr(backend, where, broken)

    def flow() -> Flow:
        try:
            yield wants[where]
        except BaseException as caught:  # noqa: BLE001
            return ("caught", caught)

    _, ends = start(flow(), backend, say=broken)
    assert ends.one == ("caught", problem)


def test_an_exception_can_be_delivered() -> None:
    channel, ends = start(asks())
    channel.deliver(StoreError("full"))
    assert isinstance(ends.one, StoreError)


# ------------------------------------------------------------------------------------------------- late


def test_an_answer_to_a_want_that_has_ended_is_nobodys() -> None:
    backend = Held()
    backend.hold = True

    def flow() -> Flow:
        with pytest.raises(AbortedError):
            expect((yield Commit((1,))), Committed)
        return expect((yield Ask("again")), Answer).text

    backend.store.apply = lambda batch: [()]  # type: ignore[method-assign]
    channel, ends = start(flow(), backend)
    channel.deliver(Aborted())
    assert channel.want == Ask("again")
    backend.release()
    assert channel.want == Ask("again")
    channel.deliver(Answer("b"))
    assert ends.one == "b"


def test_an_answer_after_the_end_is_nobodys() -> None:
    backend = Held()
    backend.hold = True

    def flow() -> Flow:
        expect((yield Read(FindAccount(1, "x"))), Found)
        return "too late"

    channel, ends = start(flow(), backend)
    channel.stop(Expired())
    backend.release()
    assert isinstance(ends.one, DeadlineError)


def test_of_two_answers_the_first_counts() -> None:
    backend = Held()
    backend.read = lambda want, done: (done(Found(1)), done(Found(2)))  # type: ignore[method-assign, assignment]

    def flow() -> Flow:
        return [expect((yield Read(0)), Found).value, expect((yield Read(0)), Found).value]

    assert start(flow(), backend)[1].one == [1, 1]


def test_a_waits_answer_comes_whenever_it_comes() -> None:
    backend = Held()

    def flow() -> Flow:
        return expect((yield Wait("request", 30)), DeviceReply).reply

    channel, ends = start(flow(), backend)
    assert channel.wait_ends < float("inf")
    ((_, done),) = backend.waits
    done(DeviceReply("touched"))
    assert ends.one == "touched"
    assert channel.wait_ends == float("inf")


# -------------------------------------------------------------------------------------------------- stop


@pytest.mark.parametrize(("event", "end"), [(Aborted(), AbortedError), (Expired(), DeadlineError)])
def test_stopping_ends_a_flow_with_what_it_makes_of_it(event: Aborted | Expired, end: type[Exception]) -> None:
    channel, ends = start(asks())
    channel.stop(event)
    assert isinstance(ends.one, end)


def test_the_end_of_a_session_is_not_the_end_of_a_wait() -> None:
    """What would come after a wait is not even looked at when the session's time is over."""

    def waits() -> Flow:
        event = yield Wait(None, 5)
        return event

    channel, ends = start(waits())
    channel.stop(Expired())
    assert isinstance(ends.one, DeadlineError)


def test_a_flow_that_goes_on_after_its_session_has_ended_is_cut_off() -> None:
    cleaned = []

    def stubborn() -> Flow:
        try:
            while True:
                yield Ask("still here")
        finally:
            cleaned.append(True)

    channel, ends = start(stubborn())
    channel.stop(Aborted())
    assert isinstance(ends.one, ProtocolError)
    assert cleaned == [True]


@pytest.mark.parametrize("event", [Aborted(), Expired(), StoreError("x")], ids=repr)
def test_so_is_one_that_was_to_end_after_its_open_want(event: Aborted | Expired | StoreError) -> None:
    def stubborn() -> Flow:
        yield Ask("first")
        for _ in range(100):
            with suppress(Exception):
                yield Ask("still here")
        return "its own end"

    channel, ends = start(stubborn())
    channel.stop_after(event)
    assert ends == []
    channel.deliver(Answer("a"))
    assert isinstance(ends.one, ProtocolError)


@pytest.mark.parametrize("problem", [RuntimeError("x"), SystemExit(0), KeyboardInterrupt()], ids=repr)
def test_a_flow_that_fails_while_it_is_cut_off_has_ended_all_the_same(problem: BaseException) -> None:
    def stubborn() -> Flow:
        try:
            while True:
                yield Ask("still here")
        finally:
            raise problem

    channel, ends = start(stubborn())
    channel.stop(Aborted())
    assert isinstance(ends.one, BaseException)
    assert channel.want is None


def test_a_flow_that_will_not_be_cut_off_has_ended_all_the_same() -> None:
    def immortal() -> Flow:
        with suppress(GeneratorExit):
            while True:
                yield Ask("still here")
        yield Ask("and on")

    channel, ends = start(immortal())
    channel.stop(Expired())
    assert isinstance(ends.one, BaseException)
    channel.deliver(Answer("a"))
    assert len(ends) == 1


def test_a_flow_that_never_started_can_be_stopped() -> None:
    ends = Ends()
    channel: Channel[Any] = Channel(asks(), Held(), lambda want: None, ends.append)
    assert channel.want is None
    channel.stop(Aborted())
    assert isinstance(ends.one, ProtocolError)


# ------------------------------------------------------------------------------------------------- words


def test_what_a_store_gives_becomes_an_event_or_stays_an_exception() -> None:
    problem = StoreError("x")
    assert stored((1, 2)) == Committed((1, 2))
    assert stored(problem) is problem
    assert found(None) == Found(None)
    assert found(problem) is problem
