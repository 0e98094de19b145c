"""The engine's way to its own broker: a descriptor for each request, the first one ahead of time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_mfa import engine
from pam_mfa.devices.base import Idle, List
from pam_mfa.devices.codec import decode, encode
from pam_mfa.errors import Gone
from pam_mfa.service import broker as module, single
from pam_mfa.service.broker import Broker
from pam_mfa.service.devices import Line


class Other:
    """The C part's end: it takes the connections."""

    def __init__(self, folder: Path) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = theirs
        self._theirs.setblocking(False)
        self.folder = folder
        self.broker = Broker(self.ours.fileno())

    def taken(self) -> socket.socket:
        """The next connection. Raises BlockingIOError."""
        _, (fd,), _, _ = socket.recv_fds(self._theirs, 1, 1)
        return socket.socket(fileno=fd)

    def none(self) -> bool:
        """Whether there is no other one."""
        with pytest.raises(BlockingIOError):
            self.taken()
        return True

    def leave(self) -> None:
        self._theirs.close()


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Other]:
    monkeypatch.setattr(module, "NODES", str(tmp_path))
    monkeypatch.setattr(module, "PCSCD", str(tmp_path / "pcscd.comm"))
    one = Other(tmp_path)
    yield one
    one.leave()
    one.ours.close()


def answers(line: Line, taken: socket.socket) -> bool:
    """Whether these are the ends of one connection."""
    with taken:
        line.send(List(5))
        taken.send(encode(Idle(0)))
        same = decode(taken.recv(100)) == List(5) and line.receive() == Idle(0)
    line.close()
    return same


def test_each_request_has_a_connection(other: Other) -> None:
    for _ in range(2):
        line = other.broker.connect()
        assert answers(line, other.taken())


@pytest.mark.parametrize("there", ["hidraw3", "pcscd.comm"])
def test_the_first_one_is_ahead_where_a_device_may_be(other: Other, there: str) -> None:
    (other.folder / there).touch()
    other.broker.begin()
    ahead = other.taken()
    line = other.broker.connect()
    assert other.none()
    assert answers(line, ahead)
    line = other.broker.connect()
    assert answers(line, other.taken())


def test_no_device_can_be_there(other: Other) -> None:
    (other.folder / "tty0").touch()
    other.broker.begin()
    assert other.none()


def test_it_did_not_wait_so_long(other: Other) -> None:
    (other.folder / "hidraw0").touch()
    other.broker.begin()
    other.taken().close()
    line = other.broker.connect()
    assert answers(line, other.taken())


def test_there_is_none(other: Other) -> None:
    (other.folder / "hidraw0").touch()
    other.leave()
    other.broker.begin()
    with pytest.raises(Gone, match="no_device_service"):
        other.broker.connect()


@pytest.mark.parametrize(("role", "fd", "begun"), [("engine", 5, [5]), ("engine", None, []), ("manage", 5, [])])
def test_only_a_login_begins_ahead(
    monkeypatch: pytest.MonkeyPatch, role: str, fd: int | None, begun: list[int]
) -> None:
    """Which commands of root's have devices at all is not known yet."""
    found: list[int] = []

    class Noted(Broker):
        def begin(self) -> None:
            found.append(self._fd)

    def no_key() -> bytes:
        raise AssertionError("no key")

    monkeypatch.setattr(engine, "Broker", Noted)
    monkeypatch.setattr(single, "take_key", no_key)
    with pytest.raises(AssertionError, match="no key"):
        engine.run(role, {"verify": 7} | ({"devices": fd} if fd else {}))
    assert found == begun
