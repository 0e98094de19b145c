"""A virtual key on a socket pair in place of a hidraw node: one packet is one report."""

from __future__ import annotations

import socket
import threading

from .authenticator import Authenticator
from .hid import REPORT, Hid


class Memory:
    """A key that is plugged in; a context manager, or remove() it.

    `client` is the descriptor to use as that of a hidraw node: write 65 bytes (report id and 64) or 64, read 64. It
    ends (reads nothing, EPIPE) once the key is removed.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = authenticator
        self._device, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._hid = Hid(authenticator, lambda report: self._device.sendall(report))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
        self.client.close()

    def remove(self) -> None:
        """Pull it out. Twice is once."""
        if self._device.fileno() < 0:
            return
        self._device.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._hid.close()
        self._device.close()
        self.authenticator.power_cycle()

    def _read(self) -> None:
        while report := self._device.recv(REPORT + 1):
            self._hid.receive(report)
