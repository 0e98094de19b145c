"""A user's authorized_keys (sshd(8)): those of its keys that are in security keys, and what their lines say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..factors.assertion import Unproven
from ..factors.ssh_public import CERTIFICATES, check, read
from .base import Entry, Presented, Unusable, check_name, lines

PLAIN = "in no security key, so it stays a first factor: sk-ssh-ed25519 and sk-ecdsa keys are"
UNTOUCHED = "its line says no-touch-required, and only what was touched counts; --allow-no-touch takes it all the same"
CERTIFICATE = "of a certificate; what counts is the user's own key"
TOUCHED = "has to be touched from now on"
_KIND = re.compile(r"(?:ssh|sk|ecdsa|webauthn)-[a-z0-9@.-]+")


def parse(data: bytes, user: str | None, allow_no_touch: bool = False) -> list[Entry]:
    """Every key of a file, which does not say whose they are.

    Args:
        data: authorized_keys, or the public key as ssh-keygen writes it.
        user: whose it is.
        allow_no_touch: take keys too that sshd was told not to demand a touch of. They count with one.
    """
    return [
        Entry(number, user or "", why=why) if why else _line(number, text.strip(), user, allow_no_touch)
        for number, text, why in lines(data)
        if why or (text.strip() and not text.lstrip().startswith("#"))
    ]


def _line(number: int, text: str, user: str | None, allow_no_touch: bool) -> Entry:
    try:
        if user is None:
            raise Unusable("the file does not say whose it is: add --user")
        options, rest = _parted(text)
        given = _given(options)
        if given.get("touch") is False and not allow_no_touch:
            raise Unusable(UNTOUCHED)
        found = _key(check_name(user), rest, given)
        return Entry(number, user, found, note=TOUCHED if given.get("touch") is False else "")
    except Unusable as problem:
        return Entry(number, user or "", why=str(problem))


def _parted(text: str) -> tuple[str, list[str]]:
    """The options in front, and what stands behind them in words. Raises Unusable."""
    end = 0 if _KIND.match(text) else _end(text)
    words = text[end:].split(maxsplit=2)
    if len(words) < 2 or not _KIND.fullmatch(words[0]):
        raise Unusable("not a line of authorized_keys")
    return text[:end], words


def _end(text: str) -> int:
    """Where the options end: at a blank outside of quotes."""
    quoted = False
    for at, char in enumerate(text):
        if char == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif char in " \t" and not quoted:
            return at
    return len(text)


def _given(options: str) -> dict[str, bool]:
    """What the options say of touch and verification, the last word of each; and whether it is an authority's key."""
    given = {}
    for name in _names(options):
        if name in ("touch-required", "no-touch-required"):
            given["touch"] = name == "touch-required"
        elif name in ("verify-required", "no-verify-required"):
            given["verify"] = name == "verify-required"
        elif name == "cert-authority":
            given["authority"] = True
    return given


def _names(options: str) -> Iterator[str]:
    quoted = re.sub(r'"(?:\\"|[^"])*"', "", options)
    return (name.strip().lower() for name in quoted.split(","))


def _key(user: str, words: list[str], given: dict[str, bool]) -> Presented:
    """Raises Unusable."""
    kind, encoded = (word.encode() for word in words[:2])
    if given.get("authority") or kind in CERTIFICATES:
        raise Unusable(CERTIFICATE)
    try:
        key = read(kind + b" " + encoded)
        check(key)
    except Unproven as bad:
        raise Unusable(PLAIN if bad.reason == "algorithm" else "a damaged SSH key") from None
    return Presented(user, key.blob, given.get("verify", False))
