"""Brokers whose devices are a test's own work, done in a helper."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pam_mfa.devices.base import Assert, Make, Reply, Request, Touch, Transport, Verification, Wanted
from pam_mfa.devices.client import Client
from pam_mfa.devices.line import Line
from pam_mfa.devices.service import Broker

DEADLINE = 20.0
WANTED = Wanted("host.example", b"x")
ASSERT = Assert(bytes(32), (WANTED,), Verification.DISCOURAGED, 30)
MAKE = Make(bytes(32), "host.example", "Host", b"1", "alice", (-7,), (WANTED,), False, Verification.DISCOURAGED, 30)

Work = Callable[[Line], None]


@dataclass(frozen=True)
class Place:
    """A port where a test's own work is done."""

    name: str
    work: Work = field(compare=False)
    transport = Transport.USB

    def takes(self, request: Request) -> bool:
        """Anything."""
        return True

    def serve(self, request: Request, line: Line) -> None:
        """Do it."""
        self.work(line)


class Places:
    """Where they are."""

    def __init__(self, works: Collection[Work]) -> None:
        self._places = frozenset(Place(f"key {number}", work) for number, work in enumerate(works))

    def start(self, _: object) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def ports(self) -> frozenset[Place]:
        """All of them."""
        return self._places


def say(*replies: Reply) -> Work:
    """Work that is nothing but words."""

    def work(line: Line) -> None:
        for reply in replies:
            line.say(reply)

    return work


def touch_and_hang(line: Line) -> None:
    """As somebody who waits for a touch."""
    line.say(Touch(line.device, False))
    hang(line)


def hang(line: Line) -> None:
    """For ever: only being killed ends it."""
    while True:
        signal.pause()


class Sessions:
    """Opens sessions that ask one broker for something.

    Args:
        path: where it listens.
        broker: its process.
    """

    def __init__(self, path: Path, broker: int) -> None:
        self.broker = broker
        self._path = path
        self._clients: list[Client] = []

    def __call__(self, request: Request) -> Client:
        self._clients.append(Client(self._path))
        self._clients[-1].send(request)
        return self._clients[-1]

    def close(self) -> None:
        """All of them, and the broker."""
        os.kill(self.broker, signal.SIGTERM)
        os.waitpid(self.broker, 0)
        for client in self._clients:
            client.close()


@contextmanager
def sessions(path: Path, *works: Work) -> Iterator[Sessions]:
    """A broker, and sessions with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(path))
        door.listen()
        pid = os.fork()
        if not pid:
            try:
                Broker([Places(works)], (0,)).serve(door)
            finally:
                os._exit(1)

    found = Sessions(path, pid)
    try:
        yield found
    finally:
        found.close()


def children(pid: int) -> list[int]:
    """Process ids."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def next_of(client: Client) -> Reply | None:
    """What it hears next."""
    return readable(client)[0].receive()


def readable(*clients: Client) -> list[Client]:
    """Those of them that have something to say, once all have."""
    for client in clients:
        assert select.select([client], [], [], DEADLINE)[0]
    return list(clients)
