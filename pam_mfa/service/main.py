"""The service: builds everything once, serves until SIGTERM, reloads on SIGHUP."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from .. import factors
from ..audit import system_log
from ..conversation import Expired
from ..devices.client import Client
from ..errors import ConfigError, StoreError
from ..store.writer import Writer
from ..trail import Trail
from .ground import Base, take_key
from .loop import KINDS, LoopBackend, Server
from .notify import Notifier, from_environment

DRAIN_SECONDS = 10.0
STOP_SECONDS = 3.0
POLL_SECONDS = 0.05
# How long one thread may keep Python from the others (default 5 ms): a login waits for the writer and the audit.
SWITCH_SECONDS = 0.0005


class Service:
    """All of it. The connections to the store are left open on purpose (store/README.md).

    Args:
        loop: not running yet.
        base: key, factors, settings.
        listeners: listening sockets by name: priv, user, manage.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, base: Base, listeners: dict[str, socket.socket]) -> None:
        self._loop = loop
        self._base = base
        self._reader = base.store()
        self._writer = Writer(base.store())
        self._trail = Trail(system_log())
        self._notifier: Notifier = from_environment()
        self._stopping = False
        backend = LoopBackend(loop, self._reader, self._writer)
        self._server = Server(loop, listeners, base.ground, backend, self._trail, Client)
        base.ground.health = self._health

    def start(self) -> None:
        """Load the settings, take signals, accept."""
        self._grow()
        self._load()
        factors.load()
        self._loop.add_signal_handler(signal.SIGTERM, self._stop)
        self._loop.add_signal_handler(signal.SIGINT, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._server.start()
        self._notifier.send("READY=1")
        self._watchdog()

    def finish(self) -> None:
        """After the loop: write what waits."""
        self._writer.stop(STOP_SECONDS)
        self._trail.stop(STOP_SECONDS)

    def _grow(self) -> None:
        """Room in the log, so that a disk that fills up later locks nobody out."""
        try:
            self._base.store().prepare(self._base.factors)
        except StoreError as problem:
            self._trail.alert(f"the store cannot be used ({problem.reason}): {problem}")

    def _load(self) -> None:
        if alert := self._base.load_settings(self._reader):
            self._trail.alert(alert)
        if keep := self._base.keep(self._reader):
            try:
                self._writer.submit(keep, lambda results: None)
            except StoreError:
                return  # the store is told again at the next start or reload

    def _reload(self) -> None:
        self._notifier.reloading()
        self._load()
        self._notifier.send("READY=1")

    def _health(self) -> Mapping[str, Any]:
        return {
            **self._base.health(self._reader),
            "sessions": len(self._server.links),
            "audit_lost": self._trail.lost,
        }

    def _watchdog(self) -> None:
        if self._notifier.watchdog_seconds is not None:
            self._notifier.send("WATCHDOG=1")
            self._loop.call_later(self._notifier.watchdog_seconds, self._watchdog)

    def _stop(self) -> None:
        """Take nobody new, let those who are logging in finish, then end the rest."""
        if self._stopping:
            return
        self._stopping = True
        self._notifier.send("STOPPING=1")
        self._server.stop_accepting()
        self._loop.call_later(DRAIN_SECONDS, self._loop.stop)
        self._drain()

    def _drain(self) -> None:
        if self._server.links:
            self._loop.call_later(POLL_SECONDS, self._drain)
        else:
            self._loop.stop()

    def end_sessions(self) -> None:
        """Those who did not finish in time are told that no verdict was reached."""
        for link in [*self._server.links.values()] * 2:  # told once, a login still waits for what is being written
            if link.session is not None:
                link.session.stop(Expired())


def serve(sockets: Mapping[str, int]) -> int:
    """Run the service on listening sockets, by name; returns the exit status. Raises ConfigError for wrong names."""
    if set(sockets) != set(KINDS):
        raise ConfigError([f"the sockets must be {', '.join(KINDS)}"])
    sys.setswitchinterval(SWITCH_SECONDS)
    loop = asyncio.new_event_loop()
    listeners = {name: socket.socket(fileno=fd) for name, fd in sockets.items()}
    service = Service(loop, Base("service", take_key()), listeners)
    service.start()
    gc.collect()
    gc.freeze()  # what is here now stays: no later collection looks at it
    loop.run_forever()
    service.end_sessions()
    service.finish()
    return 0
