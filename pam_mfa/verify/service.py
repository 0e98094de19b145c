"""The path checker: holds what administrators trust, and has a process of its own answer each request.

What a card says is parsed in that process and nowhere else: it has its one connection, and is killed at its deadline.
`serve` for pam-mfa-verify, `serve_one` for the engine's own checker, whose process serves nobody else anyway.
"""

from __future__ import annotations

import gc
import os
import pwd
import resource
import select
import signal
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime

from ..errors import ProtocolError
from ..peer import peer_uid
from .authorities import Authorities, Directory
from .base import MAX_PACKET, SECONDS, Check
from .codec import CODEC
from .paths import check

USER = "pam-mfa"
MAX_WORKERS = 16
GRACE = 1.0  # seconds, for the listener to kill a worker before that ends itself
CRASHED = 4
DONE = 0


def serve(listener: socket.socket) -> int:
    """Serve everybody who connects and may, until the process is ended.

    Args:
        listener: listening, SOCK_SEQPACKET.
    """
    checker = Checker(Directory(), peers())
    gc.collect()
    gc.freeze()  # workers share what is here now
    listener.setblocking(False)
    while True:
        checker.turn(listener)


def serve_one(connection: socket.socket) -> int:
    """Answer one request. Its caller ends the process where that takes too long.

    Args:
        connection: of a socket pair, SOCK_SEQPACKET.
    """
    answer(connection, Directory().current())
    return DONE


def peers() -> frozenset[int]:
    """Who may ask: root, and the service that decides about logins."""
    try:
        return frozenset({0, pwd.getpwnam(USER).pw_uid})
    except KeyError:
        return frozenset({0})


def answer(connection: socket.socket, authorities: Authorities) -> None:
    """Take a request and answer it. What is none gets no answer, and neither does who leaves."""
    connection.settimeout(SECONDS)
    with suppress(OSError, ProtocolError):
        request = CODEC.decode(connection.recv(MAX_PACKET + 1))
        if isinstance(request, Check):
            connection.send(CODEC.encode(check(request, authorities, datetime.now(UTC))), socket.MSG_NOSIGNAL)


class Checker:
    """Accepts, forks, kills.

    Args:
        uids: of peers that may ask.
        seconds: that one request may take.
    """

    def __init__(self, directory: Directory, uids: Collection[int], seconds: float = SECONDS) -> None:
        self._directory = directory
        self._uids = uids
        self._seconds = seconds
        self._workers: dict[int, tuple[int, float]] = {}  # by pidfd: the pid, and when it is killed
        self._problems: tuple[str, ...] = ()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._authorities()

    def turn(self, listener: socket.socket) -> None:
        """Wait until something happens, or somebody's time is up, and deal with it.

        Args:
            listener: non-blocking.
        """
        poll = select.poll()
        for fd in self._workers:
            poll.register(fd, select.POLLIN)
        if len(self._workers) < MAX_WORKERS:
            poll.register(listener, select.POLLIN)  # others wait in the backlog
        ends = min((end for _, end in self._workers.values()), default=None)
        ready = poll.poll(None if ends is None else max(0.0, ends - time.monotonic()) * 1000 + 1)
        for fd, _ in ready:
            if fd in self._workers:
                self._reap(fd)
            else:
                self._accept(listener)
        self._kill()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it left again, or there are no descriptors just now
            return
        with connection:
            if peer_uid(connection) in self._uids:
                with suppress(OSError):  # whoever asks sees that it was hung up on
                    self._fork(connection)

    def _fork(self, connection: socket.socket) -> None:
        authorities = self._authorities()
        pid = os.fork()
        if not pid:
            _work(connection, authorities, self._seconds)
        try:
            self._workers[os.pidfd_open(pid)] = pid, time.monotonic() + self._seconds
        except OSError:  # there are no descriptors: nobody could say when it ends
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _authorities(self) -> Authorities:
        authorities = self._directory.current()
        if authorities.problems != self._problems:
            self._problems = authorities.problems
            with suppress(OSError):
                os.write(2, "".join(f"pam-mfa: left out: {problem}\n" for problem in self._problems).encode())
        return authorities

    def _reap(self, process: int) -> None:
        pid, _ = self._workers.pop(process)
        os.close(process)
        os.waitpid(pid, 0)

    def _kill(self) -> None:
        now = time.monotonic()
        for process, (_, end) in self._workers.items():
            if now >= end:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)


def _work(connection: socket.socket, authorities: Authorities, seconds: float) -> None:
    """A worker's whole life, also where nobody is left to kill it."""
    status = CRASHED
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
        own = connection.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        answer(connection, authorities)
        status = DONE
    finally:  # never back into the service's code, whatever happened
        os._exit(status)
