"""What pam_pkcs11 keeps: map files of its digest and subject mappers, a line `WHAT -> login` for each.

A digest or a subject says which certificate is meant, not which key it holds; that takes the certificate itself. So the
administrator gives those that were issued, and what is taken over is the key of the one that a line means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import new
from typing import TYPE_CHECKING

from .base import Entry, Pinned, Unusable, check_name, lines
from .certificate import Found, load, one_line, pinned

if TYPE_CHECKING:
    from cryptography import x509

ARROW = "->"
DIGESTS = {16: "md5", 20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
WEAK = frozenset({"md5", "sha1"})
ABSENT = "no such certificate among those of --certificates: add it, or have its user run pam-mfa enroll smartcard"
_DIGEST = re.compile(r"(?:(md5|sha-?1|sha-?256|sha-?384|sha-?512)[:= ]\s*)?((?:[0-9a-f]{2}:?)+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, and what map files may call it by."""

    certificate: x509.Certificate
    der: bytes
    subjects: frozenset[str]


def issued(found: Iterable[Found]) -> list[Issued]:
    """What was issued; what is no certificate is left out."""
    known = []
    for each in found:
        try:
            certificate = load(each.der)
        except Unusable:
            continue
        names = certificate.subject.rdns
        forward = certificate.subject.rfc4514_string()
        backward = ",".join(name.rfc4514_string() for name in names)
        spaced = (forms.replace(",", ", ") for forms in (forward, backward))
        subjects = frozenset({one_line(certificate.subject), forward, backward, *spaced})
        known.append(Issued(certificate, each.der, subjects))
    return known


def parse(data: bytes, known: Sequence[Issued], user: str | None = None) -> list[Entry]:
    """Everything in a map file.

    Args:
        data: the file.
        known: the certificates that were issued.
        user: of a file that counts for one user alone; lines of others are left out.
    """
    return [
        Entry(number, "", why=why) if why else _line(number, text, known, user)
        for number, text, why in lines(data)
        if why or (text and not text.startswith("#"))
    ]


def _line(number: int, text: str, known: Sequence[Issued], user: str | None) -> Entry:
    what, arrow, login = (part.strip() for part in text.rpartition(ARROW))
    try:
        if not arrow or not what:
            raise Unusable("not a line of a map file: WHAT -> login")
        name = check_name(login)
    except Unusable as problem:
        return Entry(number, "", why=str(problem))
    try:
        if user not in (None, name):
            raise Unusable(f"not a line of {user}, and only those count here")
        key, note = _key(name, what, known)
        return Entry(number, name, key, note=note)
    except Unusable as problem:
        return Entry(number, name, why=str(problem))


def _key(user: str, what: str, known: Sequence[Issued]) -> tuple[Pinned, str]:
    if what.startswith("^"):
        raise Unusable("a pattern: nobody knows what it will fit")
    digest = _DIGEST.fullmatch(what)
    algorithm, note = "", "its key counts from now on, whoever else gets that subject"
    if digest:
        algorithm, value = _digest(digest)
        found = [each for each in known if new(algorithm, each.der, usedforsecurity=False).digest() == value]
        note = f"found by its {algorithm.upper()}, which is weak; its key counts from now on" * (algorithm in WEAK)
    else:
        found = [each for each in known if what in each.subjects]
    keys = {key.public_key: key for key in (pinned(user, each.certificate) for each in found)}
    if not keys:
        raise Unusable(ABSENT)
    if len(keys) > 1:
        raise Unusable("several of the certificates are called that: leave only the one that counts")
    return next(iter(keys.values())), note


def _digest(found: re.Match[str]) -> tuple[str, bytes]:
    """Algorithm and value. Raises Unusable."""
    value = bytes.fromhex(found[2].replace(":", ""))
    algorithm = DIGESTS.get(len(value))
    if algorithm is None or (found[1] and found[1].lower().replace("-", "") != algorithm):
        raise Unusable("a digest of another length than its kind has")
    return algorithm, value
