"""Packed attestation with a batch certificate (WebAuthn section 8.2); pamu2fcfg 1.1.0 takes no self attestation."""

from __future__ import annotations

import datetime
import functools
import hashlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from .credentials import ES256, Credential, p256

AAGUID_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
BATCH = p256(hashlib.sha256(b"the key of the whole batch").digest())
FORMATS = ("packed", "self", "none")


def statement(form: str, aaguid: bytes, credential: Credential, message: bytes) -> tuple[str, dict[str, Any]]:
    """Format name and attestation statement over `message` (authenticator data || client data hash)."""
    match form:
        case "packed":
            signature = BATCH.sign(message, ec.ECDSA(hashes.SHA256()))
            return "packed", {"alg": ES256, "sig": signature, "x5c": [certificate(aaguid)]}
        case "self":
            return "packed", {"alg": credential.algorithm, "sig": credential.sign(message)}
        case "none":
            return "none", {}
    raise ValueError(f"no attestation is called {form}")


@functools.cache
def certificate(aaguid: bytes) -> bytes:
    """DER of the batch certificate, with the fields that WebAuthn section 8.2.1 demands."""
    attributes = (
        (NameOID.COUNTRY_NAME, "NL"),
        (NameOID.ORGANIZATION_NAME, "pam-mfa tests"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Authenticator Attestation"),
        (NameOID.COMMON_NAME, "Virtual key"),
    )
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(BATCH.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2049, 1, 1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.UnrecognizedExtension(AAGUID_EXTENSION, b"\x04\x10" + aaguid), critical=False)
    )
    return builder.sign(BATCH, hashes.SHA256()).public_bytes(Encoding.DER)
