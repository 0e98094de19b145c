"""A device broker in a process of its own: the product's, or one that sees the keys of a folder.

    python device_broker.py [FOLDER]

Its standard input is the listening socket. In FOLDER each socket is a key: whoever connects is given a descriptor that
serves as the key's hidraw node (devices_bench.MemoryKey).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fido2.hid import CtapHidDevice
from fido2.hid.base import HidDescriptor

from pam_mfa.devices import hid, readers
from pam_mfa.devices.line import Line
from pam_mfa.devices.service import Broker, serve

REPORT = 64


@dataclass(frozen=True)
class FolderPort(hid.HidPort):
    """One key of the folder."""

    @contextmanager
    def opened(self, line: Line) -> Iterator[tuple[CtapHidDevice, str]]:
        """As HidPort does. Descriptors of one socket share its lock, so a file stands for it."""
        hid.lock(os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR, 0o600), line)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.connect(self.path)
            _, (node,), _, _ = socket.recv_fds(door, 1, 1)
        os.set_blocking(node, False)
        yield hid.connect(node, HidDescriptor(self.path, 0, 0, REPORT, REPORT, os.path.basename(self.path), None), line)


class Folder:
    """A place where keys turn up."""

    def __init__(self, path: str) -> None:
        self._path = path

    def start(self, _: object) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def ports(self) -> frozenset[FolderPort]:
        """The keys that are there."""
        entries = [entry for entry in os.scandir(self._path) if not entry.name.endswith(".lock")]
        return frozenset(FolderPort(entry.path, entry.inode()) for entry in entries)


def main() -> int:
    """See the module's text."""
    listener = socket.socket(fileno=0)
    if sys.argv[1:]:
        return Broker([Folder(sys.argv[1])], frozenset({0, os.getuid()})).serve(listener)
    readers.PCSCD = os.environ.get("PCSCLITE_CSOCK_NAME", readers.PCSCD)
    return serve(listener)


if __name__ == "__main__":
    sys.exit(main())
