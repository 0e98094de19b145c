"""login(1) ends every login at the console after LOGIN_TIMEOUT, whatever it is waiting for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..pamfiles import Line, Unreadable
from ..paths import Paths
from . import stacks
from .files import lines_of
from .finding import Finding, ok, warn
from .pam import read_stacks, services

FILE = "/etc/login.defs"
SERVICE = "login"
KEY = "LOGIN_TIMEOUT"
USUAL = 60  # seconds
PASSWORD_SECONDS = 15  # to type name and password


def check(where: Paths) -> Iterator[Finding]:
    """Only where the console's PAM file names the module."""
    lines: tuple[Line, ...] = ()
    with contextlib.suppress(Unreadable):
        lines = read_stacks(where, SERVICE)["auth"] if SERVICE in services(where) else ()
    if any(map(stacks.ours, lines)):
        yield _judge(_timeout(where), stacks.seconds(SERVICE, lines) + PASSWORD_SECONDS)


def _judge(timeout: int, wanted: int) -> Finding:
    if 0 < timeout < wanted:  # 0 is no end
        return warn(
            "login.defs", f"{KEY} {timeout} ends logins at the console that take their time", f"{FILE}: {KEY} {wanted}"
        )
    return ok("login.defs", f"{KEY} {timeout}")


def _timeout(where: Paths) -> int:
    """The last line that sets it counts."""
    words = [line.split() for line in lines_of(where, FILE)]
    values = [each[1] for each in words if len(each) > 1 and each[0] == KEY and each[1].isdecimal()]
    return int(values[-1]) if values else USUAL
