"""Has certificate paths checked by pam-mfa-verify, or by the engine's own checker."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import cast

from ..conversation import CheckPath, PathChecked
from ..errors import Gone
from ..verify import client
from ..verify.base import Check
from .broker import handed_over

SECONDS = 6.0  # after which nobody waits any more; above what its client takes


def check(want: CheckPath, connected: Callable[[], socket.socket] = client.connect) -> PathChecked:
    """Ask, and wait for the answer; blocks. Where there is none the verdict is UNKNOWN, and says why."""
    return PathChecked(client.ask(cast(Check, want.check), connected))


def passed(fd: int | None) -> Callable[[], socket.socket]:
    """Connects to a checker that takes them as descriptors over `fd`, the engine's own; None: there is none."""

    def connect() -> socket.socket:
        if fd is None:
            raise Gone("no_path_checker")
        return handed_over(fd, "no_path_checker")

    return connect
