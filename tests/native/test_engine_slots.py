"""At most eight engines at once: who waits for a slot, who gets it, and whose directory the slots are in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from machine import DEADLINE, wait_for
from native.engine_machine import DAEMON, ENGINE, StubMachine

Running = tuple[socket.socket, "subprocess.Popen[bytes]"]


def begin(box: StubMachine) -> Running:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE)
    process = box.start([ENGINE], theirs)
    theirs.close()
    return ours, process


def engines(box: StubMachine, count: int) -> list[Running]:
    """Engines that wait in Python for their client."""
    started = [begin(box) for _ in range(count)]
    for ours, _ in started:
        assert ours.recv(100) == b"{}"
    return started


WAIT = """
def run(role, sockets):
    import os
    os.write(3, b'{}')
    os.read(3, 1)
    return 0
"""


def test_the_ninth_engine_waits_for_a_slot_and_then_gives_up(box: StubMachine) -> None:
    box.stub(WAIT)
    eight = engines(box, 8)
    ours, ninth = begin(box)
    assert ours.recv(100) == b"", "the ninth must not begin"
    assert ninth.wait(DEADLINE) == 1
    assert ninth.stderr
    assert b"busy" in ninth.stderr.read()
    for client, process in eight:
        client.close()
        assert process.wait(DEADLINE) == 0


def test_a_slot_is_free_again_when_its_engine_ends_or_is_killed(box: StubMachine) -> None:
    box.stub(WAIT)
    eight = engines(box, 8)
    os.kill(eight[5][1].pid, signal.SIGKILL)
    [(client, _)] = engines(box, 1)
    eight[2][0].close()
    [(other, _)] = engines(box, 1)
    for each in (client, other, *(client for client, _ in eight)):
        each.close()


def test_a_waiting_engine_takes_the_slot_that_comes_free(box: StubMachine) -> None:
    box.stub(WAIT)
    eight = engines(box, 8)
    ours, ninth = begin(box)
    wait_for("the ninth to sleep", lambda: "nanosleep" in Path(f"/proc/{ninth.pid}/wchan").read_text())
    eight[0][0].close()
    assert ours.recv(100) == b"{}"
    for client, _ in [*eight, (ours, ninth)]:
        client.close()


def test_the_run_directory_is_made_and_nobody_elses(box: StubMachine) -> None:
    box.session()
    about = box.path("/run/pam-mfa").stat()
    assert (about.st_uid, about.st_mode & 0o7777) == (0, 0o755)


@pytest.mark.parametrize(
    "spoil",
    ["chmod 0775 /run/pam-mfa", "chmod 0757 /run/pam-mfa", "chown nobody /run/pam-mfa",
     "rmdir /run/pam-mfa; ln -s /tmp /run/pam-mfa", "rmdir /run/pam-mfa; touch /run/pam-mfa"],
)  # fmt: skip
@pytest.mark.parametrize("argv", [[DAEMON], [ENGINE]])
def test_a_run_directory_that_others_can_change_is_refused(box: StubMachine, spoil: str, argv: list[str]) -> None:
    box.run(["/bin/sh", "-c", f"mkdir -m 0755 /run/pam-mfa; {spoil}"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ended = box.to_end(argv, session=theirs)
    assert ended.status == 1
    assert "/run/pam-mfa" in ended.stderr
    assert ended.report == {}


def test_a_lock_file_that_is_a_link_is_not_followed(box: StubMachine) -> None:
    box.run(["/bin/sh", "-c", "mkdir -m 0755 /run/pam-mfa; ln -s /etc/victim /run/pam-mfa/engine-0.lock"])
    ended = box.session(code=None)
    assert ended.status == 1
    assert not box.path("/etc/victim").exists()
