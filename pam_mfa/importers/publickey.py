"""Public keys in the forms that other programs keep, as COSE_Key. Every key is checked as a new one would be."""

from __future__ import annotations

from collections.abc import Callable

from ..factors.assertion import EDDSA, ES256, RS256, EdDsa, Es256, PublicKey, Rs256, Unproven
from .base import Unusable

COORDINATE = 32  # bytes of P-256 and Ed25519
MODULUS, EXPONENT = 256, 3  # bytes, as libfido2 puts them behind each other: keys of 2,048 bits only
UNCOMPRESSED = b"\x04"


def es256(point: bytes) -> bytes:
    """COSE of a point on P-256: X and Y, with or without the 04 of SEC 1 in front. Raises Unusable."""
    return sec1(UNCOMPRESSED + point if len(point) == 2 * COORDINATE else point)


def sec1(point: bytes) -> bytes:
    """COSE of a point on P-256 in the uncompressed form of SEC 1 section 2.3.3. Raises Unusable."""
    if len(point) != 1 + 2 * COORDINATE or not point.startswith(UNCOMPRESSED):
        raise Unusable(f"not an es256 public key, which is a point of twice {COORDINATE} bytes")
    return _checked(lambda: Es256(point[1 : 1 + COORDINATE], point[1 + COORDINATE :]))


def eddsa(raw: bytes) -> bytes:
    """COSE of an Ed25519 key. Raises Unusable."""
    if len(raw) != COORDINATE:
        raise Unusable(f"an eddsa public key has {COORDINATE} bytes, not {len(raw)}")
    return _checked(lambda: EdDsa(raw))


def rs256(raw: bytes) -> bytes:
    """COSE of modulus and exponent, 256 and 3 bytes. Raises Unusable."""
    if len(raw) != MODULUS + EXPONENT:
        raise Unusable(f"an rs256 public key has {MODULUS + EXPONENT} bytes, not {len(raw)}")
    return _checked(lambda: Rs256(raw[:MODULUS], raw[MODULUS:].lstrip(b"\0")))


def _checked(make: Callable[[], PublicKey]) -> bytes:
    try:
        return make().encoded
    except Unproven:
        raise Unusable("the public key is not safe: not on its curve, or of a size that is not taken") from None


def spki(der: bytes) -> tuple[str, bytes]:
    """Algorithm and COSE of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7). Raises Unusable."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the public key is none: not a SubjectPublicKeyInfo that can be read") from None
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return "es256", sec1(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
        case ed25519.Ed25519PublicKey():
            return "eddsa", eddsa(key.public_bytes_raw())
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return "rs256", _checked(lambda: Rs256(_bytes(numbers.n), _bytes(numbers.e)))
        case _:
            raise Unusable("the public key is of a kind that pam-mfa does not take: es256, eddsa and rs256 are")


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


ENCODERS = {"es256": es256, "eddsa": eddsa, "rs256": rs256}
NAMES = {ES256: "es256", EDDSA: "eddsa", RS256: "rs256"}
