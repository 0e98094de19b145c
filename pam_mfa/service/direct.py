"""Does the wants of one flow at once, one after the other: for the engine, and for root's CLI without a service."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..conversation import BreakGlass, CheckPassword, CheckPath, Commit, Event, Locate, LookUp, Read, Shown, Wait
from ..errors import LookupFailed, StoreError
from ..store.base import Store
from . import system
from .channel import Answered, Backend, Done, found, stored

if TYPE_CHECKING:  # a code needs none of it, and pays for each import of an engine
    from .devices import Devices


class DirectBackend(Backend):
    """A backend without a loop.

    Args:
        store: the process's own.
        devices: makes those of the one session that there is, when they are first wanted.
        peer: that session's connection.
        checker: descriptor that takes connections to the path checker, None where there is none.
    """

    def __init__(
        self, store: Store, devices: Callable[[], Devices], peer: socket.socket, checker: int | None = None
    ) -> None:
        self._store = store
        self._checker = checker
        self._peer = peer
        self._make = devices
        self._devices: Devices | None = None

    def read(self, want: Read, done: Done) -> None:
        try:
            value = self._store.read(want.query)  # type: ignore[arg-type]
        except StoreError as problem:
            value = problem
        done(found(value))

    def commit(self, want: Commit, done: Done) -> None:
        try:
            (results,) = self._store.apply([want.operations])  # type: ignore[list-item]
        except StoreError as problem:
            results = problem
        done(stored(results))

    def look_up(self, want: LookUp, done: Done) -> None:
        _in_thread(partial(system.look_up, want), done)

    def locate(self, want: Locate, done: Done) -> None:
        _in_thread(partial(system.locate, want, self._peer), done)

    def check_password(self, want: CheckPassword, done: Done) -> None:
        # Only root manages through the engine, and root is not asked.
        done(LookupFailed("the engine checks no passwords"))

    def check_path(self, want: CheckPath, done: Done) -> None:
        from . import paths

        done(paths.check(want, paths.passed(self._checker)))

    def break_glass(self, want: BreakGlass, done: Done) -> None:
        from . import glass

        _in_thread(partial(glass.break_glass, want), done)

    def wait(self, want: Wait, done: Done) -> None:
        if self._devices is None:
            self._devices = self._make()
        self._devices.wait(want, done)

    def hang_up(self, done: Done) -> None:
        if self._devices is not None:
            self._devices.close()
        done(Shown())


def _in_thread(work: Callable[[], Event], done: Done) -> None:
    answers: list[Answered] = []
    thread = threading.Thread(target=lambda: answers.append(_result(work)), daemon=True)
    thread.start()
    thread.join(system.LOOK_UP_SECONDS)
    done(answers[0] if answers else LookupFailed("no answer in time"))


def _result(work: Callable[[], Event]) -> Answered:
    try:
        return work()
    except BaseException as problem:  # noqa: BLE001 - whatever it is, the flow is told; a thread tells nobody
        return problem
