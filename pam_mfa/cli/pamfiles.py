"""PAM service files, read as libpam (Linux-PAM 1.5 to 1.7 with Debian's `@include`) reads them.

Pure: the text of the files comes through a function. `pamstack` runs what comes out of here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

# Linux-PAM's return values in the order of their numbers (security/_pam_types.h), as a control field spells them.
RETURNS = (
    "success open_err symbol_err service_err system_err buf_err perm_denied auth_err cred_insufficient "
    "authinfo_unavail user_unknown maxtries new_authtok_reqd acct_expired session_err cred_unavail cred_expired "
    "cred_err no_module_data conv_err authtok_err authtok_recover_err authtok_lock_busy authtok_disable_aging "
    "try_again ignore abort authtok_expired module_unknown bad_item conv_again incomplete"
).split()
SUCCESS, PERM_DENIED, AUTH_ERR, AUTHINFO_UNAVAIL, MAXTRIES = 0, 6, 7, 9, 11
CONV_ERR, IGNORE, ABORT, MODULE_UNKNOWN = 19, 25, 26, 28

# Actions are numbers as in libpam: a positive one is a jump over that many modules.
SKIP, OK, DONE, BAD, DIE, RESET = 0, -1, -2, -3, -4, -5
ACTIONS = {"ignore": SKIP, "ok": OK, "done": DONE, "bad": BAD, "die": DIE, "reset": RESET}

TYPES = ("auth", "account", "session", "password")
MAX_DEPTH = 16
SPACE = " \n\t"
TOKEN = re.compile(r"[ \n\t]*(?:\[(?P<bracketed>(?:\\\]|[^\]])*)\]?|(?P<word>[^ \n\t]+)[ \n\t]?)")
PAIR = re.compile(
    rf"\s*(?P<value>{'|'.join(RETURNS)}|default)\s*=\s*(?P<action>{'|'.join(ACTIONS)}|[0-9]{{1,9}})", re.ASCII
)

Read = Callable[[str], str | None]
"""Text of a configuration file by its name (no slash: a service or an included file) or absolute path; None: absent."""


class Unreadable(Exception):
    """libpam gives up on the whole service: every login through it is refused."""


class Kind(Enum):
    """What libpam makes of one line."""

    MODULE = "module"
    SUBSTACK = "substack"  # a mark: the lines of the substack follow, one level deeper
    BROKEN = "broken"  # never runs anything, always answers PERM_DENIED


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a stack.

    Args:
        kind: what it is.
        level: depth of the substack that it stands in.
        actions: what follows from each return value.
        control: the control field as written.
        module: path of the module, or name of the substack.
        arguments: of the module.
        place: "file:line" for messages.
    """

    kind: Kind
    level: int
    actions: tuple[int, ...]
    control: str
    module: str
    arguments: tuple[str, ...]
    place: str

    @property
    def name(self) -> str:
        """The module's file name without its directory."""
        return self.module.rpartition("/")[2]


Stacks = dict[str, tuple[Line, ...]]


def stacks(service: str, read: Read) -> Stacks:
    """The four stacks of a service; a type without lines has those of `other`.

    Raises:
        Unreadable: libpam would refuse the service as a whole, or there is neither its file nor `other`.
    """
    own, other = (_from_file(name, read) for name in (service, "other"))
    if own is None and other is None:
        raise Unreadable(f"there is neither a PAM file {service} nor one named other")
    return {type_: (own or {}).get(type_) or (other or {}).get(type_, ()) for type_ in TYPES}


def stacks_of_conf(service: str, conf: str, read: Read) -> Stacks:
    """The same from the text of /etc/pam.conf, which counts only where there is no /etc/pam.d."""
    found: list[Stacks] = []
    for name in (service, "other"):
        reading = _Reading(read)
        for number, line in logical_lines(conf, "pam.conf"):
            owner, rest = token(line)
            if owner is not None and owner.lower() == name.lower():
                reading.line(rest, f"pam.conf:{number}", None, 0, 0)
        found.append(reading.stacks())
    return {type_: found[0][type_] or found[1][type_] for type_ in TYPES}


def services_of_conf(conf: str) -> list[str]:
    """The services that /etc/pam.conf names, in order."""
    owners = (token(line)[0] for _, line in logical_lines(conf, "pam.conf"))
    return list(dict.fromkeys(owner.lower() for owner in owners if owner))


def _from_file(name: str, read: Read) -> Stacks | None:
    if read(name) is None:
        return None
    reading = _Reading(read)
    reading.file(name, None, 0, 0)
    return reading.stacks()


class _Reading:
    """One service being read, with everything it includes."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.lines: dict[str, list[Line]] = {type_: [] for type_ in TYPES}

    def stacks(self) -> Stacks:
        return {type_: tuple(lines) for type_, lines in self.lines.items()}

    def file(self, name: str, wanted: str | None, level: int, depth: int) -> None:
        """Read one file; `wanted` is the only type that counts, None for all. Raises Unreadable."""
        text = self.read(name)
        if depth >= MAX_DEPTH:
            raise Unreadable(f"{name} includes itself, or is included too deeply")
        if text is None:
            raise Unreadable(f"{name} is included but absent")
        for number, line in logical_lines(text, name):
            self.line(line, f"{name}:{number}", wanted, level, depth)

    def line(self, text: str, place: str, wanted: str | None, level: int, depth: int) -> None:
        """One logical line without its service field."""
        first, rest = token(text)
        word = (first or "").removeprefix("-").lower()
        if word == "@include":
            target, _ = token(rest)
            return self.file(target or "(nothing)", wanted, level, depth + 1)
        type_ = word if word in TYPES else wanted or "auth"
        if wanted is None or type_ == wanted:
            entry = _Entry(type_, word in TYPES, rest, place, level)
            self._add(entry, depth)

    def _add(self, entry: _Entry, depth: int) -> None:
        control = (entry.control or "").lower()
        lines = self.lines[entry.type]
        if control not in ("include", "substack"):
            lines.append(entry.as_line())
            return
        deeper = entry.level + (control == "substack")
        if control == "substack":
            lines.append(entry.as_line(Kind.SUBSTACK))
        try:
            self.file(entry.module or "(nothing)", entry.type, deeper, depth + 1)
        except Unreadable:
            lines.append(entry.as_line(Kind.BROKEN))


class _Entry:
    """The fields of one line."""

    def __init__(self, type_: str, known: bool, rest: str, place: str, level: int) -> None:
        self.type = type_
        self.place = place
        self.level = level
        self.control, rest = token(rest)
        self.module, rest = token(rest)
        self.arguments = tuple(_arguments(rest))
        self.sound = known and self.control is not None and self.module is not None

    def as_line(self, kind: Kind | None = None) -> Line:
        if kind is None:
            kind = Kind.MODULE if self.sound else Kind.BROKEN
        control = self.control or ""
        return Line(kind, self.level, actions(control), control, self.module or "", self.arguments, self.place)


def logical_lines(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined and comments gone, each with the number it starts at.

    Raises Unreadable where a line is continued by the end of the file, or by an empty one: libpam 1.5 passes over
    that, 1.6 ends the line there.
    """
    start, joined = 0, ""
    for number, physical in enumerate(text.split("\n"), 1):
        line, comment, _ = physical.partition("\0")[0].partition("#")
        line = line.strip(SPACE)
        if not line and joined:
            break
        if not line:
            continue
        start = start if joined else number
        if line.endswith("\\") and not comment:
            joined += line[:-1] + " "
        else:
            yield start, joined + line
            joined = ""
    if joined:
        raise Unreadable(f"{name}:{start} is continued by an empty line: remove the \\ at its end")


def token(text: str) -> tuple[str | None, str]:
    """The first word and what follows it. A word in square brackets may hold spaces, and `\\]`."""
    found = TOKEN.match(text)
    if found is None:
        return None, ""
    if found["word"] is not None:
        return found["word"], text[found.end() :]
    return found["bracketed"].replace("\\]", "]"), text[found.end() :]


def _arguments(rest: str) -> Iterator[str]:
    word, rest = token(rest)
    while word is not None:
        yield word
        word, rest = token(rest)


WORDS = {
    "required": "success=ok new_authtok_reqd=ok ignore=ignore default=bad",
    "requisite": "success=ok new_authtok_reqd=ok ignore=ignore default=die",
    "optional": "success=ok new_authtok_reqd=ok default=ignore",
    "sufficient": "success=done new_authtok_reqd=done default=ignore",
}


def actions(control: str) -> tuple[int, ...]:
    """What a control field does with each return value. A malformed one is bad for all of them."""
    text = WORDS.get(control.lower(), control)
    chosen: dict[str, int] = {}
    at = 0
    while text[at:].strip():
        pair = PAIR.match(text, at)
        if pair is None or pair["action"].strip("0") == "":
            return (BAD,) * len(RETURNS)
        action = ACTIONS[pair["action"]] if pair["action"] in ACTIONS else int(pair["action"])
        _choose(chosen, pair["value"], action)
        at = pair.end()
    return tuple(chosen.get(value, BAD) for value in RETURNS)


def _choose(chosen: dict[str, int], value: str, action: int) -> None:
    """`default` fills what is not chosen yet; a value of its own overrides."""
    if value != "default":
        chosen[value] = action
        return
    for each in RETURNS:
        chosen.setdefault(each, action)
