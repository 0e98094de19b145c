"""sd_notify(3): tells systemd that we are ready, alive, reloading, stopping. Does nothing where nobody listens."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress


class Notifier:
    """The way to the service manager, read from the environment once.

    Args:
        environment: NOTIFY_SOCKET and WATCHDOG_USEC as systemd sets them.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(usec) / 2_000_000 if re.fullmatch(r"0*[1-9][0-9]{0,15}", usec) else None
        """How often to send WATCHDOG=1: twice as often as asked for; None where nobody asks."""

    def send(self, *lines: str) -> None:
        """One datagram of assignments."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            link.sendto("\n".join(lines).encode(), self._address)

    def reloading(self) -> None:
        """RELOADING=1 with its time stamp; READY=1 ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def from_environment() -> Notifier:
    """The notifier of this process."""
    return Notifier(dict(os.environ))
