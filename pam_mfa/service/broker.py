"""The engine's own device broker: connections to it are descriptors, and each has a Python (native/README.md)."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import Gone

if TYPE_CHECKING:  # a code needs none of it, and pays for each import of an engine
    from .devices import Line

NODES = "/dev"
PCSCD = "/run/pcscd/pcscd.comm"


class Broker:
    """The way to it.

    Args:
        fd: over which it takes connections.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ahead: socket.socket | None = None

    def begin(self) -> None:
        """Have its Python start while ours does, where there may be a device. It waits some seconds for a request."""
        if os.path.exists(PCSCD) or any(name.startswith("hidraw") for name in os.listdir(NODES)):
            with suppress(Gone):
                self._ahead = self._connected()

    def connect(self) -> Line:
        """A line for one request. Raises Gone."""
        from ..devices.client import Client

        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if _lives(ahead):
                return Client(ahead)
            ahead.close()
        return Client(self._connected())

    def _connected(self) -> socket.socket:
        return handed_over(self._fd, "no_device_service")


def handed_over(fd: int, reason: str) -> socket.socket:
    """A connection whose other end went over `fd` to one of the engine's own processes. Raises Gone with the reason."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, suppress(OSError), socket.socket(fileno=os.dup(fd)) as channel:
        socket.send_fds(channel, [b"\0"], [theirs.fileno()], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        return ours
    ours.close()
    raise Gone(reason)


def _lives(connection: socket.socket) -> bool:
    """Whether the other end is there, which says nothing before it is asked."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)
