"""The PIV application of a card (NIST SP 800-73-5): its data objects, its PIN, its signatures."""

from __future__ import annotations

import zlib

from .base import MAX_CERTIFICATE, Failure, Slot
from .card import NOT_FOUND, Commands, Refused, objects, tlv, value
from .line import Out, Stranger

AID = bytes.fromhex("A000000308")  # the beginning of it, part 1 section 2.2
VERIFY, GENERAL_AUTHENTICATE, GET_DATA = 0x20, 0x87, 0xCB
CERTIFICATES = {  # part 1 table 3
    Slot.AUTHENTICATION: bytes.fromhex("5FC105"),
    Slot.SIGNATURE: bytes.fromhex("5FC10A"),
    Slot.KEY_MANAGEMENT: bytes.fromhex("5FC10B"),
}
CHUID, DISCOVERY = bytes.fromhex("5FC102"), b"\x7e"
PIN_POLICY = 0x5F2F  # within the discovery object, part 1 section 3.3.2
PIV_PIN, GLOBAL_PIN = 0x80, 0x00
GZIP = 1
MAX_SERIAL = 16
MAX_SIGNATURE = 512
PIN_LENGTHS = range(6, 9)
UNKNOWN_TRIES = 255
LAST_TRIES = 1  # the user's own
BLOCKED, WRONG_PIN, WRONG_PIN_OF = 0x6983, 0x6300, 0x63C0  # the last one and the tries left
NOT_A_PIN = (0x6700, 0x6A80)  # it costs no try
CHANGE_PIN = (0x6984, 0x6985)  # it is another's, or must be changed first
ALGORITHMS = {"rsa-2048": 0x07, "rsa-3072": 0x05, "rsa-4096": 0x16, "p-256": 0x11, "p-384": 0x14}  # SP 800-78-5
METADATA = 0xF7  # Yubico's
TOUCH_POLICIES = (0x02, 0x03)  # always, and unless it was touched in the last 15 seconds


class Piv:
    """The application, chosen.

    Args:
        commands: to the card.

    Raises Stranger where it has none. What is asked of it raises Refused and ValueError beside what `commands` do.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        try:
            commands.select(AID)
        except Refused:
            raise Stranger from None
        self._pin_reference = self._primary_pin()

    def serial(self) -> bytes:
        """The card's own number: the GUID of its CHUID, empty where it has none (part 1 section 3.1.2)."""
        content = self._read(CHUID)
        return (value(content, 0x34) or b"")[:MAX_SERIAL] if content else b""

    def certificate(self, slot: Slot) -> bytes | None:
        """DER, None where there is none (part 1 section 3.1 and appendix A)."""
        content = self._read(CERTIFICATES[slot])
        packed = value(content, 0x70) if content else None
        if not content or not packed:
            return None
        information = (value(content, 0x71) or b"\0")[0]
        der = _unpacked(packed) if information & 0x03 == GZIP else packed
        if len(der) > MAX_CERTIFICATE:
            raise ValueError("a certificate without end")
        return der

    def tries(self) -> int:
        """Left for the PIN; 255 where it does not say, as while one is verified (part 2 section 3.2.1)."""
        try:
            self._commands.send(VERIFY, 0x00, self._pin_reference, answers=False)
        except Refused as refused:
            return _tries(refused)
        return UNKNOWN_TRIES

    def verify(self, pin: str) -> None:
        """Have the PIN verified. Raises Out where it is not right, or is not sent: one that cannot be right costs no
        try, and the last try is the user's own.
        """
        if len(pin) not in PIN_LENGTHS or not pin.isascii() or not pin.isprintable():
            raise Out(Failure.PIN_WRONG)
        tries = self.tries()
        if tries <= LAST_TRIES:
            raise Out(Failure.PIN_LAST_TRIES if tries else Failure.PIN_BLOCKED)
        padded = pin.encode().ljust(PIN_LENGTHS[-1], b"\xff")
        try:
            self._commands.send(VERIFY, 0x00, self._pin_reference, padded, answers=False)
        except Refused as refused:
            raise _pin_failure(refused) from None

    def sign(self, slot: Slot, key: str, block: bytes) -> bytes:
        """What a key makes of a block (part 2 section 3.2.4).

        Args:
            key: its kind, as in base.Certified.
            block: as long as an RSA modulus, or as a hash for an elliptic curve.
        """
        template = tlv(0x7C, tlv(0x82), tlv(0x81, block))
        answer = value(self._commands.send(GENERAL_AUTHENTICATE, ALGORITHMS[key], slot, template), 0x7C)
        signature = value(answer or b"", 0x82)
        if not signature or len(signature) > MAX_SIGNATURE:
            raise ValueError("no signature")
        return signature

    def wants_touch(self, slot: Slot) -> bool:
        """Whether the key of a slot waits for a touch: a YubiKey's alone can tell, since firmware 5.3."""
        try:
            policy = dict(objects(self._commands.send(METADATA, 0x00, slot))).get(0x02, b"")
        except Refused:
            return False
        return policy[1:2] in [bytes([each]) for each in TOUCH_POLICIES]

    def _read(self, tag: bytes) -> bytes | None:
        """The content of a data object, None where there is none."""
        try:
            answer = self._commands.send(GET_DATA, 0x3F, 0xFF, tlv(0x5C, tag))
        except Refused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise
        ((_, content),) = objects(answer)
        return content

    def _primary_pin(self) -> int:
        """Which one opens the keys: a card may have one for several applications (part 1 section 3.3.2)."""
        try:
            policy = value(self._read(DISCOVERY) or b"", PIN_POLICY) or b""
        except (Refused, ValueError):
            policy = b""
        return GLOBAL_PIN if len(policy) == 2 and policy[0] & 0x20 and policy[1] == 0x20 else PIV_PIN


def _tries(refused: Refused) -> int:
    """Out of the answer to a VERIFY without a PIN."""
    if refused.status & 0xFFF0 == WRONG_PIN_OF:
        return refused.status & 0x0F
    if refused.status == BLOCKED:
        return 0
    if refused.status == WRONG_PIN:
        return UNKNOWN_TRIES
    raise refused


def _pin_failure(refused: Refused) -> Exception:
    """What the answer to a VERIFY means."""
    if refused.status in (BLOCKED, WRONG_PIN_OF):
        return Out(Failure.PIN_BLOCKED)
    if refused.status & 0xFFF0 == WRONG_PIN_OF or refused.status in (WRONG_PIN, *NOT_A_PIN):
        return Out(Failure.PIN_WRONG)
    return Out(Failure.PIN_CHANGE) if refused.status in CHANGE_PIN else refused


def _unpacked(packed: bytes) -> bytes:
    """Gzip, as far as a certificate may go. Raises ValueError."""
    inflating = zlib.decompressobj(wbits=31)
    try:
        der = inflating.decompress(packed, MAX_CERTIFICATE + 1)
    except zlib.error as problem:
        raise ValueError(str(problem)) from None
    if not inflating.eof:
        raise ValueError("half a certificate, or one without end")
    return der
