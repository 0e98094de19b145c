"""Whom the shim talks to: a listener that is root, in a directory that is root's alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim import SUCCESS, UNAVAILABLE, Lab, Peer, eventually, grant

from pam_mfa import wire
from pam_mfa.outcome import Outcome

LOG_ALERT = 1


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def ask(peer: Peer) -> None:
    """A service that asks one question and grants."""
    peer.greet()
    assert peer.ask() == b"123456"
    peer.result(Outcome.GRANTED)


def test_listener_that_is_not_root(lab: Lab) -> None:
    received: list[bytes] = []
    lab.install_stub("grant")
    lab.serve(lambda peer: received.append(peer.connection.recv(wire.RECEIVE_SIZE)), listener_uid=65534)
    ran = lab.host("auth")
    assert ran.code == UNAVAILABLE
    assert eventually(lambda: bool(received))
    assert received == [b""], "not a byte is sent to it"
    assert ran.priorities == [LOG_ALERT]
    assert lab.report is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_directory_that_others_may_write_to(lab: Lab, mode: int) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    lab.run.chmod(mode)
    ran = lab.host("auth")
    assert ran.code == UNAVAILABLE
    assert ran.priorities == [LOG_ALERT]
    assert (lab.hellos, lab.report) == ([], None)


def test_directory_of_somebody_else(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    os.chown(lab.run, 65534, 0)
    assert lab.host("auth").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


def test_directory_that_is_a_link(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    lab.run.rename(lab.folder / "real")
    lab.run.symlink_to(lab.folder / "real")
    assert lab.host("auth").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


@pytest.mark.parametrize("path", ["run/priv.sock", "/priv.sock", "", "/" + "x" * 60 + "/" + "y" * 60])
def test_socket_argument_that_is_no_path(lab: Lab, path: str) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    assert lab.host("auth", arguments=f"socket={path}").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


def test_host_without_root() -> None:
    """A lock screen: it may ask the service, but never gets an engine."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        lab.folder.chmod(0o755)
        lab.install_stub("grant")
        lab.serve(ask)
        assert lab.host("euid=65534", "answer=text:123456", "auth", user="nobody").code == SUCCESS
        lab.stop()
        lab.socket.unlink()
        ran = lab.host("euid=65534", "answer=text:123456", "auth", user="nobody")
        assert ran.code == UNAVAILABLE
        assert len(ran.log) == 1, "the engine is not even asked"
        assert lab.report is None
