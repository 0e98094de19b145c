"""FIDO2 security keys: what is stored of them. Their flows load with the first key that somebody has.

`prove` and `enrol` are in ceremonies.py, what is said meanwhile in dialogue.py, what is believed in assertion.py. A
login by code imports this file alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from ..conversation import Steps
from ..outcome import Proof
from ..store.rows import Credential
from ..structure import field, structure
from ..throttle import Instant
from .base import Ceremony, Enrolment, Made, Place
from .material import packed, unpacked

FORM = 1
TRANSPORTS = {1: "usb", 2: "nfc"}  # devices/base.py
_UUID = ((0, 4), (4, 6), (6, 8), (8, 10), (10, 16))
_HEAD = struct.Struct(">BBB")
_VERIFIED, _DISCOVERABLE, _SYNCED, _SYNCED_KNOWN = 1, 2, 4, 8


@structure
class Material:
    """The credential record (WebAuthn Level 3 section 4) but for its sign count, which is the credential's mark.

    Args:
        rp_id: the relying party id that it was made for.
        credential_id: 1 to 1,023 bytes.
        key: public key, in canonical COSE encoding (assertion.py).
        aaguid: the authenticator's model, by its own word; zeros where it does not say.
        user_handle: empty where it is not known (imported).
        transport: a key of TRANSPORTS, 0 where it is not known.
        product: the device's name when it was enrolled.
        verified: its user was verified when it was enrolled (UV).
        discoverable: it is kept on the device.
        synced: it can leave its authenticator (BE); None where that is not known (imported).
    """

    rp_id: str
    credential_id: bytes = field(repr=False)
    key: bytes = field(repr=False)
    aaguid: bytes = bytes(16)
    user_handle: bytes = field(default=b"", repr=False)
    transport: int = 0
    product: str = ""
    verified: bool = False
    discoverable: bool = False
    synced: bool | None = None

    @property
    def imported(self) -> bool:
        """Whether another program enrolled it."""
        return self.synced is None

    @property
    def demanding(self) -> bool:
        """Whether its user has to be verified whatever the rule says: so it was with the program that enrolled it."""
        return self.imported and self.verified

    def pack(self) -> bytes:
        """The credential's material."""
        flags = _VERIFIED * self.verified | _DISCOVERABLE * self.discoverable
        flags |= _SYNCED * bool(self.synced) | _SYNCED_KNOWN * (self.synced is not None)
        texts = (
            self.rp_id.encode(),
            self.credential_id,
            self.key,
            self.aaguid,
            self.user_handle,
            self.product.encode(),
        )
        return _HEAD.pack(FORM, flags, self.transport) + packed(texts)

    @staticmethod
    def unpack(material: bytes) -> Material:
        """The other way round. Material was sealed by us, so its form is not checked again."""
        _, flags, transport = _HEAD.unpack_from(material)
        rp_id, credential_id, key, aaguid, user_handle, product = unpacked(material, _HEAD.size)
        synced = bool(flags & _SYNCED) if flags & _SYNCED_KNOWN else None
        known = (rp_id.decode(), credential_id, key, aaguid, user_handle, transport, product.decode())
        return Material(*known, bool(flags & _VERIFIED), bool(flags & _DISCOVERABLE), synced)


def credential_name(credential_id: bytes) -> str:
    """Our id of a credential: the same for the same one, whoever enrols it, so that a second owner is found."""
    return sha256(credential_id).hexdigest()[:32]


class Fido2:
    """The factor."""

    name = "fido2"

    def __init__(self, mac: Callable[[bytes], bytes]) -> None:
        self._mac = mac

    def prove(self, ceremony: Ceremony) -> Steps[Proof | None]:
        """Flow: have one of the account's keys sign. Nothing is said to whoever is not at this host.

        Nor to who has none; but where nothing was proven before, a key that does not exist is asked for.
        """
        place = ceremony.place
        if not place.local or not (ceremony.account.of(self.name) or place.uniform):
            return None
        from . import ceremonies

        return (yield from ceremonies.prove(ceremony, self.name, self._decoy(place)))

    def _decoy(self, place: Place) -> Material:
        """Always the same one for a name, or its changing would tell."""
        name = f"{place.host}\0{place.user}".encode(errors="surrogateescape")
        return Material(place.rp_id, self._mac(b"decoy 1" + name) + self._mac(b"decoy 2" + name), b"", bytes(16))

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: have a key make a credential, then sign with it, before it counts."""
        from . import ceremonies

        return (yield from ceremonies.enrol(enrolment, self.name))

    def details(self, credential: Credential) -> Mapping[str, Any]:
        found = Material.unpack(credential.material)
        return {
            "product": found.product,
            "aaguid": "-".join(found.aaguid[start:end].hex() for start, end in _UUID),
            "transport": TRANSPORTS.get(found.transport, ""),
            "verified": found.verified,
            "discoverable": found.discoverable,
            "synced": found.synced,
            "counter": credential.mark,
            "suspect": credential.suspect,
            "rp_id": found.rp_id,
        }

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None
