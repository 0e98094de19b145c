"""Has somebody got in since a change? Only that shows that it locks nobody out.

A login is seen by its process: the program that asked (sudo, sshd, login, ...) stays for as long as what it let in, has
libpam in it, and is among our parents. A shell that was open before the change proves nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from ..paths import Paths
from . import record

LIBPAM = b"/libpam.so"
SUDO_MARKS = "/run/sudo/ts"
PROGRAMS = {"sudo": "sudo", "sudo-i": "sudo", "su": "su", "su-l": "su", "sshd": "sshd", "login": "login"}


def programs(services: Iterable[str]) -> tuple[str, ...]:
    """The programs behind PAM services, as far as that is known."""
    return tuple(dict.fromkeys(PROGRAMS[service] for service in services if service in PROGRAMS))


def somebody_got_in(since: float, through: Collection[str], pid: int | None = None) -> bool:
    """Whether a process was let in by PAM.

    Args:
        since: the moment that the login must be younger than, on CLOCK_BOOTTIME.
        through: the programs that count; none for all.
        pid: the process, None for this one.
    """
    tick = os.sysconf("SC_CLK_TCK")
    pid = os.getppid() if pid is None else pid
    with contextlib.suppress(OSError):  # a parent that ends meanwhile vouches for nobody
        while pid > 1 and record.started(pid) / tick > since:
            if _asks_pam(pid) and (not through or _program(pid) in through):
                return True
            pid = _parent(pid)
    return False


def forget_sudo(where: Paths) -> None:
    """Have sudo ask again: it would let somebody in for having known the answer before the change."""
    with contextlib.suppress(OSError):
        for mark in where.at(SUDO_MARKS).iterdir():
            mark.unlink()


def _asks_pam(pid: int) -> bool:
    return LIBPAM in Path(f"/proc/{pid}/maps").read_bytes()


def _program(pid: int) -> str:
    """Its name; sshd has had a program of its own for each session since OpenSSH 9.8."""
    name = Path(f"/proc/{pid}/exe").readlink().name
    return name.removesuffix(" (deleted)").removesuffix("-session")


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[1])
