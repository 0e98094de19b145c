"""Certificates and public keys as files have them, as keys of smartcards that can be pinned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..factors.assertion import Unproven
from ..factors.card_signature import key_name
from .base import Pinned, Unusable, unbase64

if TYPE_CHECKING:
    from cryptography import x509

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
MAX_CERTIFICATE = 16 * 1024
MAX_SHOWN = 256
DER = b"\x30"
# As OpenSSL writes a name on one line, which RFC 4514 does not name.
SHORT = {
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.46": "dnQualifier",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate in a file.

    Args:
        line: where it begins, from 1.
        der: its bytes; empty where it cannot be read.
        why: why not.
    """

    line: int
    der: bytes = field(default=b"", repr=False)
    why: str = ""


def certificates(data: bytes) -> Iterator[Found]:
    """All certificates of a file: PEM, one after the other, or one in DER."""
    if data.startswith(DER):
        yield Found(1, data) if len(data) <= MAX_CERTIFICATE else Found(1, why="too large for a certificate")
        return
    at, line = data.find(BEGIN), 1
    begun = 0
    while at >= 0:
        line += data.count(b"\n", begun, at)
        begun = at
        end = data.find(END, at)
        if end < 0:
            yield Found(line, why="not one whole certificate")
            return
        yield _pem(line, data[at + len(BEGIN) : end])
        at = data.find(BEGIN, end)


def _pem(line: int, body: bytes) -> Found:
    if len(body) > 2 * MAX_CERTIFICATE:
        return Found(line, why="too large for a certificate")
    try:
        return Found(line, unbase64(b"".join(body.split()).decode("ascii", errors="replace"), "certificate"))
    except Unusable as problem:
        return Found(line, why=str(problem))


def load(der: bytes) -> x509.Certificate:
    """A certificate. Raises Unusable."""
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(der)
        found.subject, found.issuer, found.not_valid_after_utc  # noqa: B018 - read when they are asked for
    except ValueError:
        raise Unusable("not a certificate that can be read") from None
    return found


def pinned(user: str, certificate: x509.Certificate) -> Pinned:
    """The key of a certificate, and what can be shown of it. Raises Unusable."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(KINDS) from None
    shown = (certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string())
    until = certificate.not_valid_after_utc.date().isoformat()
    subject, issuer = map(_printable, shown)
    return Pinned(user, spki, _name(spki), subject, issuer, f"{certificate.serial_number:x}"[:MAX_SHOWN], until)


def bare(user: str, spki: bytes) -> Pinned:
    """A key without a certificate. Raises Unusable."""
    return Pinned(user, spki, _name(spki))


KINDS = "of a kind that pam-mfa does not take: RSA of 2048, 3072 or 4096 bits, P-256 and P-384 are"


def _name(spki: bytes) -> str:
    try:
        return key_name(spki)
    except Unproven:
        raise Unusable(KINDS) from None


def one_line(name: x509.Name) -> str:
    """A name as OpenSSL's X509_NAME_oneline has it: /C=NL/O=Example/CN=alice."""
    return "".join(f"/{_short(part)}={part.value!s}" for part in name)


def _short(part: x509.NameAttribute) -> str:  # type: ignore[type-arg]
    return SHORT.get(part.oid.dotted_string, part.rfc4514_attribute_name)


def _printable(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text[:MAX_SHOWN])
