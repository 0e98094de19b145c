"""What tests of importers read: keys, and files as pam_u2f, OpenSSH, SSSD and FreeIPA write them."""

from __future__ import annotations

import base64
import struct

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pam_mfa.factors import ssh_public as sk
from pam_mfa.importers import sshkey
from pam_mfa.importers.pam_u2f import RelyingParties

PARTIES = RelyingParties("pam://host", "pam://app")
P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
POINT = P256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
ED = ed25519.Ed25519PrivateKey.generate().public_key()
RSA = rsa.generate_private_key(65537, 2048).public_key()
RSA_RAW = RSA.public_numbers().n.to_bytes(256, "big") + b"\x01\x00\x01"
HANDLE = bytes(range(64))
OTHER = bytes(range(64, 128))


def kind(value: object) -> str:
    """Names a parameter by what it is: its bytes are other ones in every process."""
    return value if isinstance(value, str) and len(value) < 30 else getattr(value, "__name__", type(value).__name__)


def b64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def websafe(data: bytes) -> str:
    """The other alphabet, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def spki_of(key: object) -> bytes:
    """SubjectPublicKeyInfo of a public key."""
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return der


NEW = f"{b64(HANDLE)},{b64(POINT[1:])},es256,+presence"
OLD = f"{websafe(b'?>' + HANDLE)},{POINT.hex()}"


def text(data: bytes) -> bytes:
    """A string of RFC 4251."""
    return struct.pack(">I", len(data)) + data


def ssh_public(kind: bytes = sk.ECDSA) -> bytes:
    """Its public key."""
    rest = text(ED.public_bytes_raw()) if kind == sk.ED25519 else text(b"nistp256") + text(POINT)
    return text(kind) + rest


def ssh_key(
    public: bytes = b"",
    flags: int = sshkey.PRESENCE,
    application: bytes = b"ssh:",
    cipher: bytes = b"none",
    count: int = 1,
    check: bytes = b"abcdabcd",
) -> bytes:
    """What ssh-keygen -t ecdsa-sk writes (PROTOCOL.key)."""
    public = public or ssh_public()
    inner = check + public + text(application) + bytes([flags]) + text(HANDLE) + text(b"") + text(b"me@host")
    inner += bytes(range(1, 8))[: -len(inner) % 8]
    body = (
        sshkey.MAGIC + text(cipher) + text(b"none") + text(b"") + struct.pack(">I", count) + text(public) + text(inner)
    )
    coded = b64(body)
    wrapped = "\n".join(coded[at : at + 70] for at in range(0, len(coded), 70))
    return sshkey.HEAD + b"\n" + wrapped.encode() + b"\n" + sshkey.TAIL + b"\n"


PASSKEY = f"passkey:{b64(HANDLE)},{b64(spki_of(P256))}"
LDIF = f"""version: 1

# alice, users, accounts, ipa.example
dn: uid=alice,cn=users,cn=accounts,dc=ipa,dc=example
objectClass: top
cn:: w4lsaXNl
uid: alice
ipaPassKey: {PASSKEY[:70]}
 {PASSKEY[70:130]}
 {PASSKEY[130:]}
ipaPassKey:: {b64(f"passkey:{b64(OTHER)},{b64(spki_of(ED))},{b64(b'handle')}".encode())}

dn: CN=Bob,DC=ad,DC=example
altSecurityIdentities: X509:<I>CN=ca<S>CN=bob
altSecurityIdentities: {PASSKEY}
sAMAccountName: bob
"""
