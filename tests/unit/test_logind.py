"""What sd-login says, made into facts; and a peer that is gone, or a library that is not there."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from ctypes import CDLL, POINTER, c_void_p, cast
from pathlib import Path
from typing import Any

import pytest

from pam_mfa.conversation import Locate, Located
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.service import logind, system
from pam_mfa.structure import replace

ALICE, BOB = 1000, 1001
PID = 4711
UNKNOWN_SESSION = -6  # ENXIO
HERE, AWAY, NONE = Sessions(seat=True, remote=False), Sessions(seat=False, remote=True), Sessions(False, False)


def session(
    uid: int = ALICE, seat: str = "", state: str = "active", remote: bool = False, kind: str = "user", **began: str
) -> Any:
    return {"uid": uid, "seat": seat, "state": state, "remote": remote, "kind": kind, **began}


DESK = session(seat="seat0")
BEHIND = session(seat="seat0", state="online")
LEFT = session(seat="seat0", state="closing")
SSH = session(remote=True)
LEFT_SSH = session(remote=True, state="closing")
SERIAL = session()
MANAGER = session(kind="manager")
CRON = session(kind="background")


class Library:
    """libsystemd with these sessions; a process in one of them or in its owner's slice, or in none."""

    def __init__(self, sessions: Mapping[str, Any], process: str | None = None, owner: int | None = None) -> None:
        self.sessions, self.process, self.owner = sessions, process, owner
        self.libc = CDLL(None)
        self.libc.strdup.restype = self.libc.malloc.restype = c_void_p
        self.taken = 0

    def _hand(self, text: str, into: Any) -> int:
        self.taken += 1
        into._obj.value = self.libc.strdup(text.encode())
        return 0

    def sd_pid_get_session(self, pid: Any, into: Any) -> int:
        assert pid.value == PID
        return -61 if self.process is None else self._hand(self.process, into)

    def sd_pid_get_owner_uid(self, pid: Any, into: Any) -> int:
        if self.owner is None:
            return -61
        into._obj.value = self.owner
        return 0

    def sd_session_is_remote(self, name: Any) -> int:
        found = self.sessions.get(name.value.decode())
        return int(found["remote"]) if found else UNKNOWN_SESSION

    def sd_session_get_state(self, name: Any, into: Any) -> int:
        found = self.sessions.get(name.value.decode())
        return self._hand(found["state"], into) if found else UNKNOWN_SESSION

    def sd_session_get_seat(self, name: Any, into: Any) -> int:
        found = self.sessions.get(name.value.decode())
        return self._hand(found["seat"], into) if found and found["seat"] else -61

    def sd_session_get_class(self, name: Any, into: Any) -> int:
        found = self.sessions.get(name.value.decode())
        return self._hand(found["kind"], into) if found else UNKNOWN_SESSION

    def sd_session_get_service(self, name: Any, into: Any) -> int:
        return self._began(name, "service", into)

    def sd_session_get_remote_host(self, name: Any, into: Any) -> int:
        return self._began(name, "host", into)

    def _began(self, name: Any, word: str, into: Any) -> int:
        found = self.sessions.get(name.value.decode(), {})
        return self._hand(found[word], into) if word in found else -61

    def sd_uid_get_sessions(self, uid: int, active: int, into: Any) -> int:
        assert active < 0
        names = [name for name, found in self.sessions.items() if found["uid"] == uid]
        array = cast(self.libc.malloc((len(names) + 1) * 8), POINTER(c_void_p))
        for index, name in enumerate(names):
            self.taken += 1
            array[index] = self.libc.strdup(name.encode())
        array[len(names)] = None
        self.taken += 1
        into._obj.contents = array.contents
        return len(names)


@pytest.mark.parametrize(
    ("sessions", "process", "owner", "facts"),
    [
        # the session of the process
        ({"1": DESK}, "1", ALICE, Facts(peer_remote=False)),
        ({"1": DESK, "2": SSH}, "1", ALICE, Facts(peer_remote=False)),
        ({"1": DESK, "2": SSH}, "2", ALICE, Facts(peer_remote=True)),
        ({"1": session(remote=True, seat="seat0")}, "1", ALICE, Facts(peer_remote=True)),
        # on no seat: su in a service manager's terminal, xrdp, a serial line
        ({"1": DESK, "2": SERIAL}, "2", ALICE, Facts(peer_remote=True)),
        ({"1": DESK}, "ended", ALICE, Facts(peer_remote=True)),
        # in the background of its seat: what else its owner has
        ({"1": BEHIND, "3": DESK}, "1", ALICE, Facts(owner=HERE)),
        ({"1": BEHIND}, "1", ALICE, Facts(owner=NONE)),
        ({"1": BEHIND, "2": SSH}, "1", ALICE, Facts(owner=AWAY)),
        ({"1": BEHIND, "3": session(BOB, "seat0")}, "1", ALICE, Facts(owner=NONE)),
        ({"1": LEFT}, "1", ALICE, Facts(owner=NONE)),
        ({"1": LEFT, "3": DESK}, "1", ALICE, Facts(owner=HERE)),
        ({"1": LEFT, "2": SSH}, "1", ALICE, Facts(owner=AWAY)),
        # of a user's service manager: no session
        ({"1": DESK, "2": LEFT_SSH}, None, ALICE, Facts(owner=Sessions(seat=True, remote=True))),
        ({"1": DESK}, None, ALICE, Facts(owner=HERE)),
        ({"1": DESK, "2": SSH}, None, ALICE, Facts(owner=Sessions(seat=True, remote=True))),
        ({"1": DESK, "2": SERIAL}, None, ALICE, Facts(owner=Sessions(seat=True, remote=True))),
        ({"1": DESK, "9": MANAGER, "8": CRON}, None, ALICE, Facts(owner=HERE)),
        ({"9": MANAGER}, None, ALICE, Facts(owner=NONE)),  # lingering
        ({}, None, ALICE, Facts(owner=NONE)),
        ({"1": DESK}, None, BOB, Facts(owner=NONE)),
        # of a system service
        ({"1": DESK}, None, None, Facts(user=HERE)),
        ({"2": SSH}, None, None, Facts(user=AWAY)),
        ({}, None, None, Facts(user=NONE)),
    ],
)
def test_facts(
    sessions: Mapping[str, Any], process: str | None, owner: int | None, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replace(asked(sessions, process, owner, monkeypatch), session="") == facts


BY_SSH = session(remote=True, service="sshd", host="192.0.2.7")
AT_DESK = session(seat="seat0", service="gdm-password")


@pytest.mark.parametrize(
    ("sessions", "process", "began"),
    [
        ({"1": AT_DESK, "2": BY_SSH}, "2", ("sshd", "192.0.2.7")),
        ({"1": AT_DESK, "2": BY_SSH}, "1", ("gdm-password", "")),
        ({"1": session(seat="seat0")}, "1", ("", "")),
        ({"1": AT_DESK}, "ended", ("", "")),
        # a terminal of the user's service manager: of their only session
        ({"1": AT_DESK, "9": MANAGER, "8": CRON}, None, ("gdm-password", "")),
        ({"2": BY_SSH}, None, ("sshd", "192.0.2.7")),
        ({"1": AT_DESK, "2": BY_SSH}, None, ("", "")),
        ({"1": AT_DESK, "2": LEFT_SSH}, None, ("", "")),
        ({"9": MANAGER}, None, ("", "")),
        ({"2": session(BOB, service="sshd")}, None, ("", "")),
    ],
)
def test_how_the_session_began(
    sessions: Mapping[str, Any], process: str | None, began: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = asked(sessions, process, ALICE, monkeypatch)
    assert (facts.service, facts.host) == began


def asked(
    sessions: Mapping[str, Any], process: str | None, owner: int | None, monkeypatch: pytest.MonkeyPatch
) -> Facts:
    """What is found out, with every text given back."""
    one, library, freed = logind.Logind(), Library(sessions, process, owner), list[bool]()
    release = one._free

    def free(place: Any) -> None:
        freed.append(bool(place))
        release(place)

    monkeypatch.setattr(one, "_sd", library)
    monkeypatch.setattr(one, "_free", free)
    facts = one.facts(PID, ALICE)
    assert sum(freed) == library.taken
    return facts


@pytest.mark.parametrize(
    ("sessions", "process", "name"),
    [
        ({"1": DESK, "2": SSH}, "1", "1"),
        ({"1": DESK, "2": SSH}, "2", "2"),
        ({"1": BEHIND}, "1", "1"),
        ({"c3": SERIAL}, "c3", "c3"),
        ({"1": LEFT}, "1", ""),
        ({"1": LEFT_SSH}, "1", ""),
        ({"1": session(state="opening")}, "1", ""),
        ({"1": DESK}, "ended", ""),
        ({"1": DESK}, None, ""),
    ],
)
def test_the_session_is_named_while_it_is_open(
    sessions: Mapping[str, Any], process: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = logind.Logind()
    monkeypatch.setattr(one, "_sd", Library(sessions, process, ALICE))
    assert one.facts(PID, ALICE).session == name


def test_nobody_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    one = logind.Logind()
    monkeypatch.setattr(one, "_sd", Library({"1": DESK}))
    assert one.facts(PID, None) == UNKNOWN


@pytest.fixture
def peer() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A connection and the process at its other end, which runs until its standard input ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # a name of the kernel's choice
        listener.listen()
        name = listener.getsockname()
        program = f"import socket, sys; s = socket.socket(1, 5); s.connect({name!r}); sys.stdin.read()"
        argv = [sys.executable, "-IS", "-c", program]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        connection, _ = listener.accept()
        with connection:
            yield connection, process
        process.communicate()


def led_by(pid: int) -> str:
    """What tells the leader of a process's session from all others."""
    sid = os.getsid(pid)
    return f"{sid} {Path(f'/proc/{sid}/stat').read_text().rpartition(')')[2].split()[19]}"


def test_whose_session_leader_has_ended_is_led_by_nobody() -> None:
    """The shell of a terminal may be gone, and its processes not; its number is nobody else's meanwhile."""
    leader = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    left = int(leader.stdout.readline())
    leader.wait()
    try:
        assert system._leader(left) == ""
        assert system._leader(leader.pid) == ""
    finally:
        os.kill(left, signal.SIGKILL)
        leader.stdout.close()


def test_whose_session_leader_is_out_of_sight_is_led_by_nobody() -> None:
    """As below `docker exec`: the kernel says 0 for a leader outside the namespace, of every such session."""
    code = "import os; from pam_mfa.service import system; print(os.getsid(0), [system._leader(os.getpid())])"
    argv = ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(argv, env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0 ['']\n", "")


class Asked:
    """In place of logind: remembers who was asked for, and meanwhile does something."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self.pids: list[int] = []
        self.meanwhile = meanwhile

    def facts(self, pid: int, user: int | None) -> Facts:
        self.pids.append(pid)
        self.meanwhile()
        return Facts(peer_remote=False)


KERNELS = pytest.mark.parametrize("option", [system.SO_PEERPIDFD, 0x7FFF], ids=["pidfd of the peer", "older"])


@KERNELS
def test_the_peers_process_is_asked_for(peer: Any, option: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, process = peer
    asked, before = Asked(), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(system, "SO_PEERPIDFD", option)
    monkeypatch.setattr(logind, "logind", lambda: asked)
    assert system.locate(Locate(ALICE), connection) == Located(Facts(peer_remote=False, leader=led_by(process.pid)))
    assert asked.pids == [process.pid]
    assert len(os.listdir("/proc/self/fd")) == before


@KERNELS
def test_of_a_process_that_ends_meanwhile_nothing_is_known(
    peer: Any, option: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, process = peer

    def end() -> None:
        process.stdin.close()
        with open(os.pidfd_open(process.pid)) as ended:
            assert select.select([ended], [], [], 60)[0]

    asked = Asked(end)
    monkeypatch.setattr(system, "SO_PEERPIDFD", option)
    monkeypatch.setattr(logind, "logind", lambda: asked)
    assert system.locate(Locate(ALICE), connection) == Located(UNKNOWN)
    assert asked.pids == [process.pid]


@KERNELS
def test_of_a_process_that_is_gone_nothing_is_known(peer: Any, option: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, process = peer
    process.communicate()
    monkeypatch.setattr(system, "SO_PEERPIDFD", option)
    monkeypatch.setattr(logind, "logind", Asked)
    assert system.locate(Locate(ALICE), connection) == Located(UNKNOWN)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_peer_of_another_namespace_is_not_taken_for_ourselves(
    peer: Any, pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()
    monkeypatch.setattr(system, "peer_pid", lambda link: pid)
    monkeypatch.setattr(logind, "logind", lambda: asked)
    assert system.locate(Locate(ALICE), peer[0]) == Located(UNKNOWN)
    assert asked.pids == []


def test_without_libsystemd_nothing_is_known(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str | None) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    logind.logind.cache_clear()
    monkeypatch.setattr(logind, "CDLL", missing)
    assert system.locate(Locate(ALICE), peer[0]) == Located(UNKNOWN)


def test_a_connection_that_was_closed_is_nobodys() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    theirs.close()
    assert system.locate(Locate(ALICE), ours) == Located(UNKNOWN)


def test_whoever_is_not_asked_for_loads_no_library() -> None:
    program = """if True:
        import sys, pam_mfa.service.loop, pam_mfa.service.direct, pam_mfa.engine
        assert not {"ctypes", "pam_mfa.service.logind"} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_environment_is_no_fact(peer: Any) -> None:
    """XDG_SESSION_ID names a session for some of libsystemd's tools."""
    program = """if True:
        import os
        from pam_mfa.service.logind import logind
        assert logind().facts(os.getpid(), None).peer_remote is None"""
    told = {"XDG_SESSION_ID": "1", "XDG_SEAT": "seat0", "DISPLAY": ":0", "SYSTEMD_LOG_LEVEL": "debug"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, **told})
