"""The Python packages that the programs run: only root can change them, and they are as they were installed.

What is native comes with them, so packages of another installation than module and programs are found here too.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import paths
from ..paths import Paths
from .files import REINSTALL, WRITABLE, modules
from .finding import Finding, bad, ok, some

NATIVE = "pam_mfa/_native"
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def check(where: Paths) -> Iterator[Finding]:
    """Every file below /usr/lib/pam-mfa/site."""
    link = where.at(paths.SITE)
    try:
        site = link.resolve(strict=True)
        entries = list(_walk(site))
    except OSError as error:
        yield bad("packages", f"{paths.SITE}: {error.strerror}", REINSTALL)
        return
    if site.parent != where.at(paths.LIB).resolve():
        yield bad("packages", f"{paths.SITE} leads out of {paths.LIB}", REINSTALL)
        return
    loose = [name for name, found in entries if not _sound(found)]
    changed = list(_changed(site))
    if loose:
        yield bad("packages", f"not root's alone, or no plain file: {some(loose)}", REINSTALL)
    if changed:
        yield bad("packages", f"changed since they were installed: {some(changed)}", REINSTALL)
    if not loose and not changed:
        yield ok("packages", f"{paths.SITE}: {len(entries)} files as installed")
    yield from _python(site)
    yield from _programs(where, site)


def _python(site: Path) -> Iterator[Finding]:
    """Extension modules are made for one minor version."""
    names = [path.name.split(".")[1] for path in (site / NATIVE).glob("*.cpython-*.so")]
    made = sorted({name.split("-")[1] for name in names})
    if made == [HERE.replace(".", "")]:
        yield ok("python", HERE)
    else:
        yield bad("python", f"the packages are made for {some(made) or 'none'}, this system has {HERE}", REINSTALL)


def _programs(where: Paths, site: Path) -> Iterator[Finding]:
    """The module and the programs are those that came with the packages."""
    for path in (*modules(where), paths.DAEMON, paths.PASSWORD_HELPER):
        try:
            same = where.at(path).read_bytes() == (site / NATIVE / Path(path).name).read_bytes()
        except OSError:
            continue  # files.py tells
        if not same:
            yield bad("version", f"{path} is not of the same version as the packages", REINSTALL)


def _walk(site: Path) -> Iterator[tuple[str, os.stat_result]]:
    yield str(site), site.lstat()
    for folder, directories, files in os.walk(site):
        for name in directories + files:
            path = Path(folder, name)
            yield str(path.relative_to(site)), path.lstat()


def _sound(found: os.stat_result) -> bool:
    plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return plain and found.st_uid == 0 and not found.st_mode & WRITABLE


def _changed(site: Path) -> Iterator[str]:
    """Files that differ from the wheels they came from (RECORD, "Binary distribution format" of PyPA)."""
    for record in sorted(site.glob("*.dist-info/RECORD")):
        with record.open(newline="", errors="replace") as lines:
            for row in csv.reader(lines):
                if len(row) == 3 and row[1].startswith("sha256=") and not _same(site, row[0], row[1]):
                    yield row[0]


def _same(site: Path, name: str, recorded: str) -> bool:
    if name.startswith(("/", "..")):
        return True  # scripts, which the installer leaves out
    try:
        digest = hashlib.sha256((site / name).read_bytes()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.removeprefix("sha256=")
