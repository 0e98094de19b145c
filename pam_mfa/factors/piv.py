"""PIV smartcards (SP 800-73-5): what is stored of them. Their flows load with the first card that somebody has.

`prove` is in card_ceremonies.py, `enrol` in card_enrolment.py, what is said meanwhile in card_dialogue.py, which
certificates are believed in certificates.py, which signatures in card_signature.py. A login by code imports this file
alone.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ..conversation import Steps
from ..outcome import Proof
from ..store.rows import Credential
from ..structure import field, structure
from ..throttle import Instant
from .base import Ceremony, Enrolment, Made
from .material import packed, unpacked

FORM = 1
KEY, UPN, MAIL = 1, 4, 5  # verify/base.py has the kinds
KINDS = {KEY: "key", 2: "issuer-serial", 3: "subject-key-id", UPN: "upn", MAIL: "mail"}
_TEXTS = frozenset({UPN, MAIL})
_HEAD = struct.Struct(">BBB")


@structure
class Material:
    """What a certificate is recognised by, and what it was when that was stored.

    Args:
        kind: a key of KINDS.
        value: the same that the path checker gives: a hash, an identifier, or a name in UTF-8.
        slot: where the certificate was, 0x9a and so on; 0 where that is not known (imported).
        key: "p-256" and so on.
        subject, issuer: RFC 4514.
        number: its serial number in hex.
        valid_until: as in 2026-12-31.
    """

    kind: int
    value: bytes = field(repr=False)
    slot: int = 0
    key: str = ""
    subject: str = ""
    issuer: str = ""
    number: str = ""
    valid_until: str = ""

    @property
    def id(self) -> str:
        """Our id of the credential: the same for the same thing, whoever enrols it, so that a second owner is found."""
        return credential_name(self.kind, self.value)

    @property
    def shown(self) -> str:
        """Its value as it can be shown."""
        return self.value.decode() if self.kind in _TEXTS else self.value.hex()

    def pack(self) -> bytes:
        """The credential's material."""
        shown = (self.key, self.subject, self.issuer, self.number, self.valid_until)
        texts = (self.value, *(text.encode() for text in shown))
        return _HEAD.pack(FORM, self.kind, self.slot) + packed(texts)

    @staticmethod
    def unpack(material: bytes) -> Material:
        """The other way round. Material was sealed by us, so its form is not checked again."""
        _, kind, slot = _HEAD.unpack_from(material)
        value, *shown = unpacked(material, _HEAD.size)
        return Material(kind, value, slot, *(text.decode() for text in shown))


def credential_name(kind: int, value: bytes) -> str:
    """Our id of a credential of that kind and value."""
    return sha256(bytes([kind]) + value).hexdigest()[:32]


def pinned(public_key: bytes) -> bytes:
    """What a key is recognised by: SHA-256 of its subject public key info (RFC 5280 section 4.1.2.7)."""
    return sha256(public_key).digest()


class Smartcard:
    """The factor."""

    name = "smartcard"

    def prove(self, ceremony: Ceremony) -> Steps[Proof | None]:
        """Flow: have one of the account's cards sign. Nothing is said to whoever is not at this host.

        Nor to who has none; but where nothing was proven before, a card is asked for all the same.
        """
        place = ceremony.place
        if not place.local or not (ceremony.account.of(self.name) or place.uniform):
            return None
        from . import card_ceremonies

        return (yield from card_ceremonies.prove(ceremony, self.name))

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: show a card's certificate, ask, and have the card sign, before it counts."""
        from . import card_enrolment

        return (yield from card_enrolment.enrol(enrolment, self.name))

    def details(self, credential: Credential) -> Mapping[str, Any]:
        found = Material.unpack(credential.material)
        return {
            "by": KINDS[found.kind],
            "matches": found.shown,
            "slot": f"{found.slot:02x}" if found.slot else "",
            "key": found.key,
            "subject": found.subject,
            "issuer": found.issuer,
            "serial": found.number,
            "valid_until": found.valid_until,
        }

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None
