"""What pam_p11 keeps of a user: ~/.eid/authorized_certificates (PEM), or ~/.ssh/authorized_keys (sshd(8)).

A line of authorized_keys is any SSH key: only whoever knows can tell which of them are on cards.
"""

from __future__ import annotations

import re

from .base import Entry, Unusable, check_name, lines, unbase64
from .certificate import BEGIN, Found, bare, certificates, load, pinned

ON_CARD = "counts only where a smartcard holds it"
NOT_ON_CARDS = "not of a kind that PIV cards have: ssh-rsa, ecdsa-sha2-nistp256 and -nistp384 are"
_KEY = re.compile(r"(?:^|\s)((?:ssh|sk|ecdsa|webauthn)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/=]+)(?:\s|$)")
_USABLE = frozenset({"ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"})


def parse(data: bytes, user: str | None) -> list[Entry]:
    """Every key of a file. It does not say whose they are.

    Args:
        data: authorized_certificates or authorized_keys.
        user: whose it is.
    """
    if BEGIN in data or data.startswith(b"\x30"):
        return [_certificate(found, user) for found in certificates(data)]
    return [
        Entry(number, user or "", why=why) if why else _line(number, text, user)
        for number, text, why in lines(data)
        if why or (text and not text.startswith("#"))
    ]


def _certificate(found: Found, user: str | None) -> Entry:
    try:
        if found.why:
            raise Unusable(found.why)
        return Entry(found.line, user or "", pinned(_whose(user), load(found.der)))
    except Unusable as problem:
        return Entry(found.line, user or "", why=str(problem))


def _line(number: int, text: str, user: str | None) -> Entry:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    try:
        name = _whose(user)
        key = _KEY.search(text)
        if not key:
            raise Unusable("neither a certificate nor a line of authorized_keys")
        if key[1] not in _USABLE:
            raise Unusable(NOT_ON_CARDS)
        unbase64(key[2], "key")
        loaded = load_ssh_public_key(f"{key[1]} {key[2]}".encode())
        spki = loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Entry(number, name, bare(name, spki), note=ON_CARD)
    except Unusable as problem:
        return Entry(number, user or "", why=str(problem))
    except (ValueError, UnsupportedAlgorithm):
        return Entry(number, user or "", why="a damaged SSH key")


def _whose(user: str | None) -> str:
    if user is None:
        raise Unusable("the file does not say whose it is: add --user")
    return check_name(user)
