"""What the service asks of the machine: clocks, who a peer is; and the user database and logind, which may hang."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import select
import socket
import time
from functools import cache

from ..conversation import Locate, Located, LookedUp, LookUp
from ..errors import LookupFailed
from ..origin import UNKNOWN, Facts
from ..peer import peer_pid
from ..structure import replace
from ..throttle import Instant

LOOK_UP_SECONDS = 2.0
SO_PEERPIDFD = 77  # asm-generic/socket.h since Linux 6.5; Python has no name for it


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
        entry = pwd.getpwnam(user)
    except KeyError:
        return LookedUp(None)
    names = set()
    for number in os.getgrouplist(user, entry.pw_gid):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue  # a group without a name cannot be named by a rule
    return LookedUp(user, frozenset(names), entry.pw_uid)


def locate(want: Locate, link: socket.socket) -> Located:
    """Ask logind where the process at the other end is; blocks for as long as logind's files do.

    What is not known is unknown: without libsystemd or logind, and where that process is gone.
    """
    try:
        process = _peer_process(link)
        try:
            facts = _ask_logind(peer_pid(link), want.uid)
            # An end makes it readable. While it lasts no other process has its number.
            return Located(UNKNOWN if _readable(process) else facts)
        finally:
            os.close(process)
    except OSError:
        return Located(UNKNOWN)


def _ask_logind(pid: int, uid: int | None) -> Facts:
    if pid <= 0:  # of another namespace; libsystemd would speak of ourselves
        return UNKNOWN
    from .logind import logind  # and with it ctypes and libsystemd, which a login by code does not pay for

    return replace(logind().facts(pid, uid), leader=_leader(pid))


def _leader(pid: int) -> str:
    """Pid and start, in ticks since the boot, of whoever leads a process's session (proc(5)); "" where it has ended."""
    try:
        sid = _status(pid)[3]
        return f"{sid} {_status(int(sid))[19]}"
    except OSError:
        return ""


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name, which may hold anything. Raises OSError."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _peer_process(link: socket.socket) -> int:
    """A descriptor of the peer's process. Raises OSError where it is gone."""
    try:
        return link.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as problem:
        if problem.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(peer_pid(link))


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
