"""Credentials: their ids and private keys come out of the authenticator's seed, so that nothing is kept for them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from . import cbor

ES256, EDDSA, RS256 = -7, -8, -257
ALGORITHMS = (ES256, EDDSA, RS256)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass
class Credential:
    """One credential of one relying party.

    Args:
        credential_id: as the relying party knows it.
        algorithm: COSE number.
        private: its private key.
        user: user entity, only of a discoverable one.
    """

    credential_id: bytes
    algorithm: int
    private: PrivateKey
    user: dict[str, Any] = field(default_factory=dict)

    def cose(self) -> bytes:
        """Its public key (RFC 9053)."""
        public = self.private.public_key()
        match public:
            case ec.EllipticCurvePublicKey():
                point = public.public_numbers()
                fields = {1: 2, 3: ES256, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
            case ed25519.Ed25519PublicKey():
                fields = {1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()}
            case _:
                numbers = public.public_numbers()
                fields = {1: 3, 3: RS256, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")}
        return cbor.encode(fields)

    def sign(self, message: bytes) -> bytes:
        """Signature in the form of its algorithm (WebAuthn section 6.5.5)."""
        match self.private:
            case ec.EllipticCurvePrivateKey():
                return self.private.sign(message, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PrivateKey():
                return self.private.sign(message)
            case _:
                return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())


class Wrapping:
    """Makes credential ids and knows its own again: algorithm u8 (as index), 32 random bytes, padding, MAC over it.

    Args:
        seed: of the authenticator. RSA keys alone do not come out of it, they last as long as the object.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._rsa: dict[bytes, rsa.RSAPrivateKey] = {}

    def make(self, rp_id: str, algorithm: int, length: int = 65) -> Credential:
        """A new credential, its id `length` bytes long."""
        nonce = secrets.token_bytes(32)
        if algorithm == RS256:
            self._rsa[nonce] = rsa.generate_private_key(65537, 2048)
        body = bytes([ALGORITHMS.index(algorithm)]) + nonce + bytes(length - 65)
        return self._credential(body, self._mac(rp_id, body))

    def open(self, rp_id: str, credential_id: bytes) -> Credential | None:
        """The credential with this id, None where it is not one of ours for `rp_id`."""
        body, mac = credential_id[:-32], credential_id[-32:]
        if len(body) < 33 or not hmac.compare_digest(mac, self._mac(rp_id, body)):
            return None
        if ALGORITHMS[body[0]] == RS256 and body[1:33] not in self._rsa:
            return None
        return self._credential(body, mac)

    def forget(self) -> None:
        """After a reset no credential is known again."""
        self._seed = secrets.token_bytes(32)
        self._rsa.clear()

    def _credential(self, body: bytes, mac: bytes) -> Credential:
        algorithm, nonce = ALGORITHMS[body[0]], body[1:33]
        secret = hmac.digest(self._seed, b"key" + nonce, "sha256")
        private: PrivateKey
        if algorithm == ES256:
            private = p256(secret)
        elif algorithm == EDDSA:
            private = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
        else:
            private = self._rsa[nonce]
        return Credential(body + mac, algorithm, private)

    def _mac(self, rp_id: str, body: bytes) -> bytes:
        return hmac.digest(self._seed, b"id" + hashlib.sha256(rp_id.encode()).digest() + body, "sha256")


def p256(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-256 key that 32 secret bytes stand for."""
    return ec.derive_private_key(int.from_bytes(secret, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1())
