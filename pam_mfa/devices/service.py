"""The device service: takes requests, has helpers do them, passes on what they say. It opens no device itself.

One thread, one poll loop. `serve` for pam-mfa-device, `serve_one` for the engine's own broker.
"""

from __future__ import annotations

import importlib
import pwd
import resource
import select
import socket
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from ..peer import peer_uid
from .errand import Errand
from .helper import Child, Port, wait_at
from .hid import HidNodes
from .readers import CardReaders

USER = "pam-mfa"
MAX_ERRANDS = 32
LOOK_SECONDS = 0.25
LEAVE_SECONDS = 0.3  # for a helper to have its device cancelled
# Imported once by the service, and not in each helper.
NEEDED_BY_HELPERS = ("fido2.ctap2.pin", "pam_mfa.devices.pcsc", "pam_mfa.devices.signing")


class Source(Protocol):
    """A place where devices turn up."""

    def start(self, adopt: Callable[[Child, Callable[[bytes], None], Callable[[int], None]], None]) -> None:
        """Somebody asks: begin to look. A process that this takes is given to `Broker.adopt`."""

    def stop(self) -> None:
        """Nobody asks any more."""

    def ports(self) -> Collection[Port] | None:
        """What is there now; None while that is not known."""


def serve(listener: socket.socket) -> int:
    """Serve everybody who connects and may, until the process is ended.

    Args:
        listener: listening, SOCK_SEQPACKET.
    """
    for name in NEEDED_BY_HELPERS:
        importlib.import_module(name)
    return Broker([HidNodes(), CardReaders()], peers()).serve(listener)


def serve_one(connection: socket.socket) -> int:
    """Serve one connection to its end.

    Args:
        connection: of a socket pair, SOCK_SEQPACKET.
    """
    return Broker([HidNodes(), CardReaders()], peers()).serve_one(connection)


def peers() -> frozenset[int]:
    """Who may ask: root, and the service that decides about logins."""
    try:
        return frozenset({0, pwd.getpwnam(USER).pw_uid})
    except KeyError:
        return frozenset({0})


class Broker:
    """Requests, helpers and readiness.

    Args:
        sources: where devices turn up.
        uids: of peers that may ask.
    """

    def __init__(self, sources: Sequence[Source], uids: Collection[int]) -> None:
        self._sources = sources
        self._uids = uids
        self._errands: list[Errand] = []
        self._children: list[Child] = []
        self._deadlines: dict[Child, float] = {}
        self._waiting: dict[Port, Child] = {}
        self._lasting = False
        self._ready: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._looking = False

    def serve(self, listener: socket.socket) -> int:
        """As the function does."""
        _dump_no_core()
        listener.setblocking(False)
        self._lasting = True
        while True:
            if len(self._errands) < MAX_ERRANDS:
                self._watch(listener.fileno(), partial(self._accept, listener))
            else:
                self._forget(listener.fileno())  # it stays in the backlog
            self.turn()

    def serve_one(self, connection: socket.socket) -> int:
        """As the function does."""
        _dump_no_core()
        self._take(connection)
        self._look(time.monotonic())  # the request is there already, and nothing would wake a turn for it
        while self._errands or self._children:
            self.turn()
        return 0

    def turn(self) -> None:
        """Wait until something happens, or a look is due, and deal with it."""
        idle = not self._errands and len(self._children) == len(self._waiting)
        for fd, _ in self._poll.poll(None if idle else LOOK_SECONDS * 1000):
            if ready := self._ready.get(fd):
                ready()
        now = time.monotonic()
        self._look(now)
        self._kill(now)

    # ------------------------------------------------------------------------------------------------------ sessions

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it left again, or there are no descriptors just now
            return
        self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        if peer_uid(connection) not in self._uids:
            connection.close()
            return
        connection.setblocking(False)
        errand = Errand(connection, self)
        self._errands.append(errand)
        self._watch(connection.fileno(), errand.receive)
        errand.receive()  # mostly it asks as it comes

    def _look(self, now: float) -> None:
        found = [source.ports() for source in self._sources if self._errands]
        ports = frozenset(port for some in found for port in some or ())
        for port in self._waiting.keys() - ports if found else ():
            self._waiting.pop(port).hang_up()
        for errand in list(self._errands):
            errand.look(ports, None in found, now)
            if errand.over:
                self._errands.remove(errand)
                self._forget(errand.connection.fileno())
                errand.connection.close()
                self._keep(errand.keys)
        self._begin_or_end_looking()  # after the helpers of keys that are known already: they are what a user waits for

    def _begin_or_end_looking(self) -> None:
        asking = any(errand.asking for errand in self._errands)
        if asking is self._looking:
            return
        self._looking = asking
        for source in self._sources:
            if asking:
                source.start(self.adopt)
            else:
                source.stop()

    # ----------------------------------------------------------------------------------------------------- processes

    def at(self, port: Port) -> Child:
        """A process for the device there: one that has been waiting for this, or a new one. Raises OSError."""
        return self._waiting.pop(port, None) or wait_at(port)

    def _keep(self, keys: Sequence[Port]) -> None:
        """Have a process wait at each key that is there: forking it takes as long as a word with the key does."""
        for port in keys if self._lasting and not self._errands else ():
            with suppress(OSError):  # no more processes: the next session's time, then
                self._waiting[port] = child = wait_at(port)
                self.adopt(child, lambda _: None, partial(self._waited, port, child))

    def _waited(self, port: Port, child: Child, _: int) -> None:
        if self._waiting.get(port) is child:
            del self._waiting[port]

    def adopt(self, child: Child, heard: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        """Hand on what a child says, and its exit status; kill it soon after it was hung up on."""
        if child not in self._children:
            self._children.append(child)
        self._watch(child.connection.fileno(), partial(self._hear, child, heard))
        self._watch(child.process, partial(self._end, child, heard, ended))

    def clear(self, port: Port) -> None:
        """A login wants the device there: enrolments and lists leave it."""
        for errand in self._errands:
            errand.give_way(port)

    def reserved(self, port: Port) -> bool:
        """Whether a login is at the device there."""
        return any(errand.at(port) for errand in self._errands)

    def _hear(self, child: Child, heard: Callable[[bytes], None]) -> None:
        """All that it has said by now."""
        while packet := child.hear():
            if not child.hung_up:
                heard(packet)
        if packet == b"":
            self._forget(child.connection.fileno())

    def _end(self, child: Child, heard: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        self._hear(child, heard)
        self._forget(child.connection.fileno())
        self._forget(child.process)
        self._children.remove(child)
        self._deadlines.pop(child, None)
        ended(child.reap())

    def _kill(self, now: float) -> None:
        for child in self._children:
            if child.hung_up and now > self._deadlines.setdefault(child, now + LEAVE_SECONDS):
                child.kill()

    # ----------------------------------------------------------------------------------------------------- readiness

    def _watch(self, fd: int, ready: Callable[[], None]) -> None:
        self._ready[fd] = ready
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        if self._ready.pop(fd, None):
            self._poll.unregister(fd)


def _dump_no_core() -> None:
    """A PIN passes through this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
