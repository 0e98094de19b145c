"""What is asked of one PIV card, from its certificates to the signature (SP 800-73-5 part 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from .base import Carries, Certified, Failure, List, Release, Scheme, Sign, Signed, Slot, Touch, Use
from .card import WRONG_DATA, Commands, Connection, Refused
from .certificates import certified
from .line import Left, Line, Out
from .padding import pkcs1, pss
from .piv import Piv
from .terms import printable

TOUCHABLE = b"YubiKey"  # in what such a card says of itself when it gets power; no other is asked about touches
NOT_TOUCHED = (0x6982, 0x6985)

Padding = Callable[[bytes, int], bytes]
PADDINGS: dict[Scheme, Padding] = {Scheme.PKCS1: pkcs1, Scheme.PSS: pss}  # in this order
HASHES = {"p-256": hashlib.sha256, "p-384": hashlib.sha384}


class Card(Connection, Protocol):
    """A card that is had alone (pcsc.py)."""

    @property
    def atr(self) -> bytes:
        """What it said of itself when it got power."""


def serve(card: Card, reader: str, request: List | Sign, line: Line) -> None:
    """Do what is asked; the last thing said is the outcome. Raises Stranger, Out, Left and anything."""
    try:
        attend(card, reader, request, line)
    except Refused:
        raise Out(Failure.UNSUPPORTED) from None


def attend(card: Card, reader: str, request: List | Sign, line: Line) -> None:
    """The same; raises Refused as well."""
    piv = Piv(Commands(card))
    slots = request.slots if isinstance(request, Sign) else tuple(Slot)
    serial, found = piv.serial(), certificates(piv, slots)
    if isinstance(request, Sign) and not any(found.values()):
        raise Out(Failure.UNSUPPORTED if found else Failure.NO_CERTIFICATE)
    usable = {slot: each for slot, each in found.items() if each}
    line.say(Carries(line.device, printable(reader), serial, piv.tries(), tuple(usable.values())))
    if isinstance(request, Sign) and isinstance(use := chosen(line), Use):
        if use.slot not in usable:
            raise Out(Failure.NO_CERTIFICATE)
        Signer(piv, card, line, serial, usable[use.slot]).sign(request.message, use.pin)


def certificates(piv: Piv, slots: tuple[Slot, ...]) -> dict[Slot, Certified | None]:
    """Those that are there; None where the key is of a kind that nothing is signed with here. Raises anything."""
    read = {slot: piv.certificate(slot) for slot in slots}
    return {slot: certified(slot, der) for slot, der in read.items() if der is not None}


def chosen(line: Line) -> Use | Release:
    """What is to become of the card. Raises Left."""
    followup = line.hear()
    if not isinstance(followup, Use | Release):
        raise Left
    return followup


class Signer:
    """One card that is the account's, and its certificate.

    Args:
        piv, card, line: its application, its connection, and the broker's.
        serial, held: what it had to show before it was chosen, and has to show again.
    """

    def __init__(self, piv: Piv, card: Card, line: Line, serial: bytes, held: Certified) -> None:
        self._piv = piv
        self._card = card
        self._line = line
        self._serial = serial
        self._held = held

    def sign(self, message: bytes, pin: str) -> None:
        """Have it sign a message. Raises Out, Left, ValueError."""
        self._is_the_same()
        try:
            self._piv.verify(pin)
            self._await_touch()
            scheme, signature = self._signature(message, pin)
        except Refused as refused:
            self._is_the_same()
            touch = self._line.touching and refused.status in NOT_TOUCHED
            raise Out(Failure.NOT_TOUCHED if touch else Failure.UNSUPPORTED) from None
        self._is_the_same()
        self._line.say(Signed(self._line.device, self._held.slot, scheme, signature))

    def _is_the_same(self) -> None:
        """Raises Out(SWAPPED) where it is another card, or cannot tell any more."""
        before = self._serial, self._held.certificate
        try:
            now = self._piv.serial(), self._piv.certificate(self._held.slot)
        except (Refused, ValueError):
            raise Out(Failure.SWAPPED) from None
        if now != before:
            raise Out(Failure.SWAPPED)

    def _await_touch(self) -> None:
        if TOUCHABLE in self._card.atr and self._piv.wants_touch(self._held.slot):
            self._line.touching = True
            self._line.say(Touch(self._line.device, False))

    def _signature(self, message: bytes, pin: str) -> tuple[Scheme, bytes]:
        """By the first scheme whose block it takes. Raises Refused."""
        refusal: Refused | None = None
        for scheme, block in blocks(self._held.key, message):
            if refusal and self._held.slot is Slot.SIGNATURE:
                self._piv.verify(pin)  # which is right: this key forgets it with each command
            try:
                return scheme, self._piv.sign(self._held.slot, self._held.key, block)
            except Refused as refused:
                refusal = refused
            if refusal.status != WRONG_DATA:
                break
        raise refusal or ValueError("a key of no kind")


def blocks(key: str, message: bytes) -> Iterator[tuple[Scheme, bytes]]:
    """What a key of that kind is given to sign, the preferred one first."""
    if key in HASHES:
        yield Scheme.ECDSA, HASHES[key](message).digest()
        return
    for scheme, padding in PADDINGS.items():
        yield scheme, padding(message, int(key.removeprefix("rsa-")) // 8)
