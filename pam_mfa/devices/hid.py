"""USB keys: hidraw nodes, and python-fido2's CTAPHID over a connection that ends (CTAP 2.1 section 11.2)."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fido2.ctap import CtapError
from fido2.hid import CTAPHID, TYPE_INIT, CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor, parse_report_descriptor

from .authenticator import serve
from .base import Failure, Request, Sign, Transport
from .ctap import Authenticator
from .line import GRACE, QUIET_SECONDS, Line, Out, Stranger

FOLDER = "/dev"
KNOWN = "/sys/class/hidraw/{}/device"  # what the kernel has read of a device
MAX_DESCRIPTOR = 4096  # HID_MAX_DESCRIPTOR_SIZE
MAX_MESSAGE = 7609  # 64 - 7 + 128 * (64 - 5), section 11.2.4
REPORT_SIZES = range(16, 1025)
LOCK_TRIES = 20
LOCK_SECONDS = 3.0  # as long as libfido2 goes on is longer than a user goes on believing that something happens
BUSY_ANSWERS = 20  # one each tenth of a second
BROADCAST = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class HidPort:
    """A hidraw node. Another key that gets the same name later has another inode."""

    path: str
    inode: int
    transport = Transport.USB

    @contextmanager
    def opened(self, line: Line) -> Iterator[tuple[CtapHidDevice, str]]:
        """The device and its name. Raises Stranger, Out, OSError and whatever python-fido2 makes of its answers."""
        try:
            descriptor = describe(self.path)
            node = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except (ValueError, struct.error, PermissionError):  # no usage page F1D0, or not for us
            raise Stranger from None
        try:
            lock(node, line)
            yield connect(node, descriptor, line)
        finally:
            os.close(node)

    def takes(self, request: Request) -> bool:
        """No card is there."""
        return not isinstance(request, Sign)

    def serve(self, request: Request, line: Line) -> None:
        """As Port has it."""
        with self.opened(line) as (device, name):
            serve(Authenticator(device, self.transport, name, line), request)


class HidNodes:
    """Where HID devices may be: those nodes that udev lets this user open."""

    def start(self, _: object) -> None:
        """Nothing: looking is cheap."""

    def stop(self) -> None:
        """Nothing."""

    def ports(self) -> frozenset[HidPort]:
        """Those that are there now."""
        with os.scandir(FOLDER) as entries:
            paths = [entry.path for entry in entries if entry.name.startswith("hidraw")]
        found = set()
        for path in paths:
            try:
                if os.access(path, os.R_OK | os.W_OK):
                    found.add(HidPort(path, os.stat(path).st_ino))
            except OSError:
                continue  # gone while we looked
        return frozenset(found)


def describe(path: str) -> HidDescriptor:
    """What the kernel says of a node: that takes no word with the device, and no node of another kind is opened.

    Raises ValueError or struct.error for one that is no authenticator's, OSError for one that is gone.
    """
    folder = KNOWN.format(os.path.basename(path))
    with open(f"{folder}/report_descriptor", "rb") as file:
        sizes = parse_report_descriptor(file.read(MAX_DESCRIPTOR))
    with open(f"{folder}/uevent", encoding="utf-8", errors="replace") as file:
        facts = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    return HidDescriptor(path, 0, 0, *sizes, facts.get("HID_NAME"), None)


def lock(node: int, line: Line) -> None:
    """Take the lock that libfido2 takes. Raises Out(BUSY)."""
    with line.within(LOCK_SECONDS):
        for number in range(LOCK_TRIES):
            try:
                fcntl.flock(node, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if line.wait(0.1 * (number + 1)):
                    break
    if line.left:
        line.give_up()
    raise Out(Failure.BUSY)


def connect(node: int, descriptor: HidDescriptor, line: Line) -> tuple[CtapHidDevice, str]:
    """python-fido2's device on an open node, and its name."""
    if descriptor.report_size_in not in REPORT_SIZES or descriptor.report_size_out not in REPORT_SIZES:
        raise Stranger
    with line.within(QUIET_SECONDS):
        device = Device(descriptor, HidConnection(node, descriptor, line), line)
    return device, descriptor.product_name or ""


class Device(CtapHidDevice):
    """Has the line as the event that cancels every call, also those that python-fido2 cannot cancel."""

    def __init__(self, descriptor: HidDescriptor, connection: CtapHidConnection, line: Line) -> None:
        self._line = line
        super().__init__(descriptor, connection)

    def call(self, cmd: int, data: bytes = b"", event: Any = None, on_keepalive: Any = None) -> bytes:
        """As python-fido2 has it."""
        return super().call(cmd, data, self._line, on_keepalive)  # type: ignore[arg-type]


class HidConnection(CtapHidConnection):
    """Reads reports, but no further than a device may go on.

    Packets of other channels are skipped: whoever else has the node open gets copies of ours, and we of theirs.
    """

    def __init__(self, node: int, descriptor: HidDescriptor, line: Line) -> None:
        self._node = node
        self._size = descriptor.report_size_in
        self._out = descriptor.report_size_out
        self._line = line
        self._sent = b""
        self._busy = 0
        self._poll = select.poll()
        self._poll.register(node, select.POLLIN)
        self._poll.register(line.fileno(), select.POLLRDHUP)

    def write_packet(self, data: bytes) -> None:
        """One report, behind the report id 0."""
        if data[4] & TYPE_INIT:
            self._sent = data
        if os.write(self._node, b"\0" + data) != len(data) + 1:
            raise OSError("half a report was written")

    def read_packet(self) -> bytes:
        """The next one that is ours. Raises Out, Left, OSError."""
        while True:
            self._line.check()
            packet = self._read()
            if self._is_ours(packet):
                self._bound(packet)
                return packet

    def close(self) -> None:
        """Nothing: who opened the node closes it."""

    def _read(self) -> bytes:
        self._await()
        try:
            packet = os.read(self._node, self._size)
        except BlockingIOError:
            return b""
        if not packet:
            raise OSError("the node has ended")
        return packet

    def _await(self) -> None:
        """Until there is a report. What came to its limit meanwhile is cancelled, once, and has to react."""
        if not self._line.is_set():
            ready = dict(self._poll.poll(self._line.remaining() * 1000 + 1))
            if self._node in ready:
                return
            self._cancel()
        if self._ready(GRACE):
            return
        self._line.give_up()

    def _ready(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._node, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _cancel(self) -> None:
        packet = self._sent[:4] + bytes([TYPE_INIT | CTAPHID.CANCEL])
        os.write(self._node, b"\0" + packet.ljust(self._out, b"\0"))

    def _is_ours(self, packet: bytes) -> bool:
        if len(packet) < 8 or packet[:4] != self._sent[:4]:
            return False
        is_init = packet[4] == TYPE_INIT | CTAPHID.INIT
        return not (is_init and packet[:4] == BROADCAST) or packet[7:15] == self._sent[7:15]

    def _bound(self, packet: bytes) -> None:
        command, length = struct.unpack_from(">BH", packet, 4)
        if command & TYPE_INIT and length > MAX_MESSAGE:
            raise Out(Failure.NONSENSE)
        if command == TYPE_INIT | CTAPHID.ERROR and packet[7] == CtapError.ERR.CHANNEL_BUSY:
            self._busy += 1
            if self._busy > BUSY_ANSWERS:
                raise Out(Failure.BUSY)
