"""What a certificate can be recognised by. Names are equal where their bytes are; nothing is folded or guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.asn1 import decode_der

from .base import MAX_NAMES, MAX_TEXT, Kind, Name
from .crls import extension, spki

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def names(certificate: x509.Certificate) -> tuple[Name, ...]:
    """All of them. Raises ValueError for a name that is none, or for too many."""
    found = tuple(dict.fromkeys(_names(certificate)))
    if len(found) > MAX_NAMES:
        raise ValueError(f"{len(found)} names")
    return found


def issuer_serial(issuer: bytes, serial: int) -> bytes:
    """The value of Kind.ISSUER_SERIAL: SHA-256 of the issuer's DER and the serial number, big endian, unpadded."""
    return hashlib.sha256(issuer + serial.to_bytes((serial.bit_length() + 7) // 8 or 1, "big")).digest()


def _names(certificate: x509.Certificate) -> Iterator[Name]:
    yield Name(Kind.KEY, hashlib.sha256(spki(certificate)).digest())
    yield Name(Kind.ISSUER_SERIAL, issuer_serial(certificate.issuer.public_bytes(), certificate.serial_number))
    if identifier := extension(certificate, x509.SubjectKeyIdentifier):
        yield Name(Kind.SUBJECT_KEY_ID, _bounded(identifier.digest))
    for name in extension(certificate, x509.SubjectAlternativeName) or ():
        if isinstance(name, x509.RFC822Name):
            yield Name(Kind.MAIL, _text(name.value))
        elif isinstance(name, x509.OtherName) and name.type_id == UPN:
            yield Name(Kind.UPN, _text(decode_der(str, name.value)))  # a UTF8String, as Microsoft has it


def _text(text: str) -> bytes:
    # A NUL, a line break, a space at an end: it would not be what a reader of logs sees.
    if not text.isprintable() or text != text.strip():
        raise ValueError("a name with odd characters")
    return _bounded(text.encode())


def _bounded(value: bytes) -> bytes:
    if not 0 < len(value) <= MAX_TEXT:
        raise ValueError(f"a name of {len(value)} bytes")
    return value
