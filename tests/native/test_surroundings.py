"""The host program around the shim: threads, long lives, odd limits; nothing of it matters, all of it stays."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim import AUTH_ERR, SUCCESS, UNAVAILABLE, Lab, Peer, grant

from pam_mfa.outcome import Outcome


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def ask(peer: Peer) -> None:
    """A service that asks one question and grants."""
    peer.greet()
    assert peer.ask() == b"123456"
    peer.result(Outcome.GRANTED)


def test_eight_threads_at_once(lab: Lab) -> None:
    barrier = threading.Barrier(8, timeout=30)

    def serve(peer: Peer) -> None:
        peer.greet()
        barrier.wait()
        assert peer.ask() == b"123456"
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    assert lab.host("answer=text:123456", "threads=8").codes() == [SUCCESS] * 8
    assert len({hello.nonce for hello in lab.hellos}) == 8


def test_a_thousand_times(lab: Lab) -> None:
    """A host that lives long: no descriptor and no memory is left behind by load, login, unload."""
    lab.serve(ask)
    ran = lab.host("state", "answer=text:123456", "repeat=1000", "same")
    (line,) = ran.of("repeat")
    count, granted, grown = re.fullmatch(r"(\d+) granted (\d+) grown (-?\d+)", line).groups()  # type: ignore[union-attr]
    assert (count, granted) == ("1000", "1000")
    assert int(grown) < 512
    assert ran.of("state") == ["same"]


# TSan's runtime does not live in the child of a raw clone, so it sees the service's part alone.
@pytest.mark.parametrize(("sanitizer", "by"), [("address", "service"), ("address", "engine"), ("thread", "service")])
def test_under_sanitizers(tmp_path: Path, sanitizer: str, by: str) -> None:
    """A report of the sanitizer ends the host program with a status of its own."""
    with Lab(tmp_path, sanitizer) as lab:
        if by == "service":
            lab.serve(ask)
        lab.install_stub("grant")
        ran = lab.host("answer=text:123456", "auth", "threads=8", "repeat=20", service="sshd")
    assert ran.returncode == 0, ran.lines
    assert ran.codes() == [SUCCESS] * 9


SURROUNDINGS = [
    ["umask=000"], ["umask=777"], ["cwd=/proc"], ["close=0", "close=1", "close=2"], ["close=0"], ["locale=C.UTF-8"],
    ["ignore=CHLD"], ["handle=CHLD"], ["ignore=PIPE"], ["handle=ALRM", "block=ALRM"], ["block=TERM", "block=HUP"],
    ["limit=FSIZE:0"], ["limit=CPU:1"], ["limit=STACK:65536"], ["limit=NPROC:0"], ["limit=CORE:0"],
    ["limit=NOFILE:8"], ["limit=AS:67108864"], ["storm=1"],
    ["env=LD_PRELOAD=/tmp/x.so", "env=PYTHONPATH=/tmp", "env=HOME=/tmp", "env=LC_ALL=xx", "env=PATH="],
]  # fmt: skip


@pytest.mark.parametrize("steps", SURROUNDINGS, ids=" ".join)
@pytest.mark.parametrize("outcome", [Outcome.GRANTED, Outcome.DENIED])
def test_hosts_surroundings_have_no_effect_and_stay(lab: Lab, steps: list[str], outcome: Outcome) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.ask() == b"123456"
        peer.result(outcome)

    lab.serve(serve)
    ran = lab.host(*steps, "state", "answer=text:123456", "auth", "same", "children")
    assert ran.code == (SUCCESS if outcome is Outcome.GRANTED else AUTH_ERR)
    assert ran.of("state") == ["same"]
    assert ran.of("wait") == ["none"]


@pytest.mark.parametrize("limit", [3, 4, 5, 6])
def test_hardly_any_descriptors(lab: Lab, limit: int) -> None:
    """libpam needs some itself; whatever is missing, nobody gets in without the service's word."""
    lab.serve(ask)
    ran = lab.host("state", f"limit=NOFILE:{limit}", "answer=text:123456", "auth")
    assert ran.code == SUCCESS or limit < 6
    assert lab.hellos or ran.code != SUCCESS


def test_no_descriptor_is_inherited(lab: Lab) -> None:
    """A program that the host starts after the login finds nothing of ours."""
    lab.serve(ask)
    before = lab.host("exec").lines
    ran = lab.host("answer=text:123456", "auth", "exec")
    assert ran.code == SUCCESS
    assert [line for line in ran.lines if line.isdigit()] == [line for line in before if line.isdigit()]


@pytest.mark.parametrize("service", [True, False])
def test_errno_is_kept(lab: Lab, service: bool) -> None:
    if service:
        lab.serve(grant)
    ran = lab.host(f"direct={lab.build.module},socket={lab.socket},engine=/nonexistent,nullok")
    assert ran.of("direct") == [f"{SUCCESS if service else UNAVAILABLE} errno kept"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_syscalls_of_a_login(lab: Lab) -> None:
    """Nothing slow between the frames: one look at the directory, one connection, no file opened."""
    lab.serve(grant)
    lab.stack("test", "")
    trace = lab.folder / "trace"
    command = ["strace", "-o", str(trace), str(lab.build.host), str(lab.confdir), "test", "root", "auth"]
    subprocess.run(command, check=True, capture_output=True, env={"LANG": "C.UTF-8"})
    lines = trace.read_text().splitlines()
    start = max(i for i, line in enumerate(lines) if "/etc/passwd" in line or "nsswitch" in line)
    ours = [line.split("(")[0] for line in lines[start:]]
    connect = next(i for i, line in enumerate(lines[start:]) if line.startswith("connect(") and "priv.sock" in line)
    assert sum("/run" in line and "priv.sock" not in line for line in lines[start:]) == 1
    login = ours[connect : connect + next(i for i, name in enumerate(ours[connect:]) if name == "close")]
    free = {"poll", "rt_sigpending"}  # as often as it waits
    free |= {"mmap", "rt_sigprocmask"}  # twice more for the first getrandom() of a process with glibc 2.41
    counts = {name: login.count(name) for name in login if name not in free}
    assert counts == {"connect": 1, "getsockopt": 1, "getrandom": 1, "sendto": 1, "recvfrom": 2}
    assert login.count("rt_sigprocmask") in (2, 4)
    assert {"poll", "rt_sigpending"} < set(login)
