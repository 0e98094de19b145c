"""What the service asks of the machine: clocks, who a peer is, and the user database in threads that may hang."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
import time
from functools import cache

from ..conversation import LookedUp, LookUp
from ..errors import LookupFailed
from ..throttle import Instant

LOOK_UP_SECONDS = 2.0
_UCRED = struct.Struct("=3I")


@cache
def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def now() -> Instant:
    """This moment on both clocks."""
    return Instant(int(time.time()), int(time.clock_gettime(time.CLOCK_BOOTTIME)), _boot_id())


def look_up(want: LookUp) -> LookedUp:
    """Ask NSS; blocks for as long as NSS does. Raises LookupFailed where it fails."""
    try:
        if want.uid is not None:
            return LookedUp(_name(want.uid))
        return _groups(want.user or "")
    except OSError as problem:
        raise LookupFailed(f"user database: {problem.strerror}") from None


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _groups(user: str) -> LookedUp:
    try:
        gid = pwd.getpwnam(user).pw_gid
    except KeyError:
        return LookedUp(None)
    names = set()
    for number in os.getgrouplist(user, gid):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue  # a group without a name cannot be named by a rule
    return LookedUp(user, frozenset(names))


def peer_uid(link: socket.socket) -> int:
    """The uid of a socket's peer, as the kernel says (SO_PEERCRED)."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[1])
