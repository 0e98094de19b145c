"""What an authenticator made and signed, read and checked; pure, and without a CBOR reader.

WebAuthn Level 3 sections 6.1 (authenticator data), 6.5.1 (attested credential data), 6.5.5 (signatures), 7.1 and 7.2.
Keys as in RFC 9052 section 7 and RFC 9053; a key of one of our three algorithms has exactly one canonical encoding
(CTAP 2.1 section 8), so that one is matched and everything else refused. Points, moduli and signatures are checked
here before any of them reaches `cryptography`, which is imported at the first signature: no code pays for it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from ..structure import structure

ES256, EDDSA, RS256 = -7, -8, -257
ALGORITHMS = (ES256, EDDSA, RS256)  # the preferred one first

HEAD_BYTES = 37
AAGUID_BYTES = 16
MAX_BYTES = 4096
MAX_CREDENTIAL_ID = 1023
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80

RSA_BITS = (2048, 4096)
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P25519 = 2**255 - 19
ED25519_D = -121665 * pow(121666, -1, P25519) % P25519
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
_ED25519_OF_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The y of every point whose order divides 8: a signature under such a key says nothing.
ED25519_SMALL = frozenset({0, 1, P25519 - 1, _ED25519_OF_8, P25519 - _ED25519_OF_8})

_ES256 = re.compile(rb"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20(.{32})\x22\x58\x20(.{32})", re.DOTALL)
_EDDSA = re.compile(rb"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20(.{32})", re.DOTALL)
_RS256 = re.compile(rb"\xa4\x01\x03\x03\x39\x01\x00\x20\x59(..)", re.DOTALL)


class Unproven(Exception):
    """Something is not what it must be.

    Args:
        reason: one machine-readable word, for the log only.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def demand(holds: bool, reason: str) -> None:
    """Raises Unproven unless it holds."""
    if holds is not True:
        raise Unproven(reason)


# ------------------------------------------------------------------------------------------ authenticator data


@structure
class Head:
    """The first 37 bytes of authenticator data, for a relying party id that has been checked.

    Args:
        flags: UP is among them; BS only with BE.
        sign_count: 0 where the authenticator does not count.
    """

    flags: int
    sign_count: int

    @property
    def verified(self) -> bool:
        """Whether the authenticator verified its user (UV)."""
        return bool(self.flags & UV)

    @property
    def synced(self) -> bool:
        """Whether the credential can leave its authenticator (BE)."""
        return bool(self.flags & BE)


@structure
class Attested:
    """What a new credential is.

    Args:
        aaguid: the authenticator's model, by its own word; 16 bytes.
        credential_id: 1 to 1,023 bytes.
        key: its public key, checked.
    """

    aaguid: bytes
    credential_id: bytes
    key: PublicKey


def read_assertion(data: bytes, rp_id: str) -> Head:
    """The authenticator data of an assertion. Raises Unproven.

    It brings no attested credential data. Extension data is signed, and skipped: nothing was asked for.
    """
    head = _read_head(data, rp_id)
    demand(not head.flags & AT, "malformed")
    demand(bool(head.flags & ED) is (len(data) > HEAD_BYTES), "malformed")
    return head


def read_attested(data: bytes, rp_id: str) -> tuple[Head, Attested]:
    """The authenticator data of a new credential. Raises Unproven."""
    head = _read_head(data, rp_id)
    at = HEAD_BYTES + AAGUID_BYTES + 2
    demand(bool(head.flags & AT) and len(data) > at, "malformed")
    size = int.from_bytes(data[at - 2 : at])
    demand(0 < size <= MAX_CREDENTIAL_ID, "credential_id")
    key = public_key(data[at + size :])
    end = at + size + len(key.encoded)
    demand(bool(head.flags & ED) is (len(data) > end), "malformed")
    return head, Attested(data[HEAD_BYTES : at - 2], data[at : at + size], key)


def _read_head(data: bytes, rp_id: str) -> Head:
    demand(HEAD_BYTES <= len(data) <= MAX_BYTES, "malformed")
    demand(hmac.compare_digest(data[:32], sha256(rp_id.encode()).digest()), "rp_id")
    flags = data[32]
    demand(bool(flags & UP), "up_missing")
    demand(bool(flags & BE) or not flags & BS, "backup_state")
    return Head(flags, int.from_bytes(data[33:HEAD_BYTES]))


# ---------------------------------------------------------------------------------------------------------- keys


class PublicKey(Protocol):
    """A public key that has been checked.

    Args:
        algorithm: its COSE number.
        encoded: its canonical COSE encoding.
    """

    algorithm: int
    encoded: bytes

    def verify(self, signed: bytes, signature: bytes) -> None:
        """Raises Unproven unless the signature is one of `signed`, in its only form."""


def public_key(data: bytes) -> PublicKey:
    """The COSE key that `data` begins with. Raises Unproven."""
    if found := _ES256.match(data):
        return Es256(*found.groups())
    if found := _EDDSA.match(data):
        return EdDsa(found[1])
    if found := _RS256.match(data):
        at = found.end()
        end = at + int.from_bytes(found[1])
        size = data[end + 1] - 0x40 if data[end : end + 1] == b"\x21" and len(data) > end + 1 else 0
        exponent = data[end + 2 : end + 2 + size]
        demand(1 <= size <= 8 and len(exponent) == size, "key")
        return Rs256(data[at:end], exponent)
    raise Unproven("algorithm")


class Es256:
    """ECDSA on P-256 with SHA-256.

    Args:
        x, y: 32 bytes each.
    """

    algorithm = ES256

    def __init__(self, x: bytes, y: bytes) -> None:
        demand(len(x) == len(y) == 32, "key")
        self.encoded = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y
        self._x, self._y = int.from_bytes(x), int.from_bytes(y)
        demand(self._x < P256 and self._y < P256, "key")
        demand((self._y**2 - self._x**3 + 3 * self._x - P256_B) % P256 == 0, "key")

    def verify(self, signed: bytes, signature: bytes) -> None:
        _check_der(signature)
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        key = ec.EllipticCurvePublicNumbers(self._x, self._y, ec.SECP256R1()).public_key()
        _call(lambda: key.verify(signature, signed, ec.ECDSA(SHA256())))


class EdDsa:
    """Ed25519 (RFC 8032).

    Args:
        point: 32 bytes.
    """

    algorithm = EDDSA

    def __init__(self, point: bytes) -> None:
        demand(len(point) == 32, "key")
        self.encoded = b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20" + point
        self._point = point
        y = int.from_bytes(point, "little") & (1 << 255) - 1
        demand(y < P25519 and y not in ED25519_SMALL, "key")
        u, v = y * y - 1, ED25519_D * y * y + 1
        demand(pow(u * v, (P25519 - 1) // 2, P25519) == 1, "key")  # x^2 = u/v has a root

    def verify(self, signed: bytes, signature: bytes) -> None:
        demand(len(signature) == 64 and int.from_bytes(signature[32:], "little") < ED25519_ORDER, "signature")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        key = Ed25519PublicKey.from_public_bytes(self._point)
        _call(lambda: key.verify(signature, signed))


class Rs256:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8812).

    Args:
        modulus, exponent: big-endian, without leading zeros.
    """

    algorithm = RS256

    def __init__(self, modulus: bytes, exponent: bytes) -> None:
        demand(modulus[:1] > b"\0" and exponent[:1] > b"\0" and len(exponent) <= 8, "key")
        self._n, self._e = int.from_bytes(modulus), int.from_bytes(exponent)
        demand(RSA_BITS[0] <= self._n.bit_length() <= RSA_BITS[1] and self._n % 2 == 1, "key")
        demand(self._e >= 3 and self._e % 2 == 1, "key")
        self.encoded = b"\xa4\x01\x03\x03\x39\x01\x00\x20\x59" + len(modulus).to_bytes(2) + modulus
        self.encoded += b"\x21" + bytes([0x40 + len(exponent)]) + exponent
        self._size = len(modulus)

    def verify(self, signed: bytes, signature: bytes) -> None:
        demand(len(signature) == self._size, "signature")
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        key = rsa.RSAPublicNumbers(self._e, self._n).public_key()
        _call(lambda: key.verify(signature, signed, padding.PKCS1v15(), SHA256()))


def load() -> None:
    """Import what verifies signatures while there is time: as a service starts, or as a user reaches for the key."""
    from cryptography.exceptions import InvalidSignature  # noqa: F401
    from cryptography.hazmat.primitives import hashes  # noqa: F401
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: F401


def _check_der(signature: bytes) -> None:
    """An ECDSA-Sig-Value in DER (RFC 3279 section 2.2.3): two numbers in 1..n-1, each as short as can be."""
    r, rest = _der_integer(signature[2:])
    s, rest = _der_integer(rest)
    demand(signature[:1] == b"\x30" and signature[1] == len(signature) - 2 and not rest, "signature")
    demand(0 < r < P256_ORDER and 0 < s < P256_ORDER, "signature")


def _der_integer(data: bytes) -> tuple[int, bytes]:
    size = data[1] if len(data) > 2 and data[0] == 0x02 else 0
    body = data[2 : 2 + size]
    demand(1 <= size <= 33 and len(body) == size and body[0] < 0x80, "signature")
    demand(size == 1 or body[0] > 0 or body[1] >= 0x80, "signature")
    return int.from_bytes(body), data[2 + size :]


def _call(verify: Callable[[], None]) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        verify()
    except (InvalidSignature, ValueError):
        raise Unproven("signature") from None
