"""A PIV card as its user's session sees it: certificates, and signatures that are right or wrong in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ca import Leaf, der, spki
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

from pam_mfa.conversation import DeviceReply, DeviceTouch, Event
from pam_mfa.devices.base import Carries, Certified, Failed, Failure, Idle, Scheme, Sign, Signed, Slot, Touch

Answer = Callable[[Sign], Event]
"""What a card does with the request that runs."""
NINE_A = Slot.AUTHENTICATION


def certified(leaf: Leaf, slot: Slot = NINE_A, **special: Any) -> Certified:
    """A certificate as a helper has read it."""
    found = leaf.certificate
    key = leaf.key
    kind = f"rsa-{key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else f"p-{key.curve.key_size}"
    parts: dict[str, Any] = {
        "slot": slot,
        "certificate": der(found)[0],
        "public_key": spki(found),
        "subject": found.subject.rfc4514_string(),
        "issuer": found.issuer.rfc4514_string(),
        "number": f"{found.serial_number:x}",
        "valid_from": found.not_valid_before_utc.date().isoformat(),
        "valid_until": found.not_valid_after_utc.date().isoformat(),
        "key": kind,
    }
    return Certified(**parts | special)


class SoftCard:
    """One card.

    Args:
        leaf: what is in slot 9A; or, by slot, what is there.
        device: its number in every session.
        tries: left for its PIN.
    """

    def __init__(self, leaf: Leaf | Mapping[Slot, Leaf], device: int = 1, tries: int = 3) -> None:
        self.leaves = {NINE_A: leaf} if isinstance(leaf, Leaf) else dict(leaf)
        self.device, self.tries = device, tries

    def signed(
        self,
        request: Sign,
        slot: Slot = NINE_A,
        *,
        key: Any = None,
        message: bytes = b"",
        scheme: Scheme | None = None,
        hashed: HashAlgorithm | None = None,
    ) -> Signed:
        """A signature, wrong in one place where that is said."""
        private, message = key or self.leaves[slot].key, message or request.message
        if isinstance(private, rsa.RSAPrivateKey):
            scheme = scheme or Scheme.PKCS1
            pss = padding.PSS(padding.MGF1(SHA256()), 32)
            pad = pss if scheme is Scheme.PSS else padding.PKCS1v15()
            return Signed(self.device, slot, scheme, private.sign(message, pad, hashed or SHA256()))
        own = SHA384() if private.curve.key_size == 384 else SHA256()
        signature = private.sign(message, ec.ECDSA(hashed or own))
        return Signed(self.device, slot, scheme or Scheme.ECDSA, signature)

    # ------------------------------------------------------------------------------------------- as a script has it

    def carries(self, request: Sign) -> Event:
        """It says what is on it, of what was asked for."""
        found = tuple(certified(leaf, slot) for slot, leaf in self.leaves.items() if slot in request.slots)
        return DeviceReply(Carries(self.device, "Reader 00 00", bytes(16), self.tries, found))

    def sign(self, request: Sign) -> Event:
        """It signs with the first key that was asked for."""
        return DeviceReply(self.signed(request, next(slot for slot in request.slots if slot in self.leaves)))

    def touch(self, request: Sign) -> Event:
        """It blinks."""
        return DeviceTouch(Touch(self.device, verifies=False))

    def failed(self, why: Failure) -> Event:
        """It is out."""
        return DeviceReply(Failed(self.device, why))


def idle(devices: int = 0) -> Event:
    """No card is being read."""
    return DeviceReply(Idle(devices))
