"""What the path checker is asked, and what it answers: fixed structures over one SOCK_SEQPACKET connection.

One connection is one request and one answer. The bytes of certificates go in; nothing that comes out has to be parsed
again but the public key.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from ..structure import structure

MAX_CHAIN = 8
MAX_CERTIFICATE = 16 * 1024
MAX_PACKET = 160 * 1024
MAX_NAMES = 32
MAX_TEXT = 256
SECONDS = 3


class Revocation(IntEnum):
    """What holds where no certificate list tells whether a certificate was revoked."""

    STRICT = 1  # then nobody knows whether it is good
    SOFT = 2  # then it is good


class Trust(IntEnum):
    """The verdict on a path."""

    GOOD = 1
    BAD = 2
    UNKNOWN = 3  # a list is missing or stale, and that matters


class Kind(IntEnum):
    """What a certificate can be recognised by."""

    KEY = 1  # SHA-256 of its subject public key info
    ISSUER_SERIAL = 2  # SHA-256 of its issuer's DER and its serial number
    SUBJECT_KEY_ID = 3  # the extension's bytes (RFC 5280 section 4.2.1.2)
    UPN = 4  # Microsoft's user principal name, UTF-8 (only as good as whoever issues it)
    MAIL = 5  # rfc822Name, UTF-8 (the same)


@structure
class Check:
    """Whether a certificate is good for a login just now.

    Args:
        chain: DER, the certificate first; what the card has beside it may follow.
        revocation: see there.
        usages: dotted OIDs of extended key usages; the certificate must have one of them. Empty: any will do.
    """

    TYPE: ClassVar[int] = 0x01

    chain: tuple[bytes, ...]
    revocation: Revocation
    usages: tuple[str, ...]


@structure
class Name:
    """One thing that a certificate can be recognised by."""

    kind: Kind
    value: bytes


@structure
class Checked:
    """What became of it.

    Args:
        trust: see there. Everything below but the reason is empty unless it is GOOD.
        reason: one machine-readable word, for the audit record: "expired", "revoked", "no_path", "crl_stale"...
        public_key: the certificate's subject public key info, DER.
        anchor: file name of the trust anchor at the end of the path.
        names: what it can be recognised by.
    """

    TYPE: ClassVar[int] = 0x81

    trust: Trust
    reason: str
    public_key: bytes = b""
    anchor: str = ""
    names: tuple[Name, ...] = ()
