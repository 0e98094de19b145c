"""Passkey mappings of SSSD and FreeIPA: `passkey:CREDENTIAL,KEY[,USER]`, as strings or as LDIF (RFC 2849).

FreeIPA keeps them in ipaPassKey, Active Directory in altSecurityIdentities. KEY is the body of a PEM public key; the
third part is there for discoverable credentials. What the key was made for is the domain, which the mapping omits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .base import MAX_LINE, Entry, Imported, Unusable, check_id, check_name, lines, unbase64
from .publickey import COORDINATE, spki

PREFIX = "passkey:"
MAPPINGS = frozenset({"ipapasskey", "altsecurityidentities"})
NAMES = ("uid", "samaccountname")
MAX_USER_HANDLE = 64  # WebAuthn section 5.4.3
_ATTRIBUTE = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:;[A-Za-z0-9;-]*)?(::?) *(.*)")
_NAMED_BY = re.compile(r"uid=([^,+]+)", re.IGNORECASE)
_NOT_BASE64 = re.compile(r"-----(?:BEGIN|END) PUBLIC KEY-----|\\n")


@dataclass(slots=True)
class _Line:
    """One line with its continuations, in pieces."""

    number: int
    pieces: list[str]
    why: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A line of LDIF. `name` is in lower case, and empty for a mapping that stands alone."""

    number: int
    name: str
    value: str


def parse(data: bytes, rp_id: str, user: str | None = None) -> list[Entry]:
    """Everything in a list of mappings, or in LDIF.

    Args:
        data: one mapping, or one a line, or LDIF.
        rp_id: the domain.
        user: whose the mappings are that do not say it; with it, those of others are left out.
    """
    found: list[Entry] = []
    entry: list[_Attribute] = []
    for number, text, why in _whole_lines(data):
        if not text and not why:
            found += _entry(entry, rp_id, user)
            entry = []
        elif not text.startswith("#"):
            read = why or _attribute(number, text)
            if isinstance(read, _Attribute):
                entry.append(read)
            else:
                found.append(Entry(number, "", why=read))
    return sorted(found + _entry(entry, rp_id, user), key=lambda one: one.line)


def _whole_lines(data: bytes) -> Iterator[tuple[int, str, str]]:
    """As base.lines gives them, but with what is continued behind a blank joined to its line."""
    pending: _Line | None = None
    for number, text, why in lines(data):
        if text.startswith(" ") and pending is not None:
            pending.size += len(text)
            pending.pieces.append(text[1:] if pending.size <= MAX_LINE else "")
            continue
        if pending is not None:
            yield _joined(pending)
        pending = _Line(number, [text], why, len(text))
    if pending is not None:
        yield _joined(pending)


def _joined(line: _Line) -> tuple[int, str, str]:
    if line.size > MAX_LINE:
        return line.number, "", f"longer than {MAX_LINE} characters"
    return line.number, "".join(line.pieces), line.why


def _attribute(number: int, text: str) -> _Attribute | str:
    """What a line says, or why it says nothing."""
    if text.startswith(PREFIX):
        return _Attribute(number, "", text)
    found = _ATTRIBUTE.fullmatch(text)
    if not found:
        return "neither a passkey mapping nor LDIF"
    name, separator, value = found.groups()
    if separator == "::":
        try:
            value = unbase64(value, "value").decode("ascii")
        except (Unusable, UnicodeDecodeError):
            value = ""  # of no attribute that we look at: mappings and our user names are ASCII
    return _Attribute(number, name.lower(), value)


def _entry(attributes: Sequence[_Attribute], rp_id: str, user: str | None) -> list[Entry]:
    """The mappings of one entry of a directory, or of lines that stand alone."""
    owner = _owner(attributes)
    return [
        _mapping(attribute, rp_id, user if attribute.name == "" else owner or user, user)
        for attribute in attributes
        if attribute.name == "" or attribute.name in MAPPINGS
    ]


def _owner(attributes: Iterable[_Attribute]) -> str | None:
    said = {attribute.name: attribute.value for attribute in attributes}
    named = _NAMED_BY.match(said.get("dn", ""))
    return next((said[name] for name in NAMES if name in said), named and named[1])


def _mapping(attribute: _Attribute, rp_id: str, owner: str | None, user: str | None) -> Entry:
    try:
        if owner is None:
            raise Unusable("it does not say whose it is: add --user")
        if user not in (None, check_name(owner)):
            raise Unusable(f"not one of {user}")
        return Entry(attribute.number, owner, _key(attribute.value, rp_id, owner))
    except Unusable as problem:
        return Entry(attribute.number, owner or "", why=str(problem))


def _key(mapping: str, rp_id: str, user: str) -> Imported:
    parts = mapping.removeprefix(PREFIX).split(",")
    if not mapping.startswith(PREFIX) or len(parts) not in (2, 3):
        raise Unusable("not a passkey mapping: passkey:CREDENTIAL,KEY")
    credential_id = check_id(unbase64(parts[0], "credential id"))
    der = unbase64(_NOT_BASE64.sub("", parts[1]), "public key")
    if len(der) == 2 * COORDINATE:
        raise Unusable("an old mapping, which does not say its algorithm: register the key anew")
    algorithm, cose = spki(der)
    handle = unbase64(parts[2], "user handle") if len(parts) == 3 else b""
    if len(handle) > MAX_USER_HANDLE:
        raise Unusable(f"a user handle has at most {MAX_USER_HANDLE} bytes")
    return Imported(user, rp_id, credential_id, cose, algorithm, discoverable=bool(handle), user_handle=handle)
