"""Who is at the other end of a Unix socket, as the kernel says; never a field of a message."""

from __future__ import annotations

import socket
import struct

_UCRED = struct.Struct("=i2I")  # struct ucred, unix(7): pid, uid, gid


def peer_uid(link: socket.socket) -> int:
    """The uid (SO_PEERCRED): of who connected, and of who listened."""
    return _peer(link)[1]


def peer_pid(link: socket.socket) -> int:
    """The process id; 0 or less for a process of another namespace."""
    return _peer(link)[0]


def _peer(link: socket.socket) -> tuple[int, int]:
    pid, uid, _ = _UCRED.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid
