"""The session's side of the device service: one connection, one request. Nothing here blocks."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import cast, get_args

from ..errors import Gone, ProtocolError
from ..peer import peer_uid
from .base import MAX_PACKET, Followup, Reply, Request
from .codec import decode, encode

PATH = "/run/pam-mfa/device.sock"
ROOT = 0
REPLIES = get_args(Reply)


class Client:
    """A connection to the device service.

    Whose socket lies at a path is the kernel's word: root made it, be it systemd or the service's own C part before it
    dropped root. Another's would be told PINs.

    Args:
        where: path of the socket, or a connection that the caller made itself.

    Raises Gone.
    """

    def __init__(self, where: str | os.PathLike[str] | socket.socket = PATH) -> None:
        self._connection = where if isinstance(where, socket.socket) else _connected(os.fspath(where))
        self._connection.setblocking(False)

    def fileno(self) -> int:
        """Readable when there is a reply, or an end. -1 once closed."""
        return self._connection.fileno()

    def send(self, structure: Request | Followup) -> None:
        """Ask, once; then what goes on with it. Raises Gone, or ProtocolError for what no packet holds."""
        packet = encode(structure)
        try:
            self._connection.send(packet, socket.MSG_NOSIGNAL)
        except OSError:
            raise Gone("device_service_gone") from None

    def receive(self) -> Reply | None:
        """The next reply, None while there is none. Raises Gone."""
        try:
            packet = self._connection.recv(MAX_PACKET + 1)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        if not packet:
            raise Gone("device_service_gone")
        with suppress(ProtocolError):
            if isinstance(reply := decode(packet), REPLIES):
                return cast(Reply, reply)
        raise Gone("device_service_nonsense")

    def close(self) -> None:
        """Hang up: what the devices do is cancelled."""
        self._connection.close()


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    try:
        connection.connect(path)
    except OSError as problem:
        connection.close()
        busy = isinstance(problem, BlockingIOError)
        raise Gone("device_service_busy" if busy else "no_device_service") from None
    if peer_uid(connection) != ROOT:
        connection.close()
        raise Gone("device_service_untrusted")
    return connection
