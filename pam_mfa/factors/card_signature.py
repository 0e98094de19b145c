"""A card's signature, checked by the scheme of its key alone (SP 800-73-5 part 2 section 3.2.4, SP 800-78-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..devices.base import Scheme
from .assertion import Unproven, demand

if TYPE_CHECKING:  # imported at the first signature
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_KEY = 1024  # bytes; a subject public key info of RSA 4096 has 550
RSA_BITS = (2048, 3072, 4096)
PSS_SALT = 32  # bytes, as long as the hash
ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


def key_name(public_key: bytes) -> str:
    """ "p-256", "rsa-2048" and so on. Raises Unproven unless it is the DER of a key that cards may sign with here."""
    key = _load(public_key)
    curve = getattr(key, "curve", None)
    return f"p-{curve.key_size}" if curve else f"rsa-{key.key_size}"


def verify(public_key: bytes, scheme: Scheme, message: bytes, signature: bytes) -> None:
    """Raises Unproven unless a card has signed `message` with that key.

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
            demand(len(signature) == key.key_size // 8, "signature")
            pss = padding.PSS(padding.MGF1(SHA256()), PSS_SALT)
            key.verify(signature, message, pss if scheme is Scheme.PSS else padding.PKCS1v15(), SHA256())
        else:
            demand(scheme is Scheme.ECDSA, "scheme")
            _check_der(signature, ORDERS[key.curve.name])
            hashed = SHA384() if key.curve.name == "secp384r1" else SHA256()
            key.verify(signature, message, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        raise Unproven("signature") from None


def _load(public_key: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    demand(len(public_key) <= MAX_KEY, "key")
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unproven("key") from None
    if isinstance(key, rsa.RSAPublicKey):
        demand(key.key_size in RSA_BITS, "key")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ORDERS:
        raise Unproven("key")
    # One key, one encoding: what is pinned is the hash of it.
    demand(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public_key, "key")
    return key


def _check_der(signature: bytes, order: int) -> None:
    """An ECDSA-Sig-Value in its only form (RFC 3279 section 2.2.3): two numbers from 1 to below the curve's order."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    r, s = decode_dss_signature(signature)
    demand(0 < r < order and 0 < s < order and encode_dss_signature(r, s) == signature, "signature")
