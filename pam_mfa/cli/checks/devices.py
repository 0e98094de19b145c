"""Security keys and cards: may the device service, and it alone, get at them?"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from ..paths import Paths
from .files import REINSTALL, lines_of, uid_of
from .finding import Finding, bad, ok, warn
from .sockets import listening

ACCOUNT = "pam-mfa-device"
STATIC_RULES = "/usr/lib/udev/rules.d/71-pam-mfa-device.rules"
PCSCD = ("/usr/sbin/pcscd", "/usr/bin/pcscd")
PCSCD_SOCKET = "/run/pcscd/pcscd.comm"
FIDO_USAGE_PAGE = (
    b"\x06\xd0\xf1"  # in a HID report descriptor: the page of the FIDO alliance (CTAP 2.1 section 11.2.8.1)
)
PCSCD_POLICY = "/usr/share/polkit-1/actions/org.debian.pcsc-lite.policy"
POLKIT_RULES = ("/usr/share/polkit-1/rules.d/pam-mfa-device.rules", "/etc/polkit-1/rules.d/pam-mfa-device.rules")
READ_WRITE = 0o6
TRIGGER = "run: udevadm control --reload && udevadm trigger --subsystem-match=hidraw; or plug it in again"


def check(where: Paths) -> Iterator[Finding]:
    """The account, what gives it access, and the keys that are plugged in."""
    uid, gids = uid_of(where, ACCOUNT), set(_gids(where))
    if uid is None or not gids:
        kind = "user" if uid is None else "group"
        yield warn("security keys", f"there is no system {kind} {ACCOUNT}: no key or card can be used", REINSTALL)
        return
    if uid in (0, uid_of(where, "pam-mfa")):
        yield bad("security keys", f"{ACCOUNT} shares its uid {uid} with another service", "give it a uid of its own")
    yield _rule(where)
    keys = list(_plugged_in(where))
    for name in keys:
        yield _node(where.at(f"/dev/{name}"), f"/dev/{name}", gids)
    if not keys:
        yield ok("security keys", "none is plugged into a USB port")
    yield _cards(where)


def _gids(where: Paths) -> Iterator[int]:
    """The group of that name, and those that the account was put in."""
    for name, _, gid, members in (line.split(":") for line in lines_of(where, "/etc/group") if line.count(":") == 3):
        if gid.isdecimal() and ACCOUNT in (name, *members.split(",")):
            yield int(gid)


def _rule(where: Paths) -> Finding:
    for directory in ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d"):  # the first one counts
        path = f"{directory}/{Path(STATIC_RULES).name}"
        try:
            text = where.at(path).read_text(errors="replace")
        except OSError:
            continue
        if f'GROUP="{ACCOUNT}"' in text:
            return ok("security keys", path)
        return warn("security keys", f"{path} gives keys to nobody in group {ACCOUNT}", "remove it, or let it do so")
    return warn("security keys", f"{STATIC_RULES} is missing: udev gives keys to others only", REINSTALL)


def _plugged_in(where: Paths) -> Iterator[str]:
    """The hidraw nodes of security keys, as sysfs shows them."""
    try:
        names = sorted(os.listdir(where.at("/sys/class/hidraw")))
    except OSError:
        return
    for name in names:
        try:
            descriptor = where.at(f"/sys/class/hidraw/{name}/device/report_descriptor").read_bytes()
        except OSError:
            continue
        if FIDO_USAGE_PAGE in descriptor:
            yield name


def _node(path: Path, shown: str, gids: set[int]) -> Finding:
    try:
        found = path.lstat()
    except OSError as error:
        return warn("security keys", f"{shown}: {error.strerror}", TRIGGER)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISCHR(found.st_mode):
        return bad("security keys", f"{shown} is no device", "remove it, then plug the key in again")
    if mode & READ_WRITE:
        return warn(
            "security keys", f"{shown} has mode {mode:04o}: every user can talk to the key", f"chmod o= {shown}"
        )
    if found.st_gid not in gids or (mode >> 3) & READ_WRITE != READ_WRITE:
        return warn("security keys", f"{shown} is not readable and writable by group {ACCOUNT}", TRIGGER)
    return ok("security keys", shown)


def _cards(where: Paths) -> Finding:
    """Cards and NFC readers need pcscd, which many systems do without."""
    if not any(where.at(path).exists() for path in PCSCD):
        return ok("cards", "no pcscd: only for NFC readers and smart cards; install the package pcscd to use them")
    if not where.at(PCSCD_SOCKET).exists():
        return warn("cards", f"pcscd has no socket {PCSCD_SOCKET}", "run: systemctl enable --now pcscd.socket")
    if not listening(where.at(PCSCD_SOCKET), socket.SOCK_STREAM):
        return warn("cards", f"nobody listens behind {PCSCD_SOCKET}", "run: systemctl restart pcscd.socket")
    if not stat.S_IMODE(where.at(PCSCD_SOCKET).stat().st_mode) & 0o2:
        return warn("cards", f"{PCSCD_SOCKET} is not open to {ACCOUNT}", f"chmod 0666 {PCSCD_SOCKET}")
    if where.at(PCSCD_POLICY).exists() and not any(where.at(path).exists() for path in POLKIT_RULES):
        return warn("cards", f"{POLKIT_RULES[0]} is missing: polkit keeps {ACCOUNT} from cards", REINSTALL)
    return ok("cards", PCSCD_SOCKET)
