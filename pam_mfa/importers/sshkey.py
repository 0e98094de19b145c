"""One private key file of OpenSSH on a security key (PROTOCOL.u2f, PROTOCOL.key), which pam_u2f reads with sshformat.

It holds no private key: only the handle, the public key, the application (the relying party id), and flags.
"""

from __future__ import annotations

import binascii

from ..factors.assertion import Unproven
from ..factors.ssh_public import ECDSA, ED25519, Reader
from .base import Entry, Imported, Unusable, check_id, check_name, check_rp_id
from .publickey import eddsa, sec1

HEAD, TAIL = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
MAGIC = b"openssh-key-v1\0"
MAX_KEY = 16 * 1024
PRESENCE, VERIFICATION, RESIDENT = 0x01, 0x04, 0x20


def is_one(data: bytes) -> bool:
    """Whether a file is meant to be a private key of OpenSSH."""
    return data.lstrip().startswith(HEAD)


def parse(data: bytes, user: str | None) -> Entry:
    """The key of such a file. The file does not say whose it is."""
    try:
        if user is None:
            raise Unusable("an SSH key does not say whose it is: add --user")
        imported, flags = _key(_body(data), check_name(user))
    except Unusable as problem:
        return Entry(1, user or "", why=str(problem))
    except Unproven:
        return Entry(1, user or "", why="a damaged SSH key")
    return Entry(1, imported.user, imported, note="" if flags & PRESENCE else "has to be touched from now on")


def _body(data: bytes) -> bytes:
    text, end, rest = data.strip().removeprefix(HEAD).partition(TAIL)
    if len(text) > MAX_KEY or not end or rest.strip():
        raise Unusable("not one whole OpenSSH private key")
    try:
        body = binascii.a2b_base64(b"".join(text.split()), strict_mode=True)
    except binascii.Error:
        raise Unusable("an OpenSSH private key that is not base64") from None
    if not body.startswith(MAGIC):
        raise Unusable("an OpenSSH private key of another version")
    return body[len(MAGIC) :]


def _key(body: bytes, user: str) -> tuple[Imported, int]:
    outer = Reader(body)
    cipher, _, _ = outer.string(), outer.string(), outer.string()
    if cipher != b"none":
        raise Unusable("the SSH key has a passphrase: take it off a copy first, ssh-keygen -p -N '' -f COPY")
    if outer.number(4) != 1:
        raise Unusable("more than one SSH key in a file")
    outer.string()  # the public key, which stands in the other half once more
    inner = Reader(outer.string())
    if inner.number(4) != inner.number(4):
        raise Unusable("a damaged SSH key")
    algorithm, cose = _public(inner)
    rp_id, flags, handle = inner.string(), inner.number(1), inner.string()
    found = Imported(
        user,
        check_rp_id(rp_id.decode("ascii", errors="replace")),
        check_id(handle),
        cose,
        algorithm,
        verified=bool(flags & VERIFICATION),
        discoverable=bool(flags & RESIDENT),
    )
    return found, flags


def _public(inner: Reader) -> tuple[str, bytes]:
    kind = inner.string()
    if kind == ECDSA:
        if inner.string() != b"nistp256":
            raise Unusable("an SSH key on another curve than P-256")
        return "es256", sec1(inner.string())
    if kind == ED25519:
        return "eddsa", eddsa(inner.string())
    raise Unusable("not an SSH key of a security key: only sk-ecdsa and sk-ssh-ed25519 ask for one")
