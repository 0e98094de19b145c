"""What one session asks of the device service. No loop: its owner says when there is something to read."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from ..conversation import DeviceGone, DeviceReply, DeviceTouch, Event, Shown, Wait
from ..devices.base import Followup, Reply, Touch
from ..errors import Gone, PamMfaError
from .channel import Done

PENDING = "/run/pam-mfa/pending"
TRIES = 4
MAX_REPLIES = 1024  # to one request: nobody plugs in that much, and while they last nobody else has a turn


class Line(Protocol):
    """A connection to the device service (devices/client.py): one request and its follow-ups."""

    def fileno(self) -> int: ...

    def send(self, structure: Any) -> None:
        """Raises ProtocolError."""

    def receive(self) -> Reply | None:
        """The next reply, None where there is none yet. Raises ProtocolError."""

    def close(self) -> None: ...


def absent() -> Line:
    """The line where there is no device service."""
    raise Gone("no_device_service")


class Devices:
    """The devices of one session.

    Args:
        connect: opens a line to the device service. Raises ProtocolError.
        watch: is told of a line and whether to call `readable` when it has something to read.
        touch: is told when the first device waits for its user, and when none does any more.
    """

    def __init__(
        self,
        connect: Callable[[], Line],
        watch: Callable[[Line, bool], None] = lambda line, on: None,
        touch: Callable[[bool], None] = lambda waits: None,
    ) -> None:
        self._connect = connect
        self._watch = watch
        self._touch = touch
        self._line: Line | None = None
        self._done: Done | None = None
        self._kept: Event | None = None
        self._replies = 0
        self._touching: set[int] = set()

    @property
    def asking(self) -> bool:
        """Whether a line is open."""
        return self._line is not None

    def wait(self, want: Wait, done: Done) -> None:
        """Begin what is wanted, or go on with it, until the next thing happens."""
        request = want.request
        if request is not None:
            try:
                self._ask(request)
            except PamMfaError as problem:
                self.close()
                done(DeviceGone(problem.reason))
                return
        if self._line is not None:
            self._done = done
            self.readable()

    def hang_up(self, done: Done) -> None:
        """Have everything cancelled."""
        self.close()
        done(Shown())

    def close(self) -> None:
        """Let go: the device service cancels whatever still runs."""
        self._tell(set())
        line, self._line, self._done, self._kept = self._line, None, None, None
        if line is not None:
            self._watch(line, False)
            line.close()

    def readable(self) -> None:
        """Give the open wait its event. What comes later stays where it is until it is waited for."""
        line, done = self._line, self._done
        if line is None or done is None:
            return
        event = self._kept or self._receive(line)
        self._watch(line, event is None)
        if event is not None:
            self._done = None
            # The wait may have ended just now, without this one being told.
            self._kept = None if done(event) else event

    def _ask(self, request: object) -> None:
        if not isinstance(request, Followup):
            self.close()
            self._line, self._replies = self._connect(), 0
        if self._line is not None:
            self._line.send(request)

    def _receive(self, line: Line) -> Event | None:
        try:
            reply = line.receive()
        except PamMfaError as problem:
            return DeviceGone(problem.reason)
        if reply is None:
            return None
        self._replies += 1
        if self._replies > MAX_REPLIES:
            return DeviceGone("device_service_nonsense")
        device = getattr(reply, "device", -1)  # Idle is about none
        if isinstance(reply, Touch):
            self._tell(self._touching | {device})
            return DeviceTouch(reply)
        self._tell(self._touching - {device})
        return DeviceReply(reply)

    def _tell(self, touching: set[int]) -> None:
        if bool(touching) != bool(self._touching):
            self._touch(bool(touching))
        self._touching = touching


class Pending:
    """Files that tell desktop notifiers whose login waits for a touch: /run/pam-mfa/pending/UID.

    Each process that has a login waiting holds a shared lock on the user's file, which ends with it however it ends; a
    file that nobody has locked is taken away by whoever waits next. A full or absent directory disturbs no login.
    """

    def __init__(self, directory: str = PENDING) -> None:
        self._directory = directory
        self._waiting: dict[int, int] = {}
        self._locked: dict[int, int] = {}

    def clear(self) -> None:
        """Take away what those who were killed have left."""
        with suppress(OSError):
            for name in os.listdir(self._directory):
                self._leave(name, os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))

    def change(self, uid: int, by: int) -> None:
        """One more (1) or one fewer (-1) login waits for that user's touch."""
        before = self._waiting.pop(uid, 0)
        if before + by:
            self._waiting[uid] = before + by
        if not before:
            self.clear()
            with suppress(OSError):
                self._locked[uid] = self._create(str(uid))
        elif uid not in self._waiting and uid in self._locked:
            self._leave(str(uid), self._locked.pop(uid))

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _create(self, name: str) -> int:
        """The file's descriptor, with its lock. Raises OSError."""
        for _ in range(TRIES):
            fd = os.open(self._path(name), os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self._path(name))):
                    return fd
            os.close(fd)  # somebody is just taking it away
        raise OSError(errno.EAGAIN, "it is taken away again and again")

    def _leave(self, name: str, fd: int) -> None:
        """Give up the lock, and the file with it where no other process has one."""
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(self._path(name))
        os.close(fd)
