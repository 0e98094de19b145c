"""Drives one flow: does what it wants, one event at a time. No sockets, no loop, no asyncio."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from ..conversation import (
    Aborted,
    Alert,
    BreakGlass,
    CheckPassword,
    CheckPath,
    Commit,
    Committed,
    Event,
    Expired,
    Found,
    GlassBroken,
    HangUp,
    Locate,
    Located,
    LookUp,
    Read,
    Show,
    Shown,
    Steps,
    Tell,
    Wait,
    Want,
    Warn,
)
from ..errors import DeadlineError, PamMfaError, ProtocolError, StoreError
from ..origin import UNKNOWN

T = TypeVar("T")
Answered = Event | BaseException
Done = Callable[[Answered], bool]
"""Hands over the answer to a want; whether anybody still waited for it."""


class Backend(Protocol):
    """What a flow's wants are done with. Every method calls `done` exactly once, at once or later, on the
    thread that drives the flow, with the event or with the exception that is thrown into the flow."""

    def read(self, want: Read, done: Done) -> None: ...

    def commit(self, want: Commit, done: Done) -> None: ...

    def look_up(self, want: LookUp, done: Done) -> None: ...

    def locate(self, want: Locate, done: Done) -> None:
        """Ask logind. Where there is none nothing is known."""
        done(Located(UNKNOWN))

    def check_password(self, want: CheckPassword, done: Done) -> None: ...

    def check_path(self, want: CheckPath, done: Done) -> None: ...

    def break_glass(self, want: BreakGlass, done: Done) -> None:
        """Look for break-glass codes. Where there is no place for them there are none."""
        done(GlassBroken(0))

    def wait(self, want: Wait, done: Done) -> None:
        """The one that need not call `done`: the session ends a wait that lasts too long."""

    def hang_up(self, done: Done) -> None:
        """Let go of the devices. Where there are none nothing is to be done."""
        done(Shown())


class Channel(Generic[T]):
    """One flow and its driver.

    Args:
        flow: the generator, not yet started.
        backend: does Read, Commit, LookUp, Locate, CheckPassword, CheckPath, BreakGlass, Wait, HangUp.
        say: passes Tell, Warn, Ask, AskSecret, Show, Alert on to the peer; returns the event of what needs no
            answer, None for what the peer will answer.
        finish: called once with what the flow returned, or with the exception that ended it.
    """

    def __init__(
        self,
        flow: Steps[T],
        backend: Backend,
        say: Callable[[Want], Event | None],
        finish: Callable[[T | BaseException], None],
    ) -> None:
        self._flow = flow
        self._backend = backend
        self._say = say
        self._finish = finish
        self._want: Want | None = None
        self._since = 0.0
        self._turn = 0
        self._over = False
        self._ending: Answered | None = None

    @property
    def want(self) -> Want | None:
        """What the flow waits for; None before its start and after its end."""
        return self._want

    @property
    def wait_ends(self) -> float:
        """When the open Wait expires, on time.monotonic(); never where the flow waits for something else."""
        return self._since + self._want.seconds if isinstance(self._want, Wait) else float("inf")

    def start(self) -> None:
        """Run the flow to its first wait."""
        self._run(None)

    def deliver(self, event: Answered) -> None:
        """Answer the want that is open: an event, or an exception to throw into the flow."""
        if not self._over and self._want is not None:
            self._run(event)

    def stop(self, event: Aborted | Expired | PamMfaError) -> None:
        """End the flow's wait, whatever it is. A flow that wants something after that is cut off.

        The end of a session's time is an exception, so that no flow takes it for the end of one of its own waits.
        """
        self.deliver(_end_by(event))
        if not self._over:
            self._cut()

    def stop_after(self, event: Aborted | Expired | PamMfaError) -> None:
        """End the flow as soon as its open want is answered, and it has said what came of that.

        Nothing is written any more: a flow that can do without may still come to its own end.
        """
        self._ending = _end_by(event)

    def _last(self, want: Want) -> Answered | None:
        """The answer to a want of a flow that is to end."""
        if isinstance(want, Alert | Show | Tell | Warn):
            return self._perform(want)
        return StoreError("the session has ended") if isinstance(want, Commit) else self._ending

    def _cut(self) -> None:
        self._end(ProtocolError("the flow went on after its session had ended"))

    def _run(self, item: Answered | None) -> None:
        """Feed the flow until it waits. A loop, so that answers that come at once need no stack."""
        while True:
            self._turn += 1
            self._want = None
            try:
                want = self._flow.throw(item) if isinstance(item, BaseException) else self._flow.send(item)  # type: ignore[arg-type]
            except StopIteration as end:
                return self._end(end.value)
            except BaseException as problem:  # noqa: BLE001 - also SystemExit: nothing a flow raises may pass as a verdict
                return self._end(problem)
            self._want, self._since = want, monotonic()
            if self._ending is not None and item is self._ending:
                return self._cut()
            item = self._perform(want) if self._ending is None else self._last(want)
            if item is None:
                return

    def _perform(self, want: Want) -> Answered | None:
        answered: list[Answered] = []
        waiting = True

        def done(turn: int, event: Answered) -> bool:
            if waiting:
                answered.append(event)
                return True
            taken = turn == self._turn and self._want is not None
            if taken:  # a late answer to a want that has ended is nobody's
                self.deliver(event)
            return taken

        try:
            event = self._dispatch(want, partial(done, self._turn))
        except BaseException as problem:  # noqa: BLE001 - as above
            return problem
        finally:
            waiting = False
        return event or (answered[0] if answered else None)

    def _dispatch(self, want: Want, done: Done) -> Event | None:
        match want:
            case Read():
                self._backend.read(want, done)
            case Commit():
                self._backend.commit(want, done)
            case LookUp():
                self._backend.look_up(want, done)
            case Locate():
                self._backend.locate(want, done)
            case CheckPassword():
                self._backend.check_password(want, done)
            case CheckPath():
                self._backend.check_path(want, done)
            case BreakGlass():
                self._backend.break_glass(want, done)
            case Wait():
                self._backend.wait(want, done)
            case HangUp():
                self._backend.hang_up(done)
            case _:
                return self._say(want)
        return None

    def _end(self, result: Any) -> None:
        self._over = True
        self._want = None
        try:
            self._flow.close()
        except BaseException as problem:  # noqa: BLE001 - as above; a flow may even refuse to be closed
            result = problem
        self._finish(result)


def _end_by(event: Aborted | Expired | PamMfaError) -> Answered:
    return DeadlineError("deadline") if isinstance(event, Expired) else event


def stored(results: object) -> Answered:
    """The event for a store's answer to Commit, or the exception it gave instead."""
    return results if isinstance(results, BaseException) else Committed(tuple(results))  # type: ignore[arg-type]


def found(value: object) -> Answered:
    """The event for a store's answer to Read."""
    return value if isinstance(value, BaseException) else Found(value)
