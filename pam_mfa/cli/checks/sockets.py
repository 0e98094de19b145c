"""/run/pam-mfa: the right owners and modes, and somebody listening behind every socket."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import paths
from ..paths import Paths
from .files import ACCOUNT, service_account
from .finding import Finding, bad, ok, warn

RESTART = "restart pam-mfad"
SERVICE_LOCK = "pam-mfad.lock"
HELPERS = {  # what goes on without them, all but this
    "device.sock": ("security keys", "no key or card can be used", "pam-mfa-device"),
    "verify.sock": ("certificates", "nobody knows whether one is good", "pam-mfa-verify"),
}
PENDING = "pending"
ENGINE_LOCKS = tuple(f"engine-{slot}.lock" for slot in range(8))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Name and mode of a socket, and whether the service's account owns it, and not root."""

    name: str
    mode: int
    ours: bool = False


WANTED = (
    Wanted("priv.sock", 0o600),
    Wanted("user.sock", 0o666),
    Wanted("manage.sock", 0o666),
    Wanted("password.sock", 0o600, ours=True),
    *(Wanted(name, 0o600, ours=True) for name in HELPERS),
)
KNOWN = {wanted.name for wanted in WANTED} | {SERVICE_LOCK, *ENGINE_LOCKS, PENDING}


def check(where: Paths) -> Iterator[Finding]:
    """The directory and everything in it."""
    account = service_account(where)
    directory = where.at(paths.RUN)
    try:
        names = sorted(os.listdir(directory))
        found = directory.lstat()
    except FileNotFoundError:
        yield _no_service("it does not run")
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        yield bad(
            "sockets", f"others than root may write to {paths.RUN}", f"chown root: {paths.RUN}; chmod 0755 {paths.RUN}"
        )
    for wanted in WANTED:
        if wanted.name in names:
            yield from _check(directory / wanted.name, wanted, account)
        else:
            yield _absent(wanted.name)
    if PENDING in names:
        yield from _pending(directory / PENDING, account)
    for name in names:
        if name not in KNOWN:
            yield warn("sockets", f"{paths.RUN}/{name} is none of ours, or was left behind", "remove it")
    yield from _busy(directory)


def _absent(name: str) -> Finding:
    if name not in HELPERS:
        return _no_service(f"there is no {paths.RUN}/{name}")
    subject, without, unit = HELPERS[name]
    return warn(
        subject,
        f"there is no {paths.RUN}/{name}: {without}",
        f"start {unit}.socket, or where there is no systemd, restart pam-mfad",
    )


def _no_service(found: str) -> Finding:
    return warn("service", f"{found}: root's logins start an engine each, screen lockers are refused", "start pam-mfad")


def _check(path: Path, wanted: Wanted, account: int | None) -> Iterator[Finding]:
    shown = f"{paths.RUN}/{wanted.name}"
    found = path.lstat()
    owner = account if wanted.ours else 0
    if not stat.S_ISSOCK(found.st_mode):
        yield bad("sockets", f"{shown} is no socket", f"remove it and {RESTART}")
    elif (owner is not None and found.st_uid != owner) or stat.S_IMODE(found.st_mode) != wanted.mode:
        user = ACCOUNT if wanted.ours else "root"
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        yield bad(
            "sockets", f"{shown} has owner {found.st_uid} and mode {mode}, not {user} and {wanted.mode:04o}", RESTART
        )
    elif not listening(path):
        yield bad("sockets", f"nobody listens behind {shown}", RESTART)
    else:
        yield ok("sockets", shown)


def _pending(path: Path, account: int | None) -> Iterator[Finding]:
    """Desktop notifiers believe what lies there."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, account) or found.st_mode & 0o022:
        shown = f"{paths.RUN}/{PENDING}"
        yield bad("sockets", f"others than {ACCOUNT} may write to {shown}", f"remove it and {RESTART}")


def listening(path: Path, kind: int = socket.SOCK_SEQPACKET) -> bool:
    """Whether somebody would answer; what we may not connect to counts as answered."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def _busy(directory: Path) -> Iterator[Finding]:
    """Engines that never end take all places, and then no login gets one."""
    if all(_locked(directory / name) for name in ENGINE_LOCKS):
        yield bad(
            "engine", f"all {len(ENGINE_LOCKS)} engines are busy", "look for pam-mfa-engine processes that do not end"
        )


def _locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
