"""A PIV card's applet (NIST SP 800-73-4 part 2): objects, PIN, signatures. Certificates are the test's."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from .iso7816 import Answer, Applet, Command, Refused, Status

AID = bytes.fromhex("A000000308000010000100")
VERIFY, GENERAL_AUTHENTICATE, GET_DATA = 0x20, 0x87, 0xCB
GET_SERIAL, GET_VERSION = 0xF8, 0xFD  # Yubico's
FIRMWARE = b"\x05\x04\x03"
AUTHENTICATION, SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION = 0x9A, 0x9C, 0x9D, 0x9E
PIV_PIN, GLOBAL_PIN = 0x80, 0x00
PIN_BYTES = 8

CERTIFICATES = {
    AUTHENTICATION: bytes.fromhex("5FC105"),
    SIGNATURE: bytes.fromhex("5FC10A"),
    KEY_MANAGEMENT: bytes.fromhex("5FC10B"),
    CARD_AUTHENTICATION: bytes.fromhex("5FC101"),
}
DISCOVERY, CHUID, CAPABILITIES = b"\x7e", bytes.fromhex("5FC102"), bytes.fromhex("5FC107")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
ALGORITHMS = {2048: 0x07, 3072: 0x05, 4096: 0x16}  # SP 800-78-5; 4096 as Yubico numbers it
CURVES: dict[str, tuple[int, hashes.HashAlgorithm]] = {
    "secp256r1": (0x11, hashes.SHA256()),
    "secp384r1": (0x14, hashes.SHA384()),
}


def tlv(tag: int, *parts: bytes) -> bytes:
    """One BER-TLV object around `parts`."""
    value = b"".join(parts)
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(octets)]) + octets
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length + value


def certificate_object(der: bytes, compressed: bool = False) -> bytes:
    """What a certificate's data object holds, `compressed` as SP 800-73-4 part 1 appendix A allows."""
    content = gzip.compress(der) if compressed else der
    return tlv(0x70, content) + tlv(0x71, b"\x01" if compressed else b"\x00") + tlv(0xFE)


def algorithm_of(key: PrivateKey) -> int:
    """The number by which GENERAL AUTHENTICATE names the algorithm of a key."""
    return ALGORITHMS[key.key_size] if isinstance(key, rsa.RSAPrivateKey) else CURVES[key.curve.name][0]


@dataclass
class PivFaults:
    """What a PIV card does wrong beside CardFaults; may be changed while it runs.

    Args:
        sign: makes the signature out of slot and data, instead of the slot's key.
        any_pin: every PIN is right.
    """

    sign: Callable[[int, bytes], bytes] | None = None
    any_pin: bool = False


@dataclass
class PivApplet(Applet):
    """One PIV application.

    Args:
        keys: private keys by slot.
        certificates: DER by slot; need not fit the keys.
        pin: of 6 to 8 digits.
        tries: at the PIN, left now and after a right one.
        guid: 16 bytes, the card's number in its CHUID.
        compressed: certificates are gzipped.
        objects: whole contents of data objects by their tag, instead of the proper ones.
        serial: as a YubiKey tells it; None for a card that has no such command.
        pin_reference: of the PIN that opens the keys.
    """

    keys: dict[int, PrivateKey] = field(default_factory=dict)
    certificates: dict[int, bytes] = field(default_factory=dict)
    pin: str = "123456"
    tries: int = 3
    guid: bytes = b"pam-mfa PIV card"
    compressed: bool = False
    objects: dict[bytes, bytes] = field(default_factory=dict)
    serial: int | None = None
    pin_reference: int = PIV_PIN

    aid = AID

    def __post_init__(self) -> None:
        self.faults = PivFaults()
        self.tries_left = self.tries
        self.verified = False
        self._fresh = False  # the command before was a VERIFY, which slot 9C wants every time

    def select(self) -> bytes:
        """The application property template (SP 800-73-4 part 2, table 3)."""
        return tlv(0x61, tlv(0x4F, AID[5:]), tlv(0x79, tlv(0x4F, AID[:5])))

    def leave(self) -> None:
        """The PIN counts no more."""
        self.verified = self._fresh = False

    def power_off(self) -> None:
        """Nothing is left to forget."""

    def interrupt(self) -> None:
        """Nothing waits."""

    def process(self, command: Command) -> bytes | Answer:
        """One command. Raises Refused."""
        fresh, self._fresh = self._fresh, False
        if command.ins == GET_DATA:
            return self._get_data(command)
        if command.ins == VERIFY:
            self._verify(command)
            return b""
        if command.ins == GENERAL_AUTHENTICATE:
            return self._authenticate(command, fresh)
        if self.serial is not None and command.ins in (GET_SERIAL, GET_VERSION):
            return self.serial.to_bytes(4, "big") if command.ins == GET_SERIAL else FIRMWARE
        raise Refused(Status.WRONG_INSTRUCTION)

    # ------------------------------------------------------------------------------------------------------- objects

    def _get_data(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x3F, 0xFF):
            raise Refused(Status.WRONG_PARAMETERS)
        if len(command.data) < 3 or command.data[0] != 0x5C or command.data[1] != len(command.data) - 2:
            raise Refused(Status.WRONG_DATA)
        tag = command.data[2:]
        content = self.objects[tag] if tag in self.objects else self._object(tag)
        if content is None:
            raise Refused(Status.NOT_FOUND)
        return tlv(0x7E if tag == DISCOVERY else 0x53, content)

    def _object(self, tag: bytes) -> bytes | None:
        if tag == DISCOVERY:
            policy = b"\x60\x20" if self.pin_reference == GLOBAL_PIN else b"\x40\x00"
            return tlv(0x4F, AID) + tlv(0x5F2F, policy)
        if tag == CHUID:
            expiry = tlv(0x35, b"20991231")
            return tlv(0x30, bytes(25)) + tlv(0x34, self.guid) + expiry + tlv(0x3E) + tlv(0xFE)
        if tag == CAPABILITIES:
            return tlv(0xF0, bytes(5) + self.guid) + b"".join(tlv(number) for number in (*range(0xF1, 0xF8), 0xFE))
        for slot, der in self.certificates.items():
            if tag == CERTIFICATES[slot]:
                return certificate_object(der, self.compressed)
        return None

    # ----------------------------------------------------------------------------------------------------------- PIN

    def _verify(self, command: Command) -> None:
        if command.p1 not in (0x00, 0xFF) or command.p2 != self.pin_reference:
            raise Refused(Status.NO_REFERENCE)
        if command.p1 == 0xFF:
            self.leave()
            return
        if self.verified and not command.data:
            return
        if not self.tries_left:
            raise Refused(Status.BLOCKED)
        if command.data:
            self._match(command.data)
        if not self.verified:
            raise Refused(Status.TRIES | self.tries_left if self.tries_left else Status.BLOCKED)

    def _match(self, padded: bytes) -> None:
        digits = padded.rstrip(b"\xff")
        if len(padded) != PIN_BYTES or len(digits) < 6 or not digits.isdigit():
            raise Refused(Status.WRONG_DATA)
        self.verified = self._fresh = self.faults.any_pin or digits == self.pin.encode()
        self.tries_left = self.tries if self.verified else self.tries_left - 1

    # ----------------------------------------------------------------------------------------------------- signature

    def _authenticate(self, command: Command, fresh: bool) -> bytes:
        slot = command.p2
        key = self.keys.get(slot)
        if key is None:
            raise Refused(Status.NO_REFERENCE)
        if command.p1 != algorithm_of(key):
            raise Refused(Status.WRONG_PARAMETERS)
        if slot != CARD_AUTHENTICATION and not (fresh if slot == SIGNATURE else self.verified):
            raise Refused(Status.UNVERIFIED)
        data = _challenge(command.data)
        signature = self.faults.sign(slot, data) if self.faults.sign else sign(key, data)
        return tlv(0x7C, tlv(0x82, signature))


def _challenge(template: bytes) -> bytes:
    """The data to sign out of a dynamic authentication template, which asks for a response to it. Raises Refused."""
    fields = dict(_fields(_unwrap(template, 0x7C)))
    if fields.get(0x82) != b"" or 0x81 not in fields:
        raise Refused(Status.WRONG_DATA)
    return fields[0x81]


def _unwrap(data: bytes, tag: int) -> bytes:
    fields = _fields(data)
    if len(fields) != 1 or fields[0][0] != tag:
        raise Refused(Status.WRONG_DATA)
    return fields[0][1]


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Objects with tags of one byte, one after the other. Raises Refused."""
    fields = []
    while data:
        tag, size, start = data[0], data[1] if len(data) > 1 else 0, 2
        if size > 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            raise Refused(Status.WRONG_DATA)
        fields.append((tag, data[start : start + size]))
        data = data[start + size :]
    return fields


def sign(key: PrivateKey, data: bytes) -> bytes:
    """What the card makes of `data`: a whole padded block (RSA), or a digest of the curve's size. Raises Refused."""
    if isinstance(key, rsa.RSAPrivateKey):
        return _power(key.private_numbers(), data)
    digest = CURVES[key.curve.name][1]
    if len(data) != digest.digest_size:
        raise Refused(Status.WRONG_DATA)
    return key.sign(data, ec.ECDSA(utils.Prehashed(digest)))


def _power(numbers: rsa.RSAPrivateNumbers, data: bytes) -> bytes:
    """Textbook RSA, by the Chinese remainder theorem."""
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8
    block = int.from_bytes(data, "big")
    if len(data) != size or block >= modulus:
        raise Refused(Status.WRONG_DATA)
    first, second = pow(block, numbers.dmp1, numbers.p), pow(block, numbers.dmq1, numbers.q)
    return (second + (first - second) * numbers.iqmp % numbers.p * numbers.q).to_bytes(size, "big")
