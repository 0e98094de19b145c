"""A security key as its user's session sees it: signed answers, right or wrong in one place, and no device."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from pam_mfa.conversation import DeviceReply, DeviceTouch, Event
from pam_mfa.devices.base import Assert, Asserted, Holds, Made, Make, Touch, Transport, Wanted
from pam_mfa.factors.assertion import Es256

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
Asked = TypeVar("Asked")
Answer = Callable[[Assert | Make], Event]
"""What a device does with the request that runs."""


class SoftKey:
    """One authenticator with any number of credentials.

    Args:
        device: its number in every session.
        verifies: it verifies its user.
        count: what it counted so far; None if it does not count.
        synced: its credentials may leave it.
    """

    def __init__(self, device: int = 1, *, verifies: bool = False, count: int | None = 0, synced: bool = False) -> None:
        self.device, self.verifies, self.count, self.synced = device, verifies, count, synced
        self.name = "Soft Key"
        self.aaguid = bytes(range(16))
        self.keys: dict[bytes, ec.EllipticCurvePrivateKey] = {}
        self.handles: dict[bytes, bytes] = {}
        self.discoverable: set[bytes] = set()

    def flags(self) -> int:
        """UP, and what it is."""
        return UP | UV * self.verifies | (BE | BS) * self.synced

    def _head(self, rp_id: str, flags: int) -> bytes:
        if self.count is not None:
            self.count += 1
        return sha256(rp_id.encode()).digest() + bytes([flags]) + (self.count or 0).to_bytes(4)

    # ------------------------------------------------------------------------------------- the device's answers

    def made(self, request: Make, *, flags: int | None = None, rp_id: str = "", credential_id: bytes = b"") -> Made:
        """A new credential."""
        private = ec.generate_private_key(ec.SECP256R1())
        point = private.public_key().public_numbers()
        id_ = credential_id or secrets.token_bytes(48)
        self.keys[id_], self.handles[id_] = private, request.user_handle
        if request.discoverable:
            self.discoverable.add(id_)
        attested = self.aaguid + len(id_).to_bytes(2) + id_ + Es256(point.x.to_bytes(32), point.y.to_bytes(32)).encoded
        head = self._head(rp_id or request.rp_id, (self.flags() if flags is None else flags) | AT)
        return Made(self.device, Transport.USB, self.name, head + attested)

    def asserted(
        self,
        request: Assert,
        *,
        flags: int | None = None,
        rp_id: str = "",
        hash: bytes = b"",
        handle: bytes | None = None,
        answer_as: bytes = b"",
    ) -> Asserted:
        """A signature by the first wanted credential that it holds."""
        wanted = self._held(request) or [Wanted(request.wanted[0].rp_id, next(iter(self.keys)))]
        id_ = wanted[0].credential_id
        data = self._head(rp_id or wanted[0].rp_id, self.flags() if flags is None else flags)
        signature = self.keys[id_].sign(data + (hash or request.client_data_hash), ec.ECDSA(SHA256()))
        given = (self.handles[id_] if id_ in self.discoverable else b"") if handle is None else handle
        return Asserted(self.device, Transport.USB, rp_id or wanted[0].rp_id, answer_as or id_, data, signature, given)

    def _held(self, request: Assert) -> list[Wanted]:
        return [wanted for wanted in request.wanted if wanted.credential_id in self.keys]

    # ------------------------------------------------------------------------------------------- as a script has it

    def holds(self, request: Assert | Make) -> Event:
        """It says what it has of what is wanted."""
        assert isinstance(request, Assert)
        ids = tuple(wanted.credential_id for wanted in self._held(request))
        return DeviceReply(Holds(self.device, Transport.USB, self.name, ids))

    def touch(self, request: Assert | Make) -> Event:
        """It blinks."""
        return DeviceTouch(Touch(self.device, verifies=False))

    def make(self, request: Assert | Make) -> Event:
        """It makes a credential."""
        assert isinstance(request, Make)
        return DeviceReply(self.made(request))

    def sign(self, request: Assert | Make) -> Event:
        """It signs."""
        assert isinstance(request, Assert)
        return DeviceReply(self.asserted(request))


def once(answer: Callable[[Asked], Event]) -> Callable[[Asked], Event]:
    """The same answer for ever, whatever is asked: what somebody has who recorded one."""
    kept: list[Event] = []

    def again(request: Asked) -> Event:
        if not kept:
            kept.append(answer(request))
        return kept[0]

    return again
