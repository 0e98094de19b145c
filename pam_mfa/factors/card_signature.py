"""A card's signature, checked by the scheme of its key alone (SP 800-73-5 part 2 section 3.2.4, SP 800-78-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..devices.base import Scheme
from .assertion import Unproven, demand

if TYPE_CHECKING:  # imported at the first signature
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

RSA_BITS = (2048, 3072, 4096)
PSS_SALT = 32  # bytes, as long as the hash
CURVES = ("secp256r1", "secp384r1")


def key_name(public_key: bytes) -> str:
    """ "p-256", "rsa-2048" and so on. Raises Unproven unless it is the DER of a key that cards may sign with here."""
    key = _load(public_key)
    curve = getattr(key, "curve", None)
    return f"p-{curve.key_size}" if curve else f"rsa-{key.key_size}"


def verify(public_key: bytes, scheme: Scheme, message: bytes, signature: bytes) -> None:
    """Raises Unproven unless a card has signed `message` with that key.

    A signature has one form: OpenSSL takes no ECDSA-Sig-Value that is not DER (RFC 3279 section 2.2.3), no number
    beyond the order of the curve, and no RSA signature of another length than the key's.

    Args:
        public_key: subject public key info, DER.
        scheme: how it says that it has signed; it has a choice only with RSA, between two that are both sound.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384

    key = _load(public_key)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            demand(scheme in (Scheme.PKCS1, Scheme.PSS), "scheme")
            pss = padding.PSS(padding.MGF1(SHA256()), PSS_SALT)
            key.verify(signature, message, pss if scheme is Scheme.PSS else padding.PKCS1v15(), SHA256())
        else:
            demand(scheme is Scheme.ECDSA, "scheme")
            hashed = SHA384() if key.curve.name == "secp384r1" else SHA256()
            key.verify(signature, message, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        raise Unproven("signature") from None


def _load(public_key: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unproven("key") from None
    if isinstance(key, rsa.RSAPublicKey):
        demand(key.key_size in RSA_BITS, "key")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise Unproven("key")
    # One key, one encoding: what is pinned is the hash of it.
    demand(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public_key, "key")
    return key
