"""Files and directories: who owns them and who may write to them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import paths
from ..paths import Paths
from .finding import Finding, bad, ok, warn

REINSTALL = "run packaging/install again"
ACCOUNT = "pam-mfa"
KEY_SIZE = 32
WRITABLE = 0o022  # by others than the owner
NOT_PRIVATE = 0o077
SET_ID = 0o6000
MODULE = "pam_mfa.so"
MODULE_DIRECTORIES = ("usr/lib/*/security", "usr/lib64/security", "usr/lib/security")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How one path must be.

    Args:
        subject: its name in the report.
        path: where it is.
        mode: what to set where one of the forbidden bits is found.
        forbidden: mode bits that it must not have.
        directory: it is one, and not a file.
        ours: it belongs to the service's account, not to root.
    """

    subject: str
    path: str
    mode: int
    forbidden: int
    directory: bool = False
    ours: bool = False


WANTED = (
    Wanted("service", paths.DAEMON, 0o755, WRITABLE | SET_ID),
    Wanted("engine", paths.ENGINE, 0o755, WRITABLE | SET_ID),
    Wanted("device service", paths.DEVICE, 0o755, WRITABLE | SET_ID),
    Wanted("path checker", paths.VERIFY, 0o755, WRITABLE | SET_ID),
    Wanted("password helper", paths.PASSWORD_HELPER, 0o755, WRITABLE | SET_ID),
    Wanted("settings", paths.SETTINGS, 0o644, WRITABLE),
    Wanted("seal key", paths.KEY, 0o400, NOT_PRIVATE),
    Wanted("state", paths.STATE, 0o700, NOT_PRIVATE, directory=True, ours=True),
    Wanted("store", paths.STORE, 0o600, NOT_PRIVATE, ours=True),
)


def service_account(where: Paths) -> int | None:
    """The uid of the service's account, from the file as the engine reads it; None where there is none."""
    return uid_of(where, ACCOUNT) or None


def uid_of(where: Paths, name: str) -> int | None:
    """The uid of a user in /etc/passwd; None where there is none."""
    accounts = (line.split(":") for line in lines_of(where, "/etc/passwd"))
    uids = [fields[2] for fields in accounts if fields[0] == name and len(fields) > 2]
    return int(uids[0]) if uids and uids[0].isdecimal() else None


def lines_of(where: Paths, path: str) -> list[str]:
    """The lines of a file, none where it cannot be read."""
    try:
        return where.at(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def check(where: Paths) -> Iterator[Finding]:
    """Programs, settings, key and store, the module, and every directory on the way to them."""
    account = service_account(where)
    if account is None:
        yield bad("account", f"there is no system user {ACCOUNT}", REINSTALL)
    for wanted in WANTED:
        yield from check_one(where, wanted, account)
    yield from _same_program(where)
    found = modules(where)
    for module in found:
        yield from check_one(where, Wanted("module", module, 0o644, WRITABLE | SET_ID), account)
    if not found:
        yield bad("module", f"{MODULE} is in none of libpam's directories", REINSTALL)
    yield from _directories(where, [wanted.path for wanted in WANTED] + found)


def check_one(where: Paths, wanted: Wanted, account: int | None) -> Iterator[Finding]:
    """One path. What the caller may not see is left out: doctor says once that it did not see everything."""
    try:
        found = where.at(wanted.path).lstat()
    except PermissionError:
        return
    except OSError as error:
        yield bad(wanted.subject, f"{wanted.path}: {error.strerror}", REINSTALL)
        return
    owner, user = (account, ACCOUNT) if wanted.ours else (0, "root")
    is_form = stat.S_ISDIR if wanted.directory else stat.S_ISREG
    if not is_form(found.st_mode):
        yield bad(wanted.subject, f"{wanted.path} is no {'directory' if wanted.directory else 'file'}", REINSTALL)
    elif owner is not None and found.st_uid != owner:
        yield bad(wanted.subject, f"{wanted.path} belongs to uid {found.st_uid}", f"chown {user}: {wanted.path}")
    elif found.st_mode & wanted.forbidden:
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        yield bad(wanted.subject, f"{wanted.path} has {mode}", f"chmod {wanted.mode:04o} {wanted.path}")
    elif wanted.path == paths.KEY and found.st_size != KEY_SIZE:
        yield bad(
            wanted.subject, f"{wanted.path} has {found.st_size} bytes, not {KEY_SIZE}", "restore it from a backup"
        )
    else:
        yield ok(wanted.subject, wanted.path)


def _same_program(where: Paths) -> Iterator[Finding]:
    for subject, path in (("engine", paths.ENGINE), ("device service", paths.DEVICE), ("path checker", paths.VERIFY)):
        try:
            same = where.at(paths.DAEMON).samefile(where.at(path))
        except OSError:
            continue  # reported above
        if not same:
            yield warn(subject, f"{path} is not the same file as pam-mfad: an installation was cut short", REINSTALL)


def modules(where: Paths) -> list[str]:
    """The installed modules, one for each directory that libpam has modules in."""
    found = (path for pattern in MODULE_DIRECTORIES for path in sorted(where.root.glob(f"{pattern}/{MODULE}")))
    return ["/" + str(path.relative_to(where.root)) for path in found]


def _directories(where: Paths, of: Iterable[str]) -> Iterator[Finding]:
    """Who can write to a directory on the way can put another file in the place of ours."""
    above = {parent for path in of for parent in Path(path).parents if str(parent) != paths.STATE}
    problems = [problem for path in sorted(above) if (problem := writable(where.at(str(path)), str(path)))]
    for problem in problems:
        yield bad("directories", problem, "give it to root, and take the right to write from everybody else")
    if not problems:
        yield ok("directories", "only root can write to the directories on the way")


def writable(path: Path, shown: str) -> str:
    """Why others than root can change a path; empty where nobody can, or where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if found.st_uid != 0:
        return f"{shown} belongs to uid {found.st_uid}"
    return f"{shown} has mode {stat.S_IMODE(found.st_mode):04o}" if found.st_mode & WRITABLE else ""
