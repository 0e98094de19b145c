"""Watches the time of a tryout, in a process that has nothing to do with the shell, its terminal or its session.

Under systemd it is a transient service, so a closed terminal, KillUserProcesses= or the end of the login do not reach
it, and it is started again where somebody ends it; elsewhere a process of ours in a session of its own. After a reboot
the unit pam-mfa-try.service is the watcher, and takes back what was pending before anybody logs in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import syslog
import time
from pathlib import Path

from ...errors import RefusedError
from .. import paths
from ..paths import Paths
from ..reload import reload_service, systemd_runs
from . import files, record

READY_SECONDS = 10.0
LOOK_SECONDS = 0.02
RETRY_SECONDS = 10.0
LONGEST = 3600.0  # poll() counts milliseconds in an int
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def start(where: Paths) -> None:
    """Start it; returns when it watches. Raises RefusedError where it does not come up."""
    record.hang_bell(where)
    command = [str(where.at(paths.COMMAND)), "try", "watch"]
    if systemd_runs(where):
        _start_unit(command)
    else:
        _start_process(command)
    end = time.monotonic() + READY_SECONDS
    while not record.ring(where):
        if time.monotonic() > end:
            raise RefusedError("unavailable", "nobody would watch the time; look whether pam-mfa try watch starts")
        time.sleep(LOOK_SECONDS)


def _start_unit(command: list[str]) -> None:
    unit = [f"--unit=pam-mfa-try-{secrets.token_hex(4)}", "--description=Take back a change that nobody confirms"]
    how = ["--quiet", "--collect", "--property=Restart=on-failure", "--property=RestartSec=1"]
    try:
        subprocess.run(["/usr/bin/systemd-run", *how, *unit, "--", *command], stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise RefusedError("unavailable", "systemd-run started nothing that watches the time, see above") from None


def _start_process(command: list[str]) -> None:
    """Without a terminal, nothing of ours open; whoever ends this shell or its session does not find it there."""
    actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    try:
        os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=actions, setsid=True)
    except OSError as error:
        raise RefusedError("unavailable", f"{command[0]}: {error.strerror}; run packaging/install") from None


def watch(where: Paths) -> None:
    """Wait until what is pending was confirmed, or take it back when its time has come. Raises RefusedError."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    with contextlib.suppress(FileExistsError):
        os.mkfifo(record.folder(where) / record.BELL, 0o600)
    bell = os.open(record.folder(where) / record.BELL, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    while (tryout := record.load(where)) is not None:
        left = tryout.left()
        if left <= 0:
            left = RETRY_SECONDS if take_back(where) else 0
        if poll.poll(min(left, LONGEST) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(bell, 4096)


def take_back(where: Paths, early: bool = False) -> list[str]:
    """Restore what is pending, where there is something, and its time has come or it is to be early.

    Returns:
        What could not be restored, as lines; then it stays pending. Raises RefusedError where it cannot be read.
    """
    with record.locked(where):
        tryout = record.load(where)
        if tryout is None or (tryout.left() > 0 and not early):
            return []
        failed = restore(where, tryout)
        if not failed:
            record.forget(where, "restored", tryout.about)
        return failed


def restore(where: Paths, tryout: record.Tryout) -> list[str]:
    """Make the files what they were, whether it is pending or not, and tell the service; the same answer."""
    what: list[Path] = []
    with contextlib.suppress(OSError):
        what = files.changed(tryout.saved)
    failed, lacking = files.restore(tryout.saved)
    for line in failed:
        log(syslog.LOG_ALERT, f"cannot be taken back: {line}")
    for line in lacking:
        log(syslog.LOG_WARNING, f"is not quite what it was: {line}")
    if not failed:
        log(syslog.LOG_WARNING, f"taken back: {', '.join(map(str, what)) or 'nothing had changed'}")
    if where.at(paths.SETTINGS) in what and (problem := reload_service(where)):
        log(syslog.LOG_ALERT, problem)
    return failed


def log(level: int, text: str) -> None:
    """A line in the system's log."""
    syslog.openlog("pam-mfa", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
    syslog.syslog(level, f"try: {text}")
