"""Who would be asked for a second factor and has none."""

from __future__ import annotations

import grp
import json
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from steps import run

ADMIN_GROUPS = ("sudo", "wheel", "admin")
FIRST_UID = 1000  # adduser's first
NOBODY = 65534
USER_RULE = re.compile(r"([a-z_][a-z0-9_.-]*\$?)\s+[^=\s]+\s*=", re.ASCII)
GROUP_RULE = re.compile(r"%([a-z_][a-z0-9_.-]*)\s+[^=\s]+\s*=", re.ASCII)


def enrolled() -> set[int]:
    """The uids that have a credential. Raises StepFailed."""
    lines = run(["/usr/bin/pam-mfa", "accounts", "--json"], "pam-mfa accounts failed: see pam-mfa doctor")
    return {int(record["uid"]) for record in map(json.loads, lines.splitlines())}


def shell_users() -> list[str]:
    """Accounts of people, and root, whose shell lets them in."""
    try:
        text = Path("/etc/shells").read_text()
    except FileNotFoundError:
        text = "/bin/sh\n/bin/bash\n"
    shells = {line.strip() for line in text.splitlines() if line.startswith("/")}
    return [
        entry.pw_name
        for entry in pwd.getpwall()
        if entry.pw_shell in shells and (entry.pw_uid == 0 or FIRST_UID <= entry.pw_uid < NOBODY)
    ]


def sudoers(folder: Path = Path("/etc")) -> set[str]:
    """Accounts that sudoers names, directly or by group. Aliases, netgroups and directory servers are not looked at."""
    users, groups = set(), set(ADMIN_GROUPS)
    for line in sudoers_lines(folder):
        if found := USER_RULE.match(line):
            users.add(found[1])
        elif found := GROUP_RULE.match(line):
            groups.add(found[1])
    return users | {user for group in groups for user in members(group)}


def sudoers_lines(folder: Path) -> Iterator[str]:
    """The lines of sudoers and of its directory, as sudo would take them."""
    parts = sorted((folder / "sudoers.d").glob("*"))
    for path in [folder / "sudoers", *(part for part in parts if "." not in part.name and part.name[-1:] != "~")]:
        if path.is_file():
            text = path.read_text(errors="replace").replace("\\\n", " ")
            yield from (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def members(group: str) -> set[str]:
    """Who is in a group, by its list or as the primary group; nobody where there is no such group."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return set()
    return {*entry.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == entry.gr_gid)}


def without(names: set[str], uids: set[int]) -> list[str]:
    """Those of `names` that exist and whose uid is not among `uids`, in order of their name."""
    found = []
    for name in sorted(names):
        try:
            if pwd.getpwnam(name).pw_uid not in uids:
                found.append(name)
        except KeyError:
            continue
    return found
