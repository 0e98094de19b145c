"""One session, and the process that lives for it: the engine, driven by poll."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .. import wire
from ..audit import Log, Record, system_log
from ..peer import peer_uid
from .channel import Backend
from .direct import DirectBackend
from .ground import Base, remember, take_key
from .session import Session

if TYPE_CHECKING:
    from .broker import Broker
    from .devices import Devices, Line

SESSION_FD = 3


def one_session(role: str, sockets: Mapping[str, int], broker: Broker | None) -> int:
    """Serve the session on descriptor 3.

    Args:
        sockets: a descriptor that takes connections to this session's path checker, "verify"; it may be absent.
        broker: the way to its devices, if there is one.
    """
    base = Base("engine", take_key())
    store = base.store()
    log = system_log()
    base.ground.health = lambda: {**base.health(store), "sessions": 1, "audit_lost": 0}
    if alert := base.load_settings(store):
        log.alert(alert)
    remember(base, store)
    with socket.socket(fileno=SESSION_FD) as connection:
        link = EngineLink(connection, log, broker)
        link.backend = DirectBackend(store, link.devices, connection, sockets.get("verify"))
        link.session = _session(role, link, base)
        drive(link.session, link)
    return 0


def _session(role: str, link: EngineLink, base: Base) -> Session:
    # The C part runs for root alone, and the socket on descriptor 3 comes from that process.
    uid = peer_uid(link.connection)
    if role == "manage":
        from .manage import Management

        return Management(link, base.ground, uid)
    from .transaction import Transaction

    return Transaction(link, base.ground, uid)


class EngineLink:
    """The one connection of an engine."""

    backend: Backend

    def __init__(self, connection: socket.socket, log: Log, broker: Broker | None) -> None:
        self.connection = connection
        self.session: Session | None = None
        self.unsent: Callable[[], None] | None = None
        self.watched: dict[int, Callable[[], None]] = {}
        self._log = log
        self._broker = broker

    def devices(self) -> Devices:
        """This session's line to the broker that the C part has forked, if it could."""
        from ..factors import load
        from .devices import Devices, Pending, absent

        pending = Pending()

        def watch(line: Line, on: bool) -> None:
            self.watched = {line.fileno(): devices.readable} if on else {}
            if on:  # the broker is busy now, or a user reaches for the key
                load()

        def touch(waits: bool) -> None:
            if self.session is not None and self.session.account is not None:
                pending.change(self.session.account, 1 if waits else -1)

        devices = Devices(self._broker.connect if self._broker else absent, watch, touch)
        return devices

    def send(self, frame: bytes) -> None:
        self.connection.send(frame, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def when_writable(self, call: Callable[[], None]) -> None:
        self.unsent = call

    def record(self, record: Record, required: bool, done: Callable[[bool], None]) -> None:
        done(self._log.write(record))

    def close(self) -> None:
        """Nothing: the process ends, and its descriptors with it."""


def drive(session: Session, link: EngineLink) -> None:
    """Hand packets, room for more and the time to a session until it is over."""
    buffer = memoryview(bytearray(wire.RECEIVE_SIZE))
    connection, poll = link.connection, select.poll()
    while not session.over:
        poll.register(connection, select.POLLIN | (select.POLLOUT if link.unsent else 0))
        wait = max(0.0, session.next_tick - time.monotonic())
        occurred = _poll(poll, link.watched, None if wait == float("inf") else wait * 1000 + 1)
        events = occurred.get(connection.fileno(), 0)
        if events & select.POLLOUT and link.unsent:
            send, link.unsent = link.unsent, None
            send()
        if events & ~select.POLLOUT:
            try:
                size = connection.recv_into(buffer)
            except OSError:
                size = 0
            session.receive(buffer[:size])
            buffer[:size] = bytes(size)  # it may have held a code
        session.tick(time.monotonic())


def _poll(poll: select.poll, watched: Mapping[int, Callable[[], None]], milliseconds: float | None) -> dict[int, int]:
    """What occurs on the session's connection; what devices say goes where it belongs."""
    lines = dict(watched)
    for fd in lines:
        poll.register(fd, select.POLLIN)
    occurred = dict(poll.poll(milliseconds))
    for fd, readable in lines.items():
        poll.unregister(fd)
        if fd in occurred:
            readable()
    return occurred
