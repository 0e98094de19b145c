"""Certificate authorities of the tests' own: whatever a company could issue, and what nobody should accept.

`root = Authority.root()`; `issuing = root.authority()`; `alice = issuing.leaf("alice", upns=["alice@example.org"])`;
`issuing.crl([alice.serial])` is a list that revokes it; `lay(directory, anchors={"root.pem": pem(root.certificate)})`
puts all of them where the path checker looks. Times are days from now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

CLIENT = "1.3.6.1.5.5.7.3.2"
LOGON = "1.3.6.1.4.1.311.20.2.2"
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
Extensions = Sequence[tuple[x509.ExtensionType, bool]]  # and whether it is critical
USAGES = [
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
]  # fmt: skip


def new_key(kind: str = "p-256") -> Any:
    """A private key: p-256, p-384, secp256k1, ed25519, rsa-2048 and so on."""
    match kind.split("-"):
        case ["p", bits]:
            return ec.generate_private_key(ec.SECP256R1() if bits == "256" else ec.SECP384R1())
        case ["rsa", bits]:
            return rsa.generate_private_key(65537, int(bits))
        case ["secp256k1"]:
            return ec.generate_private_key(ec.SECP256K1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


@cache
def old_key(kind: str) -> Any:
    """The same, but made once: RSA takes its time."""
    return new_key(kind)


def key_usage(*names: str) -> x509.KeyUsage:
    """The extension with these bits."""
    return x509.KeyUsage(**{usage: usage in names for usage in USAGES})


def named(common_name: str) -> x509.Name:
    """A subject."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def upn(text: str | bytes) -> x509.OtherName:
    """Microsoft's user principal name: a UTF8String, or whatever the bytes are."""
    der = b"\x0c" + bytes([len(text.encode())]) + text.encode() if isinstance(text, str) else text
    return x509.OtherName(UPN, der)


def spki(certificate: x509.Certificate) -> bytes:
    """Its subject public key info."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def der(*certificates: x509.Certificate) -> tuple[bytes, ...]:
    """As they travel."""
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def pem(*certificates: x509.Certificate) -> bytes:
    """As administrators have them."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _certificate(
    subject: x509.Name, public_key: Any, issuer: x509.Name, key: Any, days: tuple[float, float], extensions: Extensions
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now + timedelta(days=days[0]),
        not_valid_after=now + timedelta(days=days[1]),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@dataclass(frozen=True)
class Leaf:
    """Somebody's certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def serial(self) -> int:
        return self.certificate.serial_number


@dataclass(frozen=True)
class Authority:
    """A CA."""

    certificate: x509.Certificate
    key: Any

    @classmethod
    def root(
        cls, name: str = "Root", key: Any = None, days: tuple[float, float] = (-10, 3650), **special: Any
    ) -> Authority:
        """One that signed itself. `special` as in authority()."""
        key = key or new_key()
        subject = named(name)
        certificate = _certificate(
            subject, key.public_key(), subject, key, days, _authority_extensions(key.public_key(), None, **special)
        )
        return cls(certificate, key)

    def authority(
        self, name: str = "Issuing", key: Any = None, days: tuple[float, float] = (-5, 1000), **special: Any
    ) -> Authority:
        """One that this one has issued. `special`: ca, path_length, usage (names of bits, or None), extra."""
        key = key or new_key()
        extensions = _authority_extensions(key.public_key(), self.key.public_key(), **special)
        return Authority(
            _certificate(named(name), key.public_key(), self.certificate.subject, self.key, days, extensions), key
        )

    def leaf(
        self,
        name: str = "alice",
        key: Any = None,
        *,
        upns: Sequence[str | bytes] = (),
        mails: Sequence[str] = (),
        usages: Sequence[str] | None = (CLIENT, LOGON),
        usage: Sequence[str] | None = ("digital_signature",),
        days: tuple[float, float] = (-1, 100),
        extra: Extensions = (),
    ) -> Leaf:
        """A user's. `usages` are OIDs of extended ones, `usage` the bits of the plain one; None: no such extension."""
        key = key or new_key()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(False, None), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ]
        if usage is not None:
            extensions.append((key_usage(*usage), True))
        if usages is not None:
            extensions.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in usages]), False))
        if upns or mails:
            names = [*map(upn, upns), *map(x509.RFC822Name, mails)]
            extensions.append((x509.SubjectAlternativeName(names), False))
        extensions += extra
        return Leaf(
            _certificate(named(name), key.public_key(), self.certificate.subject, self.key, days, extensions), key
        )

    def crl(
        self,
        revoked: Sequence[int] = (),
        days: tuple[float, float] = (-1, 7),
        *,
        key: Any = None,
        reason: x509.ReasonFlags | None = None,
        digest: hashes.SHA224 | hashes.SHA256 | None = None,
        extra: Extensions = (),
    ) -> bytes:
        """Its list, DER. `key`: of somebody else, who signs it instead."""
        now = datetime.now(UTC)
        entries = [_entry(serial, now, reason) for serial in revoked]
        builder = x509.CertificateRevocationListBuilder(
            self.certificate.subject,
            now + timedelta(days=days[0]),
            now + timedelta(days=days[1]),
            revoked_certificates=entries,
        )
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical)
        return builder.sign(key or self.key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def _entry(serial: int, now: datetime, reason: x509.ReasonFlags | None) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(serial, now - timedelta(days=2))
    return (builder.add_extension(x509.CRLReason(reason), False) if reason else builder).build()


def _authority_extensions(
    public_key: Any,
    issuer_key: Any,
    *,
    ca: bool = True,
    path_length: int | None = None,
    usage: Sequence[str] | None = ("key_cert_sign", "crl_sign"),
    extra: Extensions = (),
) -> Extensions:
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca, path_length), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    ]
    if issuer_key:
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False))
    if usage is not None:
        extensions.append((key_usage(*usage), True))
    return [*extensions, *extra]


def with_sha1(certificate: x509.Certificate, key: Any) -> x509.Certificate:
    """The same, signed with sha1WithRSAEncryption, which no library does any more. `key`: the issuer's, RSA."""
    return x509.load_der_x509_certificate(_with_sha1(certificate.tbs_certificate_bytes, key))


def crl_with_sha1(of: Authority) -> bytes:
    """Its empty list, signed in the same way."""
    return _with_sha1(x509.load_der_x509_crl(of.crl()).tbs_certlist_bytes, of.key)


def _with_sha1(body: bytes, key: Any) -> bytes:
    sha256, sha1 = (bytes.fromhex(f"300d06092a864886f70d0101{last}0500") for last in ("0b", "05"))
    body = body.replace(sha256, sha1)
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA1())
    return _sequence(body + sha1 + b"\x03" + _length(b"\0" + signature))


def _sequence(content: bytes) -> bytes:
    return b"\x30" + _length(content)


def _length(content: bytes) -> bytes:
    return b"\x82" + len(content).to_bytes(2, "big") + content


def lay(
    directory: Path,
    anchors: Mapping[str, bytes] | None = None,
    intermediates: Mapping[str, bytes] | None = None,
    crls: Mapping[str, bytes] | None = None,
) -> Path:
    """Put files where the path checker looks; returns the directory."""
    for folder, files in (("anchors", anchors), ("intermediates", intermediates), ("crls", crls)):
        (directory / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, content in (files or {}).items():
            (directory / folder / name).write_bytes(content)
            (directory / folder / name).chmod(0o644)
    return directory
