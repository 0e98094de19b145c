"""The Match blocks of sshd's settings, each with a connection that it is for: `sshd -T -C` prints what holds then."""

from __future__ import annotations

import grp
import pwd
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from types import MappingProxyType

from ..paths import Paths
from .files import lines_of

FOLDER = "/etc/ssh"
FILE = f"{FOLDER}/sshd_config"
MAX_DEPTH = 16  # as in sshd
LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*", re.ASCII)
# Where another condition is not met by any connection that we can make up, its block is left out.
KEYS = {"user": "user", "host": "host", "address": "addr", "localaddress": "laddr", "localport": "lport"}
SOMEBODY = {"user": "nobody", "host": "client.invalid", "addr": "192.0.2.1", "laddr": "192.0.2.2", "lport": "22"}

Members = Callable[[str], str | None]
"""Somebody who is in a group; None where nobody is."""


@dataclass(frozen=True, slots=True)
class Match:
    """One block.

    Args:
        place: "file:line" of its first line.
        words: what stands behind the word Match.
    """

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: Match {' '.join(self.words)}"


def blocks(where: Paths) -> list[Match]:
    """Every block, in order."""
    return list(_blocks(where, FILE, 0))


def _blocks(where: Paths, path: str, depth: int) -> Iterator[Match]:
    for number, line in enumerate(lines_of(where, path), 1):
        found = LINE.fullmatch(line)
        word, rest = (found[1].lower(), found[2]) if found else ("", "")
        if word == "match":
            yield Match(f"{path}:{number}", _words(rest))
        elif word == "include" and depth < MAX_DEPTH:
            for name in _included(where, rest):
                yield from _blocks(where, name, depth + 1)


def _included(where: Paths, rest: str) -> Iterator[str]:
    for pattern in _words(rest):
        below = (pattern if pattern.startswith("/") else f"{FOLDER}/{pattern}").lstrip("/")
        yield from sorted("/" + str(path.relative_to(where.root)) for path in where.root.glob(below))


def member(group: str) -> str | None:
    """Somebody who is in a group of the running system."""
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return None
    if found.gr_mem:
        return found.gr_mem[0]
    return next((user.pw_name for user in pwd.getpwall() if user.pw_gid == found.gr_gid), None)


def connection(match: Match, members: Members = member) -> str | None:
    """A connection that a block is for, as `sshd -C` wants it; None where there is none that we can make up."""
    made = dict(SOMEBODY)
    words = [part for word in match.words for part in word.split("=", 1)]
    for key, value in zip(words[::2], words[1::2], strict=False):
        pattern = next((each for each in value.split(",") if each and not each.startswith("!")), None)
        met = pattern and _met(key.lower(), pattern, members)
        if not met:
            return None
        made |= met
    return written(made) if len(words) > 1 else None


def written(connection: Mapping[str, str] = MappingProxyType(SOMEBODY)) -> str:
    """A connection as `sshd -C` wants it; without one, that of somebody whom no block is for."""
    return ",".join(f"{key}={value}" for key, value in connection.items())


def _met(key: str, pattern: str, members: Members) -> dict[str, str] | None:
    """What meets one condition."""
    if key == "group":
        user = members(pattern)
        return {"user": user} if user else None
    if key in ("address", "localaddress") and "/" in pattern:
        try:
            return {KEYS[key]: str(ip_network(pattern, strict=False)[0])}
        except ValueError:
            return None
    if key not in KEYS:
        return None
    filler = "1" if key in ("address", "localaddress") else "x"
    return {KEYS[key]: pattern.replace("*", filler).replace("?", filler)}


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text, comments=True))
    except ValueError:
        return ()
