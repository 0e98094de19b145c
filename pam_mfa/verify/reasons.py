"""Why there is no path: the word for the audit record. The verdict is not made here, it was BAD before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from .base import MAX_CHAIN
from .crls import HASHES, MALFORMED, extension

MIN_RSA_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def weak_key(certificate: x509.Certificate) -> bool:
    """Whether its key is none that signs well enough. Raises those of MALFORMED."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < MIN_RSA_BITS
    return not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES))


def why(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    anchors: Collection[x509.Certificate],
    now: datetime,
    refusal: str,
) -> str:
    """Walk up from a certificate to what is wrong.

    Args:
        others: authorities that are no anchors.
        refusal: the reason of the last rule that forbade a path; the walk does not look for these again.
    """
    try:
        return _dates(leaf, now) or refusal or _walk(leaf, [*anchors, *others], anchors, now)
    except MALFORMED:
        return "unreadable"


def _walk(
    at: x509.Certificate, pool: Sequence[x509.Certificate], anchors: Collection[x509.Certificate], now: datetime
) -> str:
    prefix = ""
    for _ in range(MAX_CHAIN):
        if at in anchors:
            return "unsupported"
        if weak_key(at):
            return prefix + "weak_key"
        if not _strong_hash(at):
            return prefix + "weak_hash"
        named = [each for each in pool if each.subject == at.issuer]
        signers = [each for each in named if _signed(at, each)]
        if not signers:
            return prefix + ("wrong_issuer" if named else "no_issuer")
        at, prefix = signers[0], "authority_"
        if reason := _flaw(at, now):
            return reason
    return "too_long"


def _flaw(authority: x509.Certificate, now: datetime) -> str:
    if reason := _dates(authority, now):
        return "authority_" + reason
    if weak_key(authority):
        return "authority_weak_key"
    constraints = extension(authority, x509.BasicConstraints)
    return "" if constraints and constraints.ca else "not_authority"


def _dates(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return "not_yet_valid"
    return "expired" if now > certificate.not_valid_after_utc else ""


def _strong_hash(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, HASHES)
    except MALFORMED:
        return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature):
        return False
    return True
