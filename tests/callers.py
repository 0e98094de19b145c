"""Callers at the sockets of a machine's service, as any user."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable

from doors import Caller
from machine import DEADLINE, PYTHON, Machine
from people import Person

from pam_mfa.outcome import Outcome

RUN = "/run/pam-mfa"
# The kernel notes who called connect(): one process changes its uid for each, and hands the connections over.
CONNECT = """
import os, socket, sys
out = socket.socket(fileno=int(sys.argv[2]))
for uid in sys.argv[3:]:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.seteuid(int(uid))
    link.connect(sys.argv[1])
    os.seteuid(0)
    socket.send_fds(out, [b"x"], [link.fileno()])
    link.close()
"""


def call(machine: Machine, kind: str = "priv", uid: int = 0) -> Caller:
    """One connection to the socket of that name."""
    (caller,) = call_all(machine, kind, [uid])
    return caller


def call_all(machine: Machine, kind: str, uids: Iterable[int]) -> list[Caller]:
    """A connection for each uid."""
    wanted = [str(uid) for uid in uids]
    if set(wanted) == {"0"}:
        return [_direct(machine, kind) for _ in wanted]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(DEADLINE)
        number = theirs.fileno()
        argv = [PYTHON, "-IS", "-c", CONNECT, f"{RUN}/{kind}.sock", str(number), *wanted]
        process = machine.popen(argv, pass_fds=[number], stdin=subprocess.DEVNULL)
        callers = [Caller(socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])) for _ in wanted]
        assert process.wait(DEADLINE) == 0
    return callers


def _direct(machine: Machine, kind: str) -> Caller:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(str(machine.path(f"{RUN}/{kind}.sock")))
    return Caller(link)


def login(machine: Machine, person: Person, *answers: str, service: str = "sudo") -> Outcome:
    """A whole login by a host of root's."""
    return call(machine).hello(person.user, person.uid, service).answer(*answers).outcome


def strangers(machine: Machine, count: int) -> list[Person]:
    """That many of the system's own accounts, none of them enrolled."""
    lines = (line.split(":") for line in machine.read("/etc/passwd").splitlines())
    people = [Person(name, int(uid)) for name, _, uid, *_ in lines if uid != "0"]
    assert len(people) >= count
    return people[:count]
