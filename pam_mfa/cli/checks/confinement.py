"""SELinux and AppArmor: may the programs that ask us reach our sockets?

Neither policy of Debian knows them. What an administrator has added is found by its name, not understood.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import paths
from ..pamfiles import Unreadable
from ..paths import Paths
from . import stacks
from .files import lines_of
from .finding import Finding, ok, warn
from .pam import read_stacks, services

ENFORCE = "/sys/fs/selinux/enforce"
SELINUX_MODULES = "var/lib/selinux/*/active/modules/*/*"
OUR_MODULES = ("pam_mfa", "pam-mfa", "pammfa")
APPARMOR = "/sys/module/apparmor/parameters/enabled"
PROFILES = "/sys/kernel/security/apparmor/profiles"
PROFILE_FILES = "etc/apparmor.d"
RULE = f"{paths.RUN}/priv.sock rw,"
MOST = 1 << 20  # bytes of a profile that are read
# Confined programs whose PAM service has another name.
SERVICES = {"cupsd": "cups", "gdm": "gdm-password", "gdm3": "gdm-password", "auth": "dovecot", "pppd": "ppp"}


def check(where: Paths) -> Iterator[Finding]:
    """What of the two is in force."""
    yield _selinux(where)
    yield from _apparmor(where)


def _selinux(where: Paths) -> Finding:
    state = lines_of(where, ENFORCE)[:1]
    if state != ["1"]:
        return ok("SELinux", "permissive" if state else "off")
    names = {path.name for path in where.root.glob(SELINUX_MODULES)}
    found = sorted(name for name in names if name.startswith(OUR_MODULES))
    if found:
        return ok("SELinux", f"enforcing, with your module {found[0]}")
    return warn(
        "SELinux",
        "enforcing, and no policy module is named pam_mfa: sshd and login may be kept from our sockets",
        "after a login: ausearch -m avc -ts recent | grep pam-mfa | audit2allow -M pam_mfa; read it; "
        "semodule -i pam_mfa.pp",
    )


def _apparmor(where: Paths) -> Iterator[Finding]:
    if lines_of(where, APPARMOR)[:1] != ["Y"]:
        yield ok("AppArmor", "off")
        return
    if os.geteuid() != 0:
        return  # only root may read which profiles are loaded
    asking = set(_asking(where))
    confined = sorted(set(_enforced(lines_of(where, PROFILES))) & asking)
    if not confined or _allowed(where):
        yield ok("AppArmor", "on, and keeps nobody from our sockets that we know of")
        return
    for service in confined:
        yield warn(
            "AppArmor",
            f"the program of {service} is confined, and no profile allows {paths.RUN}",
            f'write "{RULE}" to /etc/apparmor.d/abstractions/authentication.d/pam-mfa, then: systemctl reload apparmor',
        )


def _enforced(lines: Iterable[str]) -> Iterator[str]:
    """The PAM services of the programs with a profile that is enforced."""
    for line in lines:
        name, _, mode = line.rpartition(" ")
        if mode == "(enforce)":
            program = name.partition("//")[0].rpartition("/")[2]
            yield SERVICES.get(program, program)


def _asking(where: Paths) -> Iterator[str]:
    for service in services(where):
        try:
            found = read_stacks(where, service)
        except Unreadable:
            continue
        if any(map(stacks.ours, found["auth"])):
            yield service


def _allowed(where: Paths) -> bool:
    return any(_mentions(path) for path in where.at(f"/{PROFILE_FILES}").rglob("*"))


def _mentions(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return paths.RUN.encode() in file.read(MOST)
    except OSError:
        return False
