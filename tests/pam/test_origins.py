"""Local or remote at the real PAM stack, by service and engine: cgroups and logind's files made in a private machine.

A rule for local sessions lets them by, so that PAM's code says which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hosts import Host, Scene
from seats import Seats

LOCAL, REMOTE = "IGNORE", "MAXTRIES"
SETTINGS = "[[rule]]\nsession = 'local'\nexempt = true\n"
SYSTEM = "/system.slice/getty@tty1.service"
SUDO = {"ruser": "alice", "tty": "/dev/pts/1"}
# Whatever a user, or who comes by ssh, may have in the environment, each of them for another answer.
WORDS = {
    "XDG_SESSION_ID": "1", "XDG_SEAT": "seat0", "XDG_VTNR": "1", "XDG_SESSION_TYPE": "x11", "DISPLAY": ":0",
    "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "SSH_TTY": "/dev/pts/1", "XDG_RUNTIME_DIR": "/run/user/1001",
}  # fmt: skip


@dataclass
class Where:
    """Where a process of root's is that asks for alice, and what that is.

    Args:
        cgroup: opens the sessions that there are, and names that of the process.
        origin: LOCAL or REMOTE.
        items: PAM items, and `service`.
    """

    cgroup: Callable[[Seats], str]
    origin: str
    items: dict[str, str] = field(default_factory=lambda: dict(SUDO))


def desk(seats: Seats, user: str = "alice", state: str = "active") -> str:
    return seats.open(f"desk{user}", user, seat="seat0", state=state)


def ssh(seats: Seats) -> str:
    return seats.open("2", "alice", remote=True)


def desk_and(cgroup: Callable[[Seats], str], user: str = "alice") -> Callable[[Seats], str]:
    """The same while somebody sits at the host."""
    return lambda seats: (desk(seats, user), cgroup(seats))[1]


def terminal(seats: Seats) -> str:
    """What a desktop starts through its user's service manager."""
    return seats.manager("alice")


def greeter(seats: Seats) -> str:
    return SYSTEM


PLACES = {
    "sudo at the desk": Where(desk, LOCAL),
    "sudo at the desk, with a session by ssh elsewhere": Where(lambda seats: (ssh(seats), desk(seats))[1], LOCAL),
    "sudo at the desk, for somebody from elsewhere": Where(desk, REMOTE, {**SUDO, "rhost": "192.0.2.1"}),
    "sudo inside ssh": Where(desk_and(ssh), REMOTE),
    "sudo in a session from elsewhere that has a seat": Where(
        lambda seats: seats.open("2", "alice", seat="seat0", remote=True), REMOTE
    ),
    "sudo in tmux inside ssh": Where(desk_and(lambda seats: f"{ssh(seats)}/tmux"), REMOTE),
    "sudo in a session behind another user's": Where(
        desk_and(lambda seats: desk(seats, state="online"), "bob"), REMOTE
    ),
    "sudo in what is left of a session": Where(lambda seats: desk(seats, state="closing"), REMOTE),
    "sudo on a serial line": Where(desk_and(lambda seats: seats.open("c3", "alice")), REMOTE),
    "sudo in a terminal of the desktop": Where(desk_and(terminal), LOCAL),
    "sudo in such a terminal, nobody being at the desk": Where(terminal, REMOTE),
    "sudo in such a terminal, somebody else being there": Where(desk_and(terminal, "bob"), REMOTE),
    "sudo in such a terminal, its user being here and elsewhere": Where(
        desk_and(lambda seats: (ssh(seats), terminal(seats))[1]), REMOTE
    ),
    "login at a console": Where(greeter, LOCAL, {"tty": "/dev/tty1"}),
    "a greeter": Where(greeter, LOCAL, {"tty": ":0"}),
    "login on a serial line": Where(greeter, REMOTE, {"tty": "/dev/ttyS0"}),
    "login through telnet": Where(greeter, REMOTE, {"tty": "/dev/tty1", "rhost": "localhost"}),
    "polkit, its user at the desk": Where(desk_and(greeter), LOCAL, {"service": "polkit-1"}),
    "polkit, its user elsewhere": Where(lambda seats: (ssh(seats), greeter(seats))[1], REMOTE, {"service": "polkit-1"}),
    "polkit, somebody else at the desk": Where(desk_and(greeter, "bob"), REMOTE, {"service": "polkit-1"}),
    "sshd": Where(desk_and(greeter), REMOTE, {"service": "sshd", "tty": "/dev/tty1"}),
}


@pytest.fixture
def host(scene: Scene) -> Iterator[Host]:
    """A process of root's with a misleading environment."""
    scene.configure(SETTINGS)
    for service in ("polkit-1", "sshd"):
        scene.machine.write(f"/etc/pam.d/{service}", scene.machine.read("/etc/pam.d/mfa"))
    with Host(scene.up(), env=WORDS) as host:
        yield host


@pytest.mark.parametrize("place", PLACES)
def test_where_a_session_comes_from(scene: Scene, host: Host, place: str) -> None:
    where, seats = PLACES[place], Seats(scene.machine)
    seats.put(host.pid, where.cgroup(seats))
    assert host.login("alice", *["000000"] * 3, **where.items).code == where.origin
    assert scene.expect_record(0)["reason"] == ("exempt" if where.origin == LOCAL else "wrong")
