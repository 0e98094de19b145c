"""The engine's own device service: a process that costs a fork until the engine asks, and never outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from machine import DEADLINE, wait_for
from native.engine_machine import ENGINE, StubMachine

DEVICES_FD = 5
FLAGS: list[list[str]] = [[], ["--manage"]]

# An engine that tells what it was given, and then does one test's own part.
ENGINE_STUB = """
import os, socket

def connect(*more):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, socket.socket(fileno=os.dup(5)) as broker:
        socket.send_fds(broker, [b"\\0"], [theirs.fileno(), *more])
    return ours

def run(role, sockets):
    import json
    os.write(3, json.dumps(sockets).encode())
    part()
    return 0

"""
PLAIN = "def part(): pass"
WAIT = "def part(): os.read(3, 1)"
ASK = """
def part():
    with connect() as line:
        os.write(3, line.recv(65536) or b"nobody")
"""
TELL = """
def serve_one(connection):
    import json
    connection.send(json.dumps(about()).encode())
    return 0
"""
HANG = """
def serve_one(connection):
    import ctypes
    connection.send(b"hangs")
    ctypes.PyDLL(None).sleep(3600)  # keeps Python's lock
"""
MARK = "open('/tmp/started', 'w').close()\n"


class Engine:
    """An engine whose client is the test."""

    def __init__(self, box: StubMachine, part: str, service: str = TELL, **options: Any) -> None:
        box.stub(ENGINE_STUB + part)
        box.stub_devices(service)
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE)
        self.process: subprocess.Popen[bytes] = box.start([ENGINE, *options.pop("flags", [])], theirs, **options)
        theirs.close()
        text = self.said()
        self.sockets = json.loads(text) if text else None

    def said(self) -> bytes:
        """What it says next."""
        return self.ours.recv(65536)

    def end(self) -> int:
        """Hang up; returns its exit status."""
        self.ours.close()
        return self.process.wait(DEADLINE)


def children(pid: int) -> list[int]:
    """The processes that one has forked."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def broker_of(engine: Engine) -> int:
    """The process that waits for the engine's connections, once it has dropped and sleeps."""
    [broker] = children(engine.process.pid)
    wait_for("the broker", lambda: "State:\tS" in status(broker) and "NoNewPrivs:\t1" in status(broker))
    return broker


def processes(box: StubMachine) -> list[int]:
    return box.processes("pam-mfa-engine")


@pytest.mark.parametrize("flags", FLAGS)
def test_who_serves_a_connection(box: StubMachine, flags: list[str]) -> None:
    box.run(["/usr/sbin/groupadd", "keys"])
    box.run(["/usr/sbin/usermod", "--append", "--groups", "keys", "pam-mfa-device"])
    box.run([ENGINE, "--prepare"])
    engine = Engine(box, ASK, flags=flags, env={"PCSCLITE_CSOCK_NAME": "/tmp/evil"})
    assert engine.sockets == {"session": 3, "devices": DEVICES_FD}
    about = json.loads(engine.said())
    uid, gid = box.run(["/usr/bin/getent", "passwd", "pam-mfa-device"]).stdout.split(":")[2:4]
    keys = box.run(["/usr/bin/getent", "group", "keys"]).stdout.split(":")[2]
    assert about["status"]["Uid"].split() == [uid] * 4
    assert about["status"]["Gid"].split() == [gid] * 4
    assert about["status"]["Groups"].split() == [keys]
    assert about["status"]["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(about["status"][name], 16) == 0, name
    assert about["environment"] == {}
    assert about["argv"] == ["broker"]
    assert about["denied"] == dict.fromkeys(("/var/lib/pam-mfa", "/etc/pam-mfa/seal.key"), "Permission denied")
    fds = {int(number): target for number, target in about["fds"].items()}
    assert [fds[number] for number in range(3)] == ["/dev/null"] * 3
    assert fds[3].startswith("socket:")
    rest = {target for number, target in fds.items() if number > 3 and not target.startswith("/proc/")}
    assert rest == {"anon_inode:[timerfd]"}
    assert engine.end() == 0


@pytest.mark.parametrize("flags", FLAGS)
def test_a_login_without_devices_starts_no_python_for_them(box: StubMachine, flags: list[str]) -> None:
    engine = Engine(box, PLAIN, MARK + TELL, flags=flags)
    assert engine.process.wait(DEADLINE) == 0
    assert processes(box) == [], "the engine must not end before its broker"
    assert not box.path("/tmp/started").exists()


def test_it_holds_nothing_of_the_engines(box: StubMachine) -> None:
    engine = Engine(box, WAIT)
    broker = broker_of(engine)
    fds = {int(name): os.readlink(f"/proc/{broker}/fd/{name}") for name in os.listdir(f"/proc/{broker}/fd")}
    assert sorted(fds) == [0, 1, 2, 3]
    assert [fds[number] for number in range(3)] == ["/dev/null"] * 3
    session = os.readlink(f"/proc/{engine.process.pid}/fd/3")
    assert fds[3].startswith("socket:")
    assert fds[3] != session
    assert engine.end() == 0
    assert not Path(f"/proc/{broker}").exists()


@pytest.mark.parametrize("moment", ["waits", "is asked"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_an_engine_that_is_killed(box: StubMachine, moment: str, number: int) -> None:
    hold = "def part():\n    line = connect()\n    os.write(3, line.recv(100))\n    os.read(3, 1)"
    engine = Engine(box, WAIT if moment == "waits" else hold, HANG)
    if moment == "is asked":
        assert engine.said() == b"hangs"
    else:
        broker_of(engine)
    engine.process.send_signal(number)
    engine.process.wait(DEADLINE)
    wait_for("the end of the broker", lambda: not processes(box))


def test_an_engine_killed_at_any_moment_leaves_nothing(box: StubMachine) -> None:
    """From before it drops root until after it has asked."""
    for milliseconds in (0.1, 1, 2, 3, 5, 8, 12, 20, 35, 60):
        kill_after(box, milliseconds / 1000)
        wait_for("the end of everything", lambda: not processes(box))


def kill_after(box: StubMachine, seconds: float) -> None:
    """Kill an engine that asks its broker so long after its start, or when it says something."""
    box.stub(ENGINE_STUB + ASK)
    box.stub_devices(HANG)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        process = box.start([ENGINE], theirs)
        theirs.close()
        wait_for("the engine", lambda: b"pam-mfa-engine" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        ours.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            ours.recv(1)
        process.kill()
        process.wait(DEADLINE)


def test_each_connection_has_its_own_process_and_an_end(box: StubMachine) -> None:
    part = """
def part():
    first, second = connect(), connect()
    os.write(3, first.recv(100))
    os.write(3, second.recv(100))
    first.close()
    os.read(3, 1)
    os.write(3, second.recv(100) or b"gone")
"""
    pid = "def serve_one(connection):\n    connection.send(b'%d' % os.getpid())\n    return len(connection.recv(1))"
    engine = Engine(box, part, pid)
    one, other = int(engine.said()), int(engine.said())
    assert one != other
    wait_for("the end of the first", lambda: "State:\tZ" in status(one) or not status(one))
    assert "State:\tZ" not in status(other)
    os.kill(other, signal.SIGKILL)
    engine.ours.send(b"x")
    assert engine.said() == b"gone"
    assert engine.process.wait(DEADLINE) == 0
    assert processes(box) == []


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""


def test_python_that_hangs_ends_with_its_connection(box: StubMachine) -> None:
    part = """
def part():
    with connect() as line:
        os.write(3, line.recv(100))
    os.read(3, 1)
"""
    engine = Engine(box, part, HANG)
    assert engine.said() == b"hangs"
    [broker] = children(engine.process.pid)
    wait_for("the end of the connection's process", lambda: all("State:\tZ" in status(pid) for pid in children(broker)))
    assert engine.process.poll() is None
    assert engine.end() == 0


@pytest.mark.parametrize("code", ["", "import no_such_module", "def serve_one(): return 0", "raise SystemExit(0)"])
def test_without_its_python_nobody_answers_and_the_engine_goes_on(box: StubMachine, code: str) -> None:
    engine = Engine(box, ASK, code)
    assert engine.said() == b"nobody"
    assert engine.process.wait(DEADLINE) == 0
    box.wait_for_journal(" at ")


@pytest.mark.parametrize(
    ("send", "left"),
    [
        ("socket.send_fds(broker, [b'x'], [])", 0),
        ("socket.send_fds(broker, [b'x'], [1, 2])", 0),
        ("socket.send_fds(broker, [b'x'], [1, 2, 4])", 0),
        ("socket.send_fds(broker, [b'x'], [1])", 1),
        ("pair = socket.socketpair(); socket.send_fds(broker, [b'x'], [pair[0].fileno()])", 1),
    ],
)
def test_what_is_no_connection_starts_nothing(box: StubMachine, send: str, left: int) -> None:
    """More or less than one descriptor ends the broker; a descriptor that is none of a connection only its process."""
    part = f"def part():\n    broker = socket.socket(fileno=os.dup(5))\n    {send}\n    os.read(3, 1)"
    engine = Engine(box, part, MARK + TELL)
    [broker] = children(engine.process.pid)
    if left:
        wait_for(
            "the end of the process", lambda: [status(pid) for pid in children(broker) if "State:\tZ" in status(pid)]
        )
    else:
        wait_for("the end of the broker", lambda: "State:\tZ" in status(broker))
    assert not box.path("/tmp/started").exists()
    assert engine.end() == 0


def test_without_its_account_logins_go_on(box: StubMachine) -> None:
    box.run(["/usr/sbin/userdel", "pam-mfa-device"])
    engine = Engine(box, PLAIN)
    assert engine.sockets == {"session": 3}
    assert engine.process.wait(DEADLINE) == 0


def test_without_room_for_another_process_logins_go_on(box: StubMachine) -> None:
    before = 'ulimit -n 16; set -- /usr/bin/setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "$@"'
    engine = Engine(box, PLAIN, before=before)
    assert engine.sockets is not None
    assert engine.end() == 0


def test_what_serves_a_connection_holds_neither_the_engines_place_nor_its_key(box: StubMachine) -> None:
    engine = Engine(box, "def part():\n    os.write(3, connect().recv(100))\n    os.read(3, 1)", HANG)
    assert engine.said() == b"hangs"
    [broker] = children(engine.process.pid)
    pids = [broker, *children(broker)]
    assert len(pids) == 2
    for pid in pids:
        targets = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        assert not [target for target in targets if target.endswith((".lock", "seal.key"))]
    engine.end()


def test_the_directory_for_notifiers_is_offered(box: StubMachine) -> None:
    Engine(box, PLAIN).end()
    found = box.path("/run/pam-mfa/pending").stat()
    uid = int(box.run(["/usr/bin/id", "-u", "pam-mfa"]).stdout)
    assert (found.st_uid, found.st_mode & 0o7777) == (uid, 0o755)


def test_logins_go_on_without_a_directory_for_notifiers(box: StubMachine) -> None:
    box.run(["/bin/sh", "-c", "mkdir -m 0755 /run/pam-mfa; touch /run/pam-mfa/pending"])
    assert Engine(box, PLAIN).end() == 0
