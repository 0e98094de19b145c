"""What a certificate says, as it is shown: nothing here decides whether it is any good (verify/ and the session do)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .base import Certified, Slot
from .terms import printable

MAX_TEXT = 256
MAX_NUMBER = 64  # hexadecimal digits
CURVES = {"secp256r1": "p-256", "secp384r1": "p-384"}
SIZES = (2048, 3072, 4096)


def certified(slot: Slot, der: bytes) -> Certified | None:
    """What a certificate says, None for one with a key that nothing is signed with here.

    Raises ValueError, and what cryptography has beside it.
    """
    certificate = x509.load_der_x509_certificate(der)
    try:
        public = certificate.public_key()
    except UnsupportedAlgorithm:
        return None
    kind = _kind(public)
    if not kind:
        return None
    return Certified(
        slot,
        der,
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        printable(certificate.subject.rfc4514_string(), MAX_TEXT),
        printable(certificate.issuer.rfc4514_string(), MAX_TEXT),
        f"{certificate.serial_number:x}"[:MAX_NUMBER],
        certificate.not_valid_before_utc.date().isoformat(),
        certificate.not_valid_after_utc.date().isoformat(),
        kind,
    )


def _kind(public: object) -> str:
    if isinstance(public, RSAPublicKey) and public.key_size in SIZES:
        return f"rsa-{public.key_size}"
    return CURVES.get(public.curve.name, "") if isinstance(public, EllipticCurvePublicKey) else ""
