"""Whether the one who logs in sits at this machine. Pure; the first of five rules that fits decides.

A remote session is never offered this host's own USB port or card reader. So every doubt is "remote", rhost
only ever makes a session remote, whatever it says, and nothing that the user can set in the environment
(XDG_SEAT, SSH_TTY, DISPLAY) is looked at. What logind knows is asked by service/logind.py.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from .structure import structure

VIRTUAL_CONSOLE = re.compile(r"(?:/dev/)?tty(?:[1-9]|[1-5][0-9]|6[0-3])", re.ASCII)
HERE = ""
# IPv4 in IPv6: RFC 4291 section 2.5.5.2 and RFC 6052 section 2.1; RFC 8215.
IPV4_WITHIN = bytes(10) + b"\xff\xff", b"\x00\x64\xff\x9b" + bytes(8)
TRANSLATED = b"\x00\x64\xff\x9b\x00\x01"
DISPLAY = re.compile(r":[0-9]{1,5}(?:\.[0-9]{1,2})?", re.ASCII)


class Origin(Enum):
    """Where a session comes from."""

    LOCAL = "local"
    REMOTE = "remote"


@structure
class Sessions:
    """What logind says of all sessions of one user.

    Args:
        seat: one of them is active on a seat.
        remote: one of them is remote, or may be.
    """

    seat: bool
    remote: bool


@structure
class Facts:
    """What logind knows; None where it was not asked, has no answer or is not there.

    Args:
        peer_remote: whether the session that the asking process belongs to is remote, or may be.
        owner: the sessions of the uid in whose slice the asking process runs.
        user: the sessions of the user who is to log in.
        session: logind's id of the session that the asking process belongs to, "" where none is open.
        leader: what the kernel knows of its terminal: pid and start of the process that leads its session, "" where
            that has ended. logind may give an id again, the kernel does not give this pair.
        service, host: what began the session that the asking process belongs to, as PAM_SERVICE and PAM_RHOST said it;
            "" where that is not known.
    """

    peer_remote: bool | None = None
    owner: Sessions | None = None
    user: Sessions | None = None
    session: str = ""
    leader: str = ""
    service: str = ""
    host: str = ""


UNKNOWN = Facts()


def origin(service: str, rhost: str, tty: str, peer_uid: int, owner_uid: int | None, facts: Facts = UNKNOWN) -> Origin:
    """Local or remote.

    Args:
        service, rhost, tty: the PAM items, "" where unset.
        peer_uid: of the process that asks, as the kernel says. Anybody but root owns its own session.
        owner_uid: whose session the process runs in, where root asks on somebody's behalf (sudo, su); None
            where there is nobody yet (login, a greeter, polkit).
        facts: what logind knows.
    """
    if surely_remote(service, rhost, tty):
        return Origin.REMOTE
    if facts.peer_remote is not None:
        return _local(not facts.peer_remote)
    if peer_uid != 0 or owner_uid is not None or facts.owner is not None:
        return _local(facts.owner is not None and facts.owner.seat and not facts.owner.remote)
    if VIRTUAL_CONSOLE.fullmatch(tty) or DISPLAY.fullmatch(tty):
        return Origin.LOCAL
    return _local(service == "polkit-1" and facts.user is not None and facts.user.seat)


def surely_remote(service: str, rhost: str, tty: str) -> bool:
    """Whether the PAM items alone make it remote, and no fact can change that."""
    return service == "sshd" or tty == "ssh" or rhost != ""


def source(service: str, rhost: str, tty: str, ruser: str, user: str, peer_uid: int) -> str | None:
    """Where answers come from, as far as failures are counted for it alone (throttle.Budget).

    Args:
        service, rhost, tty, ruser: the PAM items, "" where unset.
        user: whose factor is asked for.
        peer_uid: of the process that asks, as the kernel says. Anybody but root asks here, whatever it says.

    Returns: an IPv4 address; the first 64 bits of an IPv6 one, since whoever has a network has all of it; HERE for
        users at their own terminals on this host; who else calls here (su); None for what is no single place: names,
        since a name is whatever somebody's DNS says, and programs that name neither an address nor a terminal.
    """
    if peer_uid != 0:
        return HERE
    if rhost:
        return _network(rhost)
    if ruser not in ("", user):
        return f"~{ruser}"
    if ruser or VIRTUAL_CONSOLE.fullmatch(tty) or DISPLAY.fullmatch(tty) or service == "polkit-1":
        return HERE
    return None


def _network(rhost: str) -> str | None:
    with suppress(OSError, ValueError):
        return inet_ntop(AF_INET, inet_pton(AF_INET, rhost))
    with suppress(OSError, ValueError):
        packed = inet_pton(AF_INET6, rhost)
        if packed.startswith(IPV4_WITHIN):
            return inet_ntop(AF_INET, packed[-4:])
        if packed.startswith(TRANSLATED) or (packed.startswith(bytes(8)) and rhost != "::1"):
            return None  # all of IPv4 is in there somehow
        return f"{inet_ntop(AF_INET6, packed[:8] + bytes(8))}/64"
    return None


def _local(yes: bool) -> Origin:
    return Origin.LOCAL if yes is True else Origin.REMOTE
