"""Virtual keys as hidraw nodes of an umockdev testbed; the program that Keys (keys.py) starts.

    umockdev-wrapper python -m vdev.umock CONTROL-SOCKET

It prints the testbed's directory once the control socket listens, and ends with its standard input. A client sees the
nodes with the environment LD_PRELOAD=libumockdev-preload.so.0 and UMOCKDEV_DIR=<that directory>.

A node is a terminal: each report goes to one reader, where a real hidraw copies it to every open descriptor. A key gets
a new number each time that it is plugged in: the testbed takes none twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .authenticator import Authenticator
from .control import Control
from .hid import FIRST_CHANNEL, REPORT, Hid

sys.path.append("/usr/lib/python3/dist-packages")  # of the distribution: bindings cannot be had from elsewhere
import gi  # type: ignore[import-not-found]

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # type: ignore[import-not-found]  # noqa: E402

REPORT_DESCRIPTOR = bytes.fromhex("06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0")
VENDOR, PRODUCT = 0x1209, 0xF1D0
HIDIOCGRDESCSIZE, HIDIOCGRDESC = 0x80044801, 0x90044802
HIDIOCGRAWINFO = 0x80084803
HIDIOCGRAWNAME, HIDIOCGRAWPHYS, HIDIOCGRAWUNIQ = 0x04, 0x05, 0x08  # numbers; the size is the caller's
BUS_USB = 3
ENOTTY = 25
TIOCGPTN = 0x80045430
TIOCGPTPEER = 0x5441  # termios has it from Python 3.13 on
WRITTEN = REPORT + 1  # with the report id in front

RECORD = """\
P: /devices/vdev/usb1/1-{n}/1-{n}:1.0/0003:1209:F1D0.{n:04X}/hidraw/hidraw{n}
N: hidraw{n}
E: DEVNAME=/dev/hidraw{n}
E: MAJOR=240
E: MINOR={n}
E: SUBSYSTEM=hidraw
E: ID_FIDO_TOKEN=1
E: ID_SECURITY_TOKEN=1
A: dev=240:{n}
L: device=../../../0003:1209:F1D0.{n:04X}

P: /devices/vdev/usb1/1-{n}/1-{n}:1.0/0003:1209:F1D0.{n:04X}
E: DRIVER=hid-generic
E: HID_ID=0003:{vendor:08X}:{product:08X}
E: HID_NAME={name}
E: HID_PHYS=usb-vdev-{n}/input0
E: HID_UNIQ={serial}
E: SUBSYSTEM=hid
H: report_descriptor={descriptor}

P: /devices/vdev/usb1/1-{n}/1-{n}:1.0
E: DEVTYPE=usb_interface
E: DRIVER=usbhid
E: SUBSYSTEM=usb

P: /devices/vdev/usb1/1-{n}
E: DEVTYPE=usb_device
E: DRIVER=usb
E: SUBSYSTEM=usb
A: idVendor={vendor:04x}
A: idProduct={product:04x}
A: manufacturer=pam-mfa
A: product={name}
A: serial={serial}
"""


class Ioctls(UMockdev.IoctlBase):  # type: ignore[misc]
    """Answers what a client asks of a hidraw node, and tells when one has opened it."""

    def __init__(self, name: str, serial: str, opened: Callable[[], None]) -> None:
        super().__init__()
        self._opened = opened
        self._texts = {
            HIDIOCGRAWNAME: name.encode() + b"\0",
            HIDIOCGRAWPHYS: b"usb-vdev/input0\0",
            HIDIOCGRAWUNIQ: serial.encode() + b"\0",
        }

    # The binding's names.

    def do_client_connected(self, client: Any) -> None:
        self._opened()

    def do_handle_ioctl(self, client: Any) -> bool:
        request = client.get_request() & 0xFFFFFFFF
        answer = self._answer(request)
        if answer is None:
            client.complete(-1, ENOTTY)
            return True
        size = request >> 16 & 0x3FFF
        answer = answer[:size]
        client.get_arg().resolve(0, size).update(0, list(answer))
        client.complete(len(answer) if request & 0xFF in self._texts else 0, 0)
        return True

    def _answer(self, request: int) -> bytes | None:
        match request:
            case _ if request == HIDIOCGRAWINFO:
                return struct.pack("<IHH", BUS_USB, VENDOR, PRODUCT)
            case _ if request == HIDIOCGRDESCSIZE:
                return struct.pack("<I", len(REPORT_DESCRIPTOR))
            case _ if request == HIDIOCGRDESC:
                return struct.pack("<I", len(REPORT_DESCRIPTOR)) + REPORT_DESCRIPTOR
        return self._texts.get(request & 0xFF) if request >> 8 & 0xFF == ord("H") else None


class Node:
    """A key that is plugged in."""

    def __init__(self, testbed: Any, number: int, name: str, authenticator: Authenticator) -> None:
        serial = f"{number:08d}"
        facts = {"n": number, "name": name, "serial": serial, "vendor": VENDOR, "product": PRODUCT}
        record = RECORD.format(descriptor=REPORT_DESCRIPTOR.hex().upper(), **facts)
        testbed.add_from_string(record)
        self._testbed = testbed
        self._path = f"/dev/hidraw{number}"
        self._devices = [line.removeprefix("P: ") for line in record.splitlines() if line.startswith("P: ")]
        self._authenticator = authenticator
        self._master = testbed.get_dev_fd(self._path)
        self._slave = _open_peer(self._master)
        self._stop_read, self._stop_write = os.pipe()
        self._writing = threading.Lock()
        self._abandoned = range(0)  # channels of clients that have gone
        self._hid = Hid(authenticator, self._write)
        testbed.attach_ioctl(self._path, Ioctls(name, serial, self._opened))
        self._permit()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def remove(self) -> None:
        """Pull it out: clients get EIO."""
        os.write(self._stop_write, b"x")
        self._reader.join()
        self._hid.close()
        self._testbed.detach_ioctl(self._path)
        for device in self._devices:  # the deepest one comes first
            self._testbed.remove_device(f"/sys{device}")
        # The testbed remembers both the descriptor and the terminal's number, and the system gives the latter anew.
        Path(self._testbed.get_root_dir(), f"dev/.ptymap/_dev_pts_{_terminal(self._master)}").unlink(missing_ok=True)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), self._master)
        for descriptor in (self._slave, self._stop_read, self._stop_write):
            os.close(descriptor)
        self._authenticator.power_cycle()

    def _permit(self) -> None:
        """Let every user at it, as a udev rule would; the real rights are tested elsewhere."""
        os.fchmod(self._slave, 0o666)
        root = Path(self._testbed.get_root_dir())
        for path in (root, *root.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() else 0o666)

    def _read(self) -> None:
        rest = b""
        while True:
            ready = select.select([self._master, self._stop_read], [], [])[0]
            if self._stop_read in ready:
                return
            rest += os.read(self._master, 4096)
            while len(rest) >= WRITTEN:
                report, rest = rest[:WRITTEN], rest[WRITTEN:]
                self._hid.receive(report)

    def _opened(self) -> None:
        """A client comes. As with a real node it gets nothing that was meant for one before it.

        That one may still be at work; it then holds the lock that libfido2 and we take on a node before the first word.
        """
        channels = range(FIRST_CHANNEL, self._hid.next_channel)
        with self._writing:
            if not _is_locked(self._slave):
                self._abandoned = channels
                termios.tcflush(self._slave, termios.TCIFLUSH)

    def _write(self, report: bytes) -> None:
        """One report; waits while the client does not read. Raises OSError when the key is pulled out."""
        channel, left = int.from_bytes(report[:4], "big"), report
        while left:
            if select.select([self._stop_read], [self._master], [])[0]:
                raise OSError("pulled out")
            with self._writing, contextlib.suppress(BlockingIOError):
                if channel in self._abandoned:
                    return
                left = left[os.write(self._master, left) :]


def _open_peer(master: int) -> int:
    """The client's side of a terminal, made raw. It stays open: a terminal that nobody has open reads as an error."""
    slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    modes = termios.tcgetattr(slave)
    modes[0] = modes[1] = modes[3] = 0
    modes[6][termios.VMIN] = REPORT  # a client never reads half a report
    modes[6][termios.VTIME] = 0
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    os.set_blocking(master, False)
    return slave


def _is_locked(slave: int) -> bool:
    """Whether somebody holds an flock on it."""
    status = os.fstat(slave)
    place = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
    return any("FLOCK" in line and place in line for line in Path("/proc/locks").read_text().splitlines())


def _terminal(master: int) -> int:
    """Number of a terminal in /dev/pts."""
    (number,) = struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
    return int(number)


def main() -> None:
    """See the module's text."""
    testbed = UMockdev.Testbed.new()
    numbers = iter(range(1000))

    def plug(name: str, authenticator: Authenticator) -> Node:
        return Node(testbed, next(numbers), name, authenticator)

    with Control(sys.argv[1], plug):
        print(testbed.get_root_dir(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
