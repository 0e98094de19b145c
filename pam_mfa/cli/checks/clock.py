"""The clock: one-time codes fit only while it is right."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence

from .. import paths
from ..paths import Paths
from .finding import Finding, bad, ok, warn

TIMESYNCD = "/run/systemd/timesync/synchronized"
SECONDS = 5
FIX = "install and start chrony or systemd-timesyncd"


def check(where: Paths) -> Iterator[Finding]:
    """Not before the installation, and kept right by something."""
    with contextlib.suppress(OSError):
        installed = where.at(paths.ENGINE).stat().st_mtime
        if time.time() < installed:
            yield bad("clock", "it shows a time before pam-mfa was installed", "set it, then: " + FIX)
            return
    synchronised = _synchronised(where)
    if synchronised is None:
        yield warn("clock", "nothing here tells whether it is synchronised", FIX)
    elif synchronised:
        yield ok("clock", "synchronised")
    else:
        yield warn("clock", "not synchronised; codes are refused when it is off by more than a minute", FIX)


def _synchronised(where: Paths) -> bool | None:
    """The first that knows: timesyncd's mark, chrony, systemd."""
    if where.at(TIMESYNCD).exists():
        return True
    chrony = _said(["/usr/bin/chronyc", "-n", "tracking"])
    if "Leap status" in chrony:
        return "Not synchronised" not in chrony
    systemd = _said(["/usr/bin/timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
    return {"yes": True, "no": False}.get(systemd)


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True, env={"LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
