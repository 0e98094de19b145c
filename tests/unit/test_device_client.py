"""The session's side of the device service: whose socket it is, and what may come out of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_mfa.devices.base import Choose, Idle, List, Pin, Touch
from pam_mfa.devices.client import Client
from pam_mfa.devices.codec import decode, encode
from pam_mfa.errors import Gone, ProtocolError

NOBODY = 65534


@pytest.fixture
def service() -> Iterator[tuple[Client, socket.socket]]:
    """A client, and the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = Client(ours)
    with theirs:
        yield client, theirs
    client.close()


def listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(str(path))
    made.listen(0)
    return made


class TestTalking:
    def test_what_is_said_arrives(self, service: tuple[Client, socket.socket]) -> None:
        client, other = service
        for said in (List(5), Pin(1, "1234"), Choose()):
            client.send(said)
            assert decode(other.recv(65536)) == said

    def test_replies_come_one_by_one(self, service: tuple[Client, socket.socket]) -> None:
        client, other = service
        assert client.receive() is None
        for reply in (Touch(1, False), Idle(1)):
            other.send(encode(reply))
        assert [client.receive() for _ in range(3)] == [Touch(1, False), Idle(1), None]

    @pytest.mark.parametrize("packet", [b"x", encode(List(5)), encode(Choose()), encode(Idle(1)) + b"x", bytes(70000)])
    def test_what_is_no_reply_ends_it(self, service: tuple[Client, socket.socket], packet: bytes) -> None:
        client, other = service
        other.send(packet)
        with pytest.raises(Gone, match="device_service_nonsense"):
            client.receive()

    def test_an_end_is_an_end(self, service: tuple[Client, socket.socket]) -> None:
        client, other = service
        other.close()
        with pytest.raises(Gone, match="device_service_gone"):
            client.receive()
        with pytest.raises(Gone, match="device_service_gone"):
            client.send(List(5))

    def test_a_request_that_no_packet_holds(self, service: tuple[Client, socket.socket]) -> None:
        with pytest.raises(ProtocolError):
            service[0].send(Pin(1, "x" * 70000))

    def test_a_pin_is_in_no_text(self, service: tuple[Client, socket.socket]) -> None:
        assert "1234" not in repr(Pin(1, "1234"))


class TestWhoseItIs:
    def test_a_service_that_root_made(self, tmp_path: Path) -> None:
        with listener(tmp_path / "device.sock") as door:
            client = Client(tmp_path / "device.sock")
            assert client.fileno() >= 0
            with door.accept()[0] as other:
                other.send(encode(Idle(0)))
                assert client.receive() == Idle(0)
            client.close()

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(Gone, match="no_device_service"):
            Client(tmp_path / "device.sock")
        listener(tmp_path / "device.sock").close()
        with pytest.raises(Gone, match="no_device_service"):
            Client(tmp_path / "device.sock")

    def test_too_many_wait_already(self, tmp_path: Path) -> None:
        with listener(tmp_path / "device.sock"):
            first = Client(tmp_path / "device.sock")
            with pytest.raises(Gone, match="device_service_busy"):
                Client(tmp_path / "device.sock")
            first.close()

    def test_somebody_else_listens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A PIN would go there."""
        place = tmp_path / "theirs"
        place.mkdir()
        os.chown(place, NOBODY, NOBODY)
        monkeypatch.chdir(place)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            os.seteuid(NOBODY)
            try:
                door.bind("device.sock")
                door.listen()
            finally:
                os.seteuid(0)
            with pytest.raises(Gone, match="device_service_untrusted"):
                Client("device.sock")


def test_a_login_without_devices_imports_none_of_their_stacks() -> None:
    code = (
        "import sys, pam_mfa.devices.client; sys.exit(len({'fido2', 'smartcard', 'cryptography'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
