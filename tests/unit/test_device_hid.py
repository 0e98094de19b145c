"""CTAPHID as far as it is ours: which packets count, and where they end."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fido2.hid.base import HidDescriptor

from pam_mfa.devices.base import Failure
from pam_mfa.devices.ctap import Authenticator
from pam_mfa.devices.hid import BUSY_ANSWERS, MAX_MESSAGE, Device, HidConnection, HidNodes, HidPort, connect, describe
from pam_mfa.devices.line import Left, Line, Out, Stranger

CHANNEL, BROADCAST = 0x01020304, 0xFFFFFFFF
INIT, CBOR, CANCEL, KEEPALIVE, ERROR = 0x86, 0x90, 0x91, 0xBB, 0xBF
REPORT = 64
NONCE = b"12345678"
DEADLINE = 20.0


def packet(channel: int, command: int, data: bytes = b"", length: int | None = None) -> bytes:
    """The first report of a message."""
    head = struct.pack(">IBH", channel, command, len(data) if length is None else length)
    return (head + data).ljust(REPORT, b"\0")


def report_sizes(size: int) -> HidDescriptor:
    return HidDescriptor("/dev/hidraw0", 1, 2, size, size, "Key", None)


@pytest.fixture
def key() -> Iterator[Any]:
    """Both ends of a node and of a line, and the connection between."""
    node, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, broker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    node.setblocking(False)
    line = Line(ours, 1, 30)
    connection = HidConnection(node.fileno(), report_sizes(REPORT), line)
    device.settimeout(DEADLINE)
    with node, device, ours, broker:
        yield SimpleNamespace(device=device, broker=broker, line=line, connection=connection)


class TestWhoseItIs:
    def test_ours(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        assert key.device.recv(100) == b"\0" + packet(CHANNEL, CBOR)
        key.device.send(packet(CHANNEL, CBOR, b"answer"))
        assert key.connection.read_packet() == packet(CHANNEL, CBOR, b"answer")

    def test_of_others(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        for other in (packet(CHANNEL + 1, CBOR), packet(BROADCAST, INIT, NONCE), b"short", packet(CHANNEL, CBOR, b"x")):
            key.device.send(other)
        assert key.connection.read_packet() == packet(CHANNEL, CBOR, b"x")

    def test_another_hello(self, key: Any) -> None:
        key.connection.write_packet(packet(BROADCAST, INIT, NONCE))
        key.device.send(packet(BROADCAST, INIT, b"87654321" + bytes(9)))
        key.device.send(packet(BROADCAST, INIT, NONCE + bytes(9)))
        assert NONCE in key.connection.read_packet()

    def test_the_rest_of_a_message_is_no_new_one(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR, length=100))
        key.connection.write_packet(struct.pack(">IB", CHANNEL, 0).ljust(REPORT, b"\xff"))
        key.device.send(packet(CHANNEL, CBOR))
        key.device.send(struct.pack(">IB", CHANNEL, 0).ljust(REPORT, b"\xff"))
        assert key.connection.read_packet()
        assert key.connection.read_packet()


class TestWhereItEnds:
    def test_too_long_a_message(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        key.device.send(packet(CHANNEL, CBOR, length=MAX_MESSAGE))
        assert key.connection.read_packet()
        key.device.send(packet(CHANNEL, CBOR, length=MAX_MESSAGE + 1))
        with pytest.raises(Out, match="NONSENSE"):
            key.connection.read_packet()

    def test_busy_once_too_often(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        for _ in range(BUSY_ANSWERS + 1):
            key.device.send(packet(CHANNEL, ERROR, b"\x06"))
        for _ in range(BUSY_ANSWERS):
            key.connection.read_packet()
        with pytest.raises(Out, match="BUSY"):
            key.connection.read_packet()

    def test_the_node_is_gone(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        key.device.close()
        with pytest.raises(ConnectionResetError):
            key.connection.read_packet()

    def test_silence_is_cancelled_and_then_given_up(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        key.device.recv(100)
        with key.line.within(0.05), pytest.raises(Out) as out:
            key.connection.read_packet()
        assert out.value.why is Failure.SILENT
        assert key.device.recv(100) == b"\0" + packet(CHANNEL, CANCEL)

    def test_a_touch_that_does_not_come(self, key: Any) -> None:
        key.line.touching = True
        key.connection.write_packet(packet(CHANNEL, CBOR))
        with key.line.within(0.05), pytest.raises(Out) as out:
            key.connection.read_packet()
        assert out.value.why is Failure.NOT_TOUCHED

    def test_a_cancelled_one_may_still_answer(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        key.broker.close()
        key.device.recv(100)
        key.device.send(packet(CHANNEL, CBOR, b"\x2d"))
        assert key.connection.read_packet() == packet(CHANNEL, CBOR, b"\x2d")

    def test_nobody_waits_any_more(self, key: Any) -> None:
        key.connection.write_packet(packet(CHANNEL, CBOR))
        key.broker.close()
        with pytest.raises(Left):
            key.connection.read_packet()

    def test_everybody_leaves_before_the_touch_is_told(self, key: Any) -> None:
        """The key is cancelled all the same, and does not go on blinking."""
        device = Device.__new__(Device)  # without its first words
        vars(device).update(_line=key.line, _connection=key.connection, _packet_size=REPORT, _channel_id=CHANNEL)
        say = Authenticator.cue(cast(Authenticator, SimpleNamespace(line=key.line)), False)

        def left(status: int) -> None:
            key.broker.close()
            say(status)

        key.device.send(packet(CHANNEL, KEEPALIVE, b"\x02"))
        key.device.send(packet(CHANNEL, CBOR, b"\x2d"))
        assert device.call(CBOR & 0x7F, b"\x02", None, left) == b"\x2d"
        assert [key.device.recv(100)[5] for _ in range(2)] == [CBOR, CANCEL]

    def test_packets_of_others_keep_nobody(self, key: Any) -> None:
        """However many of them there are, time goes on."""
        key.connection.write_packet(packet(CHANNEL, CBOR))
        over = threading.Event()

        def flood() -> None:
            while not over.is_set():
                if select.select([], [key.device], [], 0.01)[1]:
                    key.device.send(packet(CHANNEL + 1, KEEPALIVE, b"\2"))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            with key.line.within(0.05), pytest.raises(Out):
                key.connection.read_packet()
        finally:
            over.set()
            flooding.join()

    @pytest.mark.parametrize("size", [0, 8, 4096])
    def test_reports_of_another_size(self, key: Any, size: int) -> None:
        with pytest.raises(Stranger):
            connect(0, report_sizes(size), key.line)


class TestNodes:
    def test_what_is_no_hidraw_node(self, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pam_mfa.devices.hid.FOLDER", str(tmp_path))
        for name in ("hidraw0", "tty0"):
            open(os.path.join(tmp_path, name), "w").close()
        os.symlink("nowhere", os.path.join(tmp_path, "hidraw1"))
        (port,) = HidNodes().ports()
        assert port == HidPort(os.path.join(tmp_path, "hidraw0"), os.stat(os.path.join(tmp_path, "hidraw0")).st_ino)

    @pytest.mark.parametrize("page", [b"\x06\xd0\xf1", b"\x05\x01"])
    def test_what_the_kernel_knows(
        self, page: bytes, tmp_path: os.PathLike[str], key: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A keyboard's node is not even opened: here there is none."""
        monkeypatch.setattr("pam_mfa.devices.hid.KNOWN", str(tmp_path))
        with open(os.path.join(tmp_path, "report_descriptor"), "wb") as file:
            file.write(page + bytes.fromhex("0901a1010920150026ff007508954081020921150026ff00750895409102c0"))
        with open(os.path.join(tmp_path, "uevent"), "w") as file:
            file.write("DRIVER=hid-generic\nHID_ID=0003:00001209:0000F1D0\nHID_NAME=Maker = Key\n")
        path = os.path.join(tmp_path, "hidraw0")
        if len(page) == 3:
            found = describe(path)
            assert (found.report_size_in, found.report_size_out, found.product_name) == (64, 64, "Maker = Key")
        with pytest.raises(Stranger if len(page) == 2 else FileNotFoundError), HidPort(path, 1).opened(key.line):
            pass

    def test_it_is_not_opened_further(self, tmp_path: os.PathLike[str], key: Any) -> None:
        path = os.path.join(tmp_path, "hidraw0")
        open(path, "w").close()
        with pytest.raises((Stranger, OSError)), HidPort(path, 1).opened(key.line):
            pass
