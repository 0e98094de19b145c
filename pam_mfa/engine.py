"""Where the executable's Python begins: `run` is called by its C part with a role.

    service   pam-mfad: listening sockets, until it is told to stop
    engine    pam-mfa-engine: one login on descriptor 3
    manage    pam-mfa-engine --manage: one request of root's CLI on descriptor 3
    prepare   pam-mfa-engine --prepare: make or migrate the store; a step of an installation

The exit status means nothing to anybody but an administrator: only a RESULT frame is a verdict.
Imports stay inside the roles: each start pays for what it uses.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from . import wire
from .audit import Log, Record, system_log
from .errors import PamMfaError, StoreError
from .peer import peer_uid
from .service.broker import Broker
from .service.channel import Backend
from .service.direct import DirectBackend
from .service.ground import STORE, Base, take_key
from .service.session import Session
from .store.base import Store

if TYPE_CHECKING:
    from .service.devices import Devices, Line

SESSION_FD = 3


def run(role: str, sockets: Mapping[str, int]) -> int:
    """Serve in one role; returns the exit status.

    Args:
        role: see above.
        sockets: descriptors by name: the service's listening sockets, the engine's ways to its device broker and its
            path checker.
    """
    try:
        if role == "service":
            # The service speaks no TLS: asyncio does without (it asks), and the process is 6 MiB smaller.
            sys.modules["ssl"] = None  # type: ignore[assignment]
            from .service.main import serve

            return serve(sockets)
        return prepare() if role == "prepare" else one_session(role, sockets)
    except PamMfaError as problem:
        system_log().alert(f"pam-mfa {role}: {problem.reason}: {problem}")
        return 1


def one_session(role: str, sockets: Mapping[str, int]) -> int:
    """Serve the session on descriptor 3, driven by poll.

    Args:
        sockets: descriptors that take connections to this session's "devices" broker and to its path checker, "verify";
            either may be absent.
    """
    broker = Broker(sockets["devices"]) if "devices" in sockets else None
    if broker and role == "engine":
        broker.begin()
    base = Base("engine", take_key())
    store = base.store()
    log = system_log()
    base.ground.health = lambda: {**base.health(store), "sessions": 1, "audit_lost": 0}
    if alert := base.load_settings(store):
        log.alert(alert)
    _keep(base, store)
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
        from .service.manage import Management

        return Management(link, base.ground, uid)
    from .service.transaction import Transaction

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
        from .factors import load
        from .service.devices import Devices, Pending, absent

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


def prepare() -> int:
    """Make the store if there is none, bring it to this program's schema, keep the settings if they are good."""
    from .store.sqlite_setup import create, migrate

    base = Base("engine", take_key())
    if os.path.exists(STORE):
        migrate(STORE, base.sealer)
    else:
        create(STORE, base.sealer)
    store = base.store()
    store.prepare(base.factors)
    base.load_settings(store)
    _keep(base, store)
    return 0


def _keep(base: Base, store: Store) -> None:
    """Remember good settings: what was in force last is what a broken file falls back to, with or without a service."""
    with suppress(StoreError):  # a login without a store ends as it must, and says why
        if keep := base.keep(store):
            store.apply([keep])
