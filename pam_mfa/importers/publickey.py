"""Public keys in the forms that other programs keep, as COSE_Key (RFC 9053 sections 2 and 7, RFC 8230 section 4).

The COSE form is the one that CTAP 2.1 section 8 calls canonical. Every key is checked before it is written.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from .base import Unusable

COORDINATE = 32  # bytes of P-256 and Ed25519
RSA_MODULUS = 256  # bytes; pam_u2f knows keys of 2,048 bits only
RSA_BITS = range(2048, 4096 + 1)
EXPONENT = 65537
_UNCOMPRESSED = b"\x04"
_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def es256(point: bytes) -> bytes:
    """COSE of a point on P-256: X and Y, with or without the 04 of SEC 1 in front. Raises Unusable."""
    return sec1(_UNCOMPRESSED + point if len(point) == 2 * COORDINATE else point)


def sec1(point: bytes) -> bytes:
    """COSE of a point on P-256 in the uncompressed form of SEC 1 section 2.3.3. Raises Unusable."""
    if len(point) != 1 + 2 * COORDINATE or not point.startswith(_UNCOMPRESSED):
        raise Unusable(f"not an es256 public key, which is a point of twice {COORDINATE} bytes")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise Unusable("the public key is not a point on P-256") from None
    x, y = point[1 : 1 + COORDINATE], point[1 + COORDINATE :]
    return b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y


def eddsa(raw: bytes) -> bytes:
    """COSE of an Ed25519 key. Raises Unusable."""
    if len(raw) != COORDINATE:
        raise Unusable(f"an eddsa public key has {COORDINATE} bytes, not {len(raw)}")
    return b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20" + raw


def rs256(raw: bytes) -> bytes:
    """COSE of modulus and exponent, 256 and 3 bytes, as libfido2 puts them behind each other. Raises Unusable."""
    if len(raw) != RSA_MODULUS + 3:
        raise Unusable(f"an rs256 public key has {RSA_MODULUS + 3} bytes, not {len(raw)}")
    return _rsa(int.from_bytes(raw[:RSA_MODULUS], "big"), int.from_bytes(raw[RSA_MODULUS:], "big"))


def _rsa(modulus: int, exponent: int) -> bytes:
    if modulus.bit_length() not in RSA_BITS or modulus % 2 == 0 or exponent != EXPONENT:
        raise Unusable(f"an rs256 public key has 2048 to 4096 bits and the exponent {EXPONENT}")
    n = modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
    return b"\xa4\x01\x03\x03\x39\x01\x00\x20\x59" + len(n).to_bytes(2, "big") + n + b"\x21\x43\x01\x00\x01"


def spki(der: bytes) -> tuple[str, bytes]:
    """Algorithm and COSE of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7). Raises Unusable."""
    try:
        key = serialization.load_der_public_key(der)
        canonical = key.public_bytes(*_SPKI)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the public key is none: not a SubjectPublicKeyInfo that can be read") from None
    if canonical != der:
        raise Unusable("the public key is not in its one DER form")
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            return "es256", sec1(key.public_bytes(*form))
        case ed25519.Ed25519PublicKey():
            return "eddsa", eddsa(key.public_bytes_raw())
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return "rs256", _rsa(numbers.n, numbers.e)
        case _:
            raise Unusable("the public key is of a kind that pam-mfa does not take: es256, eddsa and rs256 are")


ENCODERS = {"es256": es256, "eddsa": eddsa, "rs256": rs256}
