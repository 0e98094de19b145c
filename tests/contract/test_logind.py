"""The real libsystemd on logind's files, asked as the service's user; and who service and engine ask for."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import DEADLINE, DOORS, EngineDoor, LoopDoor, opened
from flows import ALICE, totp
from keyflows import enrolled
from machine import Machine
from seats import Seats
from softkey import SoftKey
from stores import SEALER, discard, enrol, make

from pam_mfa.conversation import Locate, Located
from pam_mfa.origin import Facts
from pam_mfa.peer import peer_uid
from pam_mfa.service import system
from pam_mfa.store.sqlite import SqliteStore

SYSTEM = "/system.slice/ssh.service"
ASK = """
from pam_mfa.service.logind import logind
facts = logind().facts(int(sys.argv[1]), int(sys.argv[2]))
seats = [(known.seat, known.remote) if known else None for known in (facts.owner, facts.user)]
print(facts.peer_remote, *seats, facts.service, facts.host)
"""


NAME = """
from pam_mfa.service.system import _ask_logind
facts = _ask_logind(int(sys.argv[1]), int(sys.argv[2]))
print(repr(facts.session), bool(facts.leader))
"""


class Place:
    """A machine with sessions, and a process of root's in it, as sudo is."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.seats = machine, Seats(machine)
        self._process = machine.popen(
            ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid

    def facts(self, cgroup: str) -> str:
        """What is known of the process in that cgroup, and where nobody's session asks, of alice."""
        self.seats.put(self._process.pid, cgroup)
        words = [str(self._process.pid), str(self.seats.uid("alice"))]
        return self.machine.python(ASK, *words, user="pam-mfa").stdout.strip()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def place(machine: Machine) -> Iterator[Place]:
    place = Place(machine)
    yield place
    place.close()


def test_a_session_at_a_seat(place: Place) -> None:
    """Also with an ssh session of the same user elsewhere."""
    desk = place.seats.open("1", "alice", seat="seat0")
    place.seats.open("2", "alice", remote=True)
    assert place.facts(desk) == "False None None"


def test_a_session_by_ssh(place: Place) -> None:
    """Also while its user sits at the host, and below it: tmux that was begun there."""
    place.seats.open("1", "alice", seat="seat0")
    ssh = place.seats.open("2", "alice", remote=True)
    assert place.facts(ssh) == "True None None"
    assert place.facts(f"{ssh}/below") == "True None None"


def test_a_session_on_no_seat(place: Place) -> None:
    place.seats.open("1", "alice", seat="seat0")
    assert place.facts(place.seats.open("c2", "alice")) == "True None None"


def test_a_session_that_logind_does_not_know(place: Place) -> None:
    uid = place.seats.uid("alice")
    assert place.facts(f"/user.slice/user-{uid}.slice/session-77.scope") == "True None None"


def test_how_a_session_began(place: Place) -> None:
    desk = place.seats.open("1", "alice", seat="seat0", service="gdm-password")
    assert place.facts(place.seats.manager("alice")) == "None (True, False) None gdm-password"
    ssh = place.seats.open("2", "alice", remote=True, service="sshd", host="192.0.2.7")
    assert place.facts(ssh) == "True None None sshd 192.0.2.7"
    assert place.facts(desk) == "False None None gdm-password"
    assert place.facts(place.seats.manager("alice")) == "None (True, True) None"


def test_a_session_in_the_background(place: Place) -> None:
    behind = place.seats.open("1", "alice", seat="seat0", state="online")
    assert place.facts(behind) == "None (False, False) None"
    place.seats.open("3", "alice", seat="seat0")
    assert place.facts(behind) == "None (True, False) None"
    place.seats.open("4", "alice", remote=True)
    assert place.facts(behind) == "None (True, True) None"


def test_a_session_that_is_left(place: Place) -> None:
    """Its user has logged out, and tmux runs on."""
    left = place.seats.open("1", "alice", seat="seat0", state="closing")
    assert place.facts(left) == "None (False, False) None"
    place.seats.open("2", "alice", remote=True, state="closing")
    place.seats.open("3", "alice", seat="seat0")
    assert place.facts(left) == "None (True, True) None"


def test_a_terminal_of_the_users_service_manager(place: Place) -> None:
    assert place.facts(place.seats.manager("alice")) == "None (False, False) None"
    place.seats.open("9", "alice", kind="manager")
    assert place.facts(place.seats.manager("alice")) == "None (False, False) None"
    place.seats.open("1", "alice", seat="seat0")
    assert place.facts(place.seats.manager("alice")) == "None (True, False) None"
    assert place.facts(place.seats.manager("bob")) == "None (False, False) None"
    place.seats.open("2", "alice", remote=True)
    assert place.facts(place.seats.manager("alice")) == "None (True, True) None"


def test_the_session_by_name(place: Place) -> None:
    """Of a process in it, while it is open; with what the kernel knows of the terminal."""
    for cgroup, said in (
        (place.seats.open("1", "alice", seat="seat0"), "'1' True"),
        (place.seats.open("c2", "alice", remote=True, state="online"), "'c2' True"),
        (place.seats.open("3", "alice", remote=True, state="closing"), "'' True"),
        (place.seats.manager("alice"), "'' True"),
        (SYSTEM, "'' True"),
    ):
        place.seats.put(place.pid, cgroup)
        words = [str(place.pid), str(place.seats.uid("alice"))]
        assert place.machine.python(NAME, *words, user="pam-mfa").stdout.strip() == said


def test_a_system_service(place: Place) -> None:
    """A greeter, and the helper of polkit."""
    assert place.facts(SYSTEM) == "None None (False, False)"
    place.seats.open("1", "alice", seat="seat0")
    assert place.facts(SYSTEM) == "None None (True, False)"


def test_without_logind(place: Place) -> None:
    place.machine.run(["/bin/rm", "-rf", "/run/systemd"])
    assert place.facts(SYSTEM) == "None None (False, False)"
    assert place.facts(place.seats.manager("alice")) == "None (False, False) None"


# Service and engine


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoopDoor | EngineDoor]:
    """alice has a key and a phone, and no device service runs: whoever is offered the key is told so."""
    path = make(tmp_path / "state")
    store = SqliteStore(path, SEALER)
    store.prepare(["fido2", "totp"])
    enrol(store, enrolled(SoftKey()), totp())
    discard(store)
    with opened(request.param, path) as one:
        yield one


@pytest.mark.parametrize("remote", [False, True])
def test_the_peer_is_asked_for(door: LoopDoor | EngineDoor, remote: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, int]] = []

    def locate(want: Locate, link: socket.socket) -> Located:
        asked.append((want.uid, peer_uid(link)))
        return Located(Facts(peer_remote=remote))

    monkeypatch.setattr(system, "locate", locate)
    one = door.call().hello("alice", ALICE, ruser="alice")
    assert one.prompt() == "Verification code: "
    assert any(b"Security keys cannot be used now" in text for _, text in one.seen) is not remote
    assert asked == [(ALICE, os.getuid())]


def test_a_logind_that_hangs_offers_no_key(door: LoopDoor | EngineDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(system, "LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr(system, "locate", lambda want, link: free.wait(DEADLINE) and Located(Facts(peer_remote=False)))
    one = door.call().hello("alice", ALICE, ruser="alice")
    assert one.prompt() == "Verification code: "
    assert not any(b"ecurity key" in text for _, text in one.seen)
    free.set()
