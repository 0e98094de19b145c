"""pam_u2f's mapping files: `user:HANDLE,KEY,ALGORITHM,OPTIONS:HANDLE,...`, and the SSH keys of its option sshformat.

Up to pam_u2f 1.0.8 a key was `HANDLE,KEY` with a websafe handle and the key's point in hex; such keys were made
for the appid, all others for the origin. The last line of a user is the one that pam_u2f uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from . import sshkey
from .base import Entry, Imported, Unusable, check_id, check_name, lines, unbase64
from .publickey import ENCODERS, sec1

OPTIONS = frozenset({"presence", "verification", "pin"})
RESIDENT = "*"
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class RelyingParties:
    """What pam_u2f's options `origin` and `appid` said."""

    origin: str
    appid: str


def parse(data: bytes, parties: RelyingParties, user: str | None = None) -> list[Entry]:
    """Everything in a mapping file.

    Args:
        data: the file.
        parties: of the PAM line that named the file.
        user: of a file that is one user's own: pam_u2f reads that user's lines only. Lines without a name are its.
    """
    if sshkey.is_one(data):
        return [sshkey.parse(data, user)]
    found: list[Entry] = []
    for number, text, why in lines(data):
        if why:
            found.append(Entry(number, "", why=why))
        elif text and not text.startswith("#"):
            found += _line(number, text, parties, user)
    return _only_last_lines(found)


def _line(number: int, text: str, parties: RelyingParties, user: str | None) -> list[Entry]:
    name, _, rest = text.partition(":")
    name = name or user or ""
    try:
        check_name(name)
    except Unusable as problem:
        return [Entry(number, "", why=str(problem))]
    if user is not None and name != user:
        return [Entry(number, name, why=f"not a line of {user}, and only those count here")]
    keys = [key for key in rest.split(":") if key]
    return [_entry(number, name, key, parties) for key in keys] or [Entry(number, name, why="no key in this line")]


def _entry(number: int, name: str, key: str, parties: RelyingParties) -> Entry:
    try:
        imported, options = _key(name, [part for part in key.split(",") if part], parties)
    except Unusable as problem:
        return Entry(number, name, why=str(problem))
    return Entry(number, name, imported, note=note(options))


def _key(name: str, parts: Sequence[str], parties: RelyingParties) -> tuple[Imported, frozenset[str]]:
    if not 2 <= len(parts) <= 4:
        raise Unusable("not a key: handle, public key, algorithm and options are separated by commas")
    handle, public, algorithm, options = (*parts, "", "")[:4]
    if handle == RESIDENT:
        raise Unusable(
            "a resident key, whose id the file omits: put it in the place of *, as fido2-token -L -k ID shows it"
        )
    if len(parts) == 2:
        found = Imported(name, parties.appid, check_id(_websafe(handle)), sec1(_unhex(public)), "es256")
        return found, frozenset({"presence"})
    algorithm, wanted = algorithm.lower(), frozenset(options.split("+")) - {""}
    if algorithm not in ENCODERS:
        raise Unusable("of an algorithm that pam-mfa does not take: es256, eddsa and rs256 are")
    if wanted - OPTIONS:
        raise Unusable("options other than +presence, +verification and +pin")
    cose = ENCODERS[algorithm](unbase64(public, "public key"))
    verified = bool(wanted & {"verification", "pin"})
    return Imported(name, parties.origin, check_id(unbase64(handle, "key handle")), cose, algorithm, verified), wanted


def note(options: Iterable[str]) -> str:
    """What will be different from what pam_u2f did with a key of these options."""
    if {"verification", "pin"} & set(options):
        return "its PIN or fingerprint is asked for, whatever user_verification says"
    return "" if "presence" in options else "has to be touched from now on"


def _websafe(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return unbase64(plain + "=" * (-len(plain) % 4), "key handle")


def _unhex(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise Unusable("the public key is not hex, as it is in a line of this form")
    return bytes.fromhex(text)


def _only_last_lines(entries: Sequence[Entry]) -> list[Entry]:
    last = {entry.user: entry.line for entry in entries}
    return [
        entry
        if not entry.user or entry.line == last[entry.user]
        else replace(entry, imported=None, why=f"not used: pam_u2f takes the last line, {last[entry.user]}", note="")
        for entry in entries
    ]
