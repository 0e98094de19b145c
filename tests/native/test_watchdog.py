"""The watchdog ends its process by itself: Python hangs in all of these, with its lock held and signals blocked."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

import pytest
from machine import DEADLINE

WATCHDOG_EXIT = 3
NEVER = 3600
BEGIN = """
import ctypes, os, signal, sys
from pam_mfa._native._watchdog import lib
fd, seconds = int(sys.argv[1]), int(sys.argv[2])
"""
HANG = """
os.write(1, b"%d" % lib.watchdog_arm(fd, seconds))
ctypes.PyDLL(None).sleep(3600)
"""


def start(code: str, fd: int, seconds: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, str(fd), str(seconds)],
        stdout=subprocess.PIPE,
        pass_fds=(fd,) if fd >= 0 else (),
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def armed(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    assert select.select([process.stdout], [], [], DEADLINE)[0], "not armed"
    return os.read(process.stdout.fileno(), 10)


def pair(kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, kind)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_it_ends_when_the_other_end_is_closed(kind: socket.SocketKind) -> None:
    ours, theirs = pair(kind)
    with theirs:
        process = start(HANG, theirs.fileno(), NEVER)
    assert armed(process) == b"0"
    assert process.poll() is None
    ours.close()
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_it_ends_when_the_other_end_is_shut_down() -> None:
    ours, theirs = pair()
    with theirs:
        process = start(HANG, theirs.fileno(), NEVER)
    with ours:
        assert armed(process) == b"0"
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_it_ends_when_a_pipes_writer_is_gone() -> None:
    reader, writer = os.pipe()
    process = start(HANG, reader, NEVER)
    os.close(reader)
    assert armed(process) == b"0"
    os.close(writer)
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_unread_data_does_not_hide_the_end() -> None:
    ours, theirs = pair()
    with theirs:
        process = start(HANG, theirs.fileno(), NEVER)
    assert armed(process) == b"0"
    ours.send(b"never read")
    ours.close()
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


@pytest.mark.parametrize("watched", [True, False])
def test_it_ends_at_its_deadline(watched: bool) -> None:
    ours, theirs = pair()
    with ours:
        process = start(HANG, theirs.fileno() if watched else -1, 1)
        theirs.close()
        assert armed(process) == b"0"
        assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_with_all_signals_blocked_too() -> None:
    ours, theirs = pair()
    with theirs:
        process = start("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + HANG, theirs.fileno(), NEVER)
    assert armed(process) == b"0"
    ours.close()
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_signals_are_left_to_pythons_own_threads() -> None:
    ours, theirs = pair()
    code = """
os.write(1, b"%d" % lib.watchdog_arm(fd, seconds))
masks = [line.split()[1] for task in os.listdir("/proc/self/task") for line in open(f"/proc/self/task/{task}/status")
         if line.startswith("SigBlk")]
os.write(1, b" ".join(mask.encode() for mask in sorted(masks)))
"""
    with ours, theirs:
        process = start(code, theirs.fileno(), NEVER)
        output, _ = process.communicate(timeout=DEADLINE)
    masks = [int(mask, 16) for mask in output[1:].split()]
    assert process.returncode == 0
    assert len(masks) == 2
    assert masks[0] == 0
    assert all(masks[1] >> (number - 1) & 1 for number in (1, 2, 10, 14, 15, 17, 29))


def test_a_process_that_closed_the_session_itself_is_left_to_finish() -> None:
    ours, theirs = pair()
    other, beat = pair()
    code = """
os.close(fd)
os.write(1, b"%d" % lib.watchdog_arm(fd, seconds))
os.read(int(sys.argv[3]), 1)
os._exit(42)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, str(theirs.fileno()), str(NEVER), str(beat.fileno())],
        stdout=subprocess.PIPE,
        pass_fds=(theirs.fileno(), beat.fileno()),
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert armed(process) == b"0"
    theirs.close()
    ours.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # longer than the grace of 200 ms
    other.send(b".")
    assert process.wait(DEADLINE) == 42


def test_the_grace_lets_a_process_end_by_itself() -> None:
    ours, theirs = pair()
    code = """
os.write(1, b"%d" % lib.watchdog_arm(fd, seconds))
os.read(fd, 1)
os._exit(42)
"""
    with theirs:
        process = start(code, theirs.fileno(), NEVER)
    assert armed(process) == b"0"
    ours.close()
    assert process.wait(DEADLINE) == 42


def test_no_deadline_is_refused() -> None:
    ours, theirs = pair()
    with ours, theirs:
        process = start("print(lib.watchdog_arm(fd, 0))", theirs.fileno(), 0)
        output, _ = process.communicate(timeout=DEADLINE)
    assert int(output) != 0


def test_where_it_cannot_be_armed_it_says_so() -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
print(lib.watchdog_arm(fd, seconds))
"""
    process = start(code, -1, NEVER)
    output, _ = process.communicate(timeout=DEADLINE)
    assert int(output) != 0
