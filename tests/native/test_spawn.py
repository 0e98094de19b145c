"""The engine's start, with a stub in its place: when it is asked, when it never is, and what it is given."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim import AUTH_ERR, CONV_ERR, ECHO_OFF, SUCCESS, UNAVAILABLE, Lab, Peer, Ran, eventually, finish, until_line

from pam_mfa import wire
from pam_mfa.outcome import Outcome

CODE = "answer=text:123456"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def _granted_by_engine(lab: Lab, ran: Ran) -> bool:
    return ran.code == SUCCESS and ran.shown == [(ECHO_OFF, "Engine's code: ")] and lab.report is not None


def _report(lab: Lab, word: str) -> list[str]:
    assert lab.report is not None
    lines = [re.split(r":?[ \t]", line, maxsplit=1) for line in lab.report]
    return [rest.strip() for name, rest in lines if name == word]


def test_no_socket(lab: Lab) -> None:
    lab.install_stub("grant")
    ran = lab.host(CODE, "auth")
    assert _granted_by_engine(lab, ran)
    assert len(ran.log) == 1, "that the service is not there is worth a line"


def test_no_directory(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.run.rmdir()
    assert _granted_by_engine(lab, lab.host(CODE, "auth"))


def test_nobody_listens(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.listen().close()
    assert _granted_by_engine(lab, lab.host(CODE, "auth"))


def test_full_backlog(lab: Lab) -> None:
    """A second of waiting, then the engine."""
    lab.install_stub("grant")
    listener = lab.listen(backlog=0)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.setblocking(False)
        waiting.append(client)
        try:
            client.connect(str(lab.socket))
        except BlockingIOError:
            break
    ran = lab.host(CODE, "auth")
    assert _granted_by_engine(lab, ran)
    assert ran.took >= 0.9
    for client in [*waiting, listener]:
        client.close()


def test_service_that_is_silent_after_hello(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.take_hello()
        assert peer.gone()

    lab.install_stub("grant")
    lab.serve(serve)
    ran = lab.host(CODE, "auth")
    assert _granted_by_engine(lab, ran)
    assert ran.took >= 1.9


def test_service_that_dies_before_its_first_frame(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.serve(lambda peer: None)
    assert _granted_by_engine(lab, lab.host(CODE, "auth"))


def test_engine_gets_a_nonce_of_its_own(lab: Lab) -> None:
    """The service's late grant, had it been heard, would not fit the engine's session."""
    nonces: list[bytes] = []
    lab.install_stub("deny")
    lab.serve(lambda peer: nonces.append(peer.take_hello().nonce))
    assert lab.host(CODE, "auth").code == AUTH_ERR
    assert nonces != [bytes.fromhex(nonce) for nonce in _report(lab, "nonce")]


@pytest.mark.parametrize("mode", ["deny", "exit"])
def test_engine_that_does_not_grant(lab: Lab, mode: str) -> None:
    lab.install_stub(mode)
    assert lab.host(CODE, "auth").code == (AUTH_ERR if mode == "deny" else UNAVAILABLE)


def test_engine_that_is_silent(lab: Lab) -> None:
    """Five seconds for its first frame; then it is ended and leaves nothing behind."""
    lab.install_stub("mute")
    ran = lab.host("state", CODE, "auth", "same", "children")
    assert ran.code == UNAVAILABLE
    assert ran.took >= 4.9
    assert (ran.of("state"), ran.of("wait_all")) == (["same"], ["none sigchld 0"])


def test_conversation_fails_at_the_engines_prompt(lab: Lab) -> None:
    lab.install_stub("grant")
    assert lab.host("answer=error", "auth").code == CONV_ERR


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_engine_that_does_not_leave_is_ended(lab: Lab) -> None:
    lab.install_stub("linger")
    ran = lab.host(CODE, "auth", "children")
    assert _granted_by_engine(lab, ran)
    assert ran.took >= 0.9
    assert ran.of("wait_all") == ["none sigchld 0"]
    pids = [int(_report(lab, word)[0]) for word in ("pid", "parent")]
    assert eventually(lambda: not any(map(_alive, pids)))


def test_engine_dies_with_its_host(lab: Lab) -> None:
    lab.install_stub("mute")
    host = lab.start(CODE, "auth")
    assert eventually(lambda: bool(lab.report) and bool(_report(lab, "parent")))
    pids = [int(_report(lab, word)[0]) for word in ("pid", "parent")]
    assert all(map(_alive, pids))
    host.kill()
    finish(host)
    assert eventually(lambda: not any(map(_alive, pids)))


def test_what_the_engine_is_given(lab: Lab) -> None:
    """Nothing of the host but its session: one socket, two fixed variables, root, default signals."""
    lab.install_stub("grant")
    steps = ["env=LD_PRELOAD=/tmp/x.so", "env=PYTHONPATH=/tmp", "env=PCSCLITE_CSOCK_NAME=/tmp/x", "umask=000",
             "cwd=/proc", "ignore=PIPE", "block=TERM", "handle=USR1", "limit=CORE:1000000",
             "close=0", "close=2"]  # fmt: skip
    assert lab.host(*steps, CODE, "auth").code == SUCCESS
    fds = _report(lab, "fd")
    assert [fd.split()[0] for fd in fds] == ["0", "1", "2", "3"]
    assert [fd.split()[1] for fd in fds[:3]] == ["/dev/null"] * 3
    assert fds[3].split()[1].startswith("socket:")
    assert _report(lab, "argv") == ["pam-mfa-engine"]
    assert _report(lab, "env") == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    assert _report(lab, "cwd") == ["/"]
    assert _report(lab, "Umask") == ["0077"]
    assert _report(lab, "core") == ["0 0"]
    assert _report(lab, "death") == [str(int(signal.SIGKILL))]
    assert _report(lab, "session") == ["supervisor's"]
    assert [_report(lab, word) for word in ("SigBlk", "SigIgn", "SigCgt")] == [["0" * 16]] * 3


def test_ids_are_all_roots(tmp_path: Path) -> None:
    """A host that is set-user-ID: its real uid may not signal what runs for it."""
    with Lab(tmp_path) as lab:
        lab.install_stub("grant")
        assert lab.host("groups=65534,1000", "ruid=65534", CODE, "auth").code == SUCCESS
        assert [_report(lab, word) for word in ("Uid", "Gid", "Groups")] == [["0\t0\t0\t0"], ["0\t0\t0\t0"], [""]]


@pytest.mark.parametrize("fds", [[], [0], [0, 1, 2], [1], [0, 2]])
@pytest.mark.parametrize("limit", [5, 6, 7, 1024])
def test_hosts_descriptors(lab: Lab, fds: list[int], limit: int) -> None:
    """Wherever the socket lands. With too few descriptors nobody is let in, and nothing is left behind."""
    lab.install_stub("grant")
    ran = lab.host(*(f"close={fd}" for fd in fds), f"limit=NOFILE:{limit}", "state", CODE, "auth", "same", "children")
    assert ran.of("state") == ["same"] or limit < 7  # to look at them takes descriptors too
    assert ran.of("wait_all") == ["none sigchld 0"]
    if limit > 5:
        assert _granted_by_engine(lab, ran)
        assert [fd.split()[0] for fd in _report(lab, "fd")] == ["0", "1", "2", "3"]
    else:
        assert ran.code != SUCCESS


@pytest.mark.parametrize("steps", [["ignore=CHLD"], ["handle=CHLD"], ["block=CHLD"], ["storm=1"], []], ids=" ".join)
def test_host_never_sees_the_child(lab: Lab, steps: list[str]) -> None:
    lab.install_stub("grant")
    ran = lab.host(*steps, "state", CODE, "auth", "same", "children")
    assert _granted_by_engine(lab, ran)
    assert ran.of("state") == ["same"]
    assert (ran.of("wait"), ran.of("wait_all")) == (["none"], ["none sigchld 0"])


def test_eight_threads_with_an_engine_each(lab: Lab) -> None:
    lab.install_stub("grant")
    ran = lab.host("state", CODE, "threads=8", "same", "children")
    assert ran.codes() == [SUCCESS] * 8
    assert (ran.of("state"), ran.of("wait_all")) == (["same"], ["none sigchld 0"])


def test_fifty_engines_one_after_the_other(lab: Lab) -> None:
    lab.install_stub("grant")
    ran = lab.host("state", CODE, "repeat=50", "same", "children")
    assert ran.of("repeat")[0].startswith("50 granted 50 ")
    assert (ran.of("state"), ran.of("wait_all")) == (["same"], ["none sigchld 0"])


@pytest.mark.parametrize("wrong", ["mode", "owner", "link", "directory", "missing", "not executable", "no program"])
def test_engine_that_may_not_be_started(lab: Lab, wrong: str) -> None:
    lab.install_stub("grant")
    if wrong == "mode":
        lab.engine.chmod(0o775)
    elif wrong == "owner":
        os.chown(lab.engine, 65534, 0)
    elif wrong == "not executable":
        lab.engine.chmod(0o644)
    elif wrong == "no program":
        lab.engine.write_text("no program at all")
    else:
        lab.engine.rename(lab.folder / "elsewhere")
    if wrong == "link":
        lab.engine.symlink_to(lab.folder / "elsewhere")
    elif wrong == "directory":
        lab.engine.mkdir()
    ran = lab.host("state", CODE, "auth", "same", "children")
    assert ran.code == UNAVAILABLE
    assert len(ran.log) == 2
    assert lab.report is None
    assert (ran.of("state"), ran.of("wait_all")) == (["same"], ["none sigchld 0"])


def test_total_deadline_holds_for_the_engine(lab: Lab) -> None:
    lab.install_stub("grant")
    ran = lab.host("answer=clock:180:123456", "auth")
    assert ran.code == UNAVAILABLE


def test_signal_before_the_first_frame_starts_no_engine(lab: Lab) -> None:
    waiting = threading.Event()

    def serve(peer: Peer) -> None:
        peer.take_hello()
        waiting.set()
        assert peer.frame() == (wire.Type.ABORT, b"")

    lab.install_stub("grant")
    lab.serve(serve)
    host = lab.start("handle=INT", "block=INT", CODE, "auth")
    assert waiting.wait(20)
    host.send_signal(signal.SIGINT)
    finish(host)
    assert lab.report is None


@pytest.mark.parametrize("outcome", [Outcome.UNAVAILABLE, Outcome.DENIED, Outcome.TRIES_SPENT])
def test_services_word_is_final(lab: Lab, outcome: Outcome) -> None:
    def serve(peer: Peer) -> None:
        peer.take_hello()
        peer.result(outcome)

    lab.install_stub("grant")
    lab.serve(serve)
    assert lab.host(CODE, "auth").code != SUCCESS
    assert lab.report is None


def test_interrupted_engine(lab: Lab) -> None:
    """Ctrl-C while the engine works: it is told, and gone when the call returns."""
    lab.install_stub("mute")
    host = lab.start("handle=INT", "block=INT", "auth", "children")
    until_line(host, "log")
    assert eventually(lambda: lab.report is not None)
    host.send_signal(signal.SIGINT)
    ran = finish(host)
    assert ran.of("wait_all") == ["none sigchld 0"]
