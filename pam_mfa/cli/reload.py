"""Tells the service that its settings changed. An engine reads them anew for every login."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from ..errors import RefusedError
from ..peer import peer_pid
from . import client, paths
from .paths import Paths

UNIT = "pam-mfad.service"


def systemd_runs(where: Paths) -> bool:
    """Whether systemd is the system's init, as sd_booted(3) finds out."""
    return where.at("/run/systemd/system").is_dir()


def reload_service(where: Paths) -> str:
    """Have the service read its settings again, where one runs.

    Returns:
        What a person should know of it, "" where all is well.
    """
    if systemd_runs(where):
        # Without waiting: during the boot the service itself may be waiting for us.
        command = ["/usr/bin/systemctl", "--no-block", "try-reload-or-restart", UNIT]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        return f"{UNIT} was not told: run systemctl reload {UNIT}" if done.returncode else ""
    try:
        with client.open_service(where) as channel:
            return _signal(where, peer_pid(channel))
    except client.NoService:
        return ""
    except RefusedError as error:
        return error.message


def _signal(where: Paths, pid: int) -> str:
    """The listener's process is the service's own, where no systemd made the socket."""
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/exe").samefile(where.at(paths.DAEMON)):
                signal.pidfd_send_signal(process, signal.SIGHUP)
                return ""
        finally:
            os.close(process)
    return "the service cannot be told from here; send SIGHUP to pam-mfad"
