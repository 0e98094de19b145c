"""The socket behind a private machine's /dev/log, read all the time: a full one would hold up whoever logs."""

from __future__ import annotations

import os
import select
import socket
import threading
from pathlib import Path


class SyslogSocket:
    """A datagram socket and the lines that came in; close() it.

    Args:
        path: where it is bound, writable by everybody.
    """

    def __init__(self, path: Path) -> None:
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._stop, self._stopped = os.pipe()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        os.chmod(path, 0o666)
        self._thread = threading.Thread(target=self._read, name="syslog", daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        """Every line that was sent before this call, as sent (with its <priority>)."""
        with self._lock:
            while True:
                try:
                    data = self._socket.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return list(self._lines)
                self._lines.append(data.decode(errors="replace").rstrip("\n\0"))

    def close(self) -> None:
        """Read no more. Twice is once."""
        if self._thread.is_alive():
            os.close(self._stopped)
            self._thread.join()
            os.close(self._stop)
            self._socket.close()

    def _read(self) -> None:
        poll = select.poll()
        for fd in (self._socket.fileno(), self._stop):
            poll.register(fd, select.POLLIN)
        while all(fd != self._stop for fd, _ in poll.poll()):
            self.lines()
