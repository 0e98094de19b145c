"""Public keys of security keys as sshd shows them, whole and damaged, and certificates over them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from flows import ALICE
from key_files import ED, POINT, text

from pam_mfa.factors.ssh_key import Material
from pam_mfa.factors.ssh_public import ECDSA, ED25519
from pam_mfa.store.rows import Credential

KINDS = (ED25519, ECDSA)


def parts(kind: bytes, application: bytes = b"ssh:", point: bytes = b"") -> list[bytes]:
    """What stands behind the type."""
    if kind == ED25519:
        return [point or ED.public_bytes_raw(), application]
    return [b"nistp256", point or POINT, application]


def blob(kind: bytes = ED25519, application: bytes = b"ssh:", point: bytes = b"") -> bytes:
    """A public key."""
    return b"".join(map(text, (kind, *parts(kind, application, point))))


def certificate(
    kind: bytes = ED25519,
    extensions: Sequence[bytes] = (b"permit-pty",),
    of: int = 1,
    critical: bytes = b"",
    rest: Sequence[bytes] = (b"", b"the authority's key", b"a signature"),
    **more: Any,
) -> bytes:
    """A certificate over the same key."""
    head = [kind.replace(b"@", b"-cert-v01@"), b"nonce", *parts(kind, **more)]
    body = bytes(7) + b"\x07" + of.to_bytes(4) + text(b"alice's") + text(text(b"alice")) + bytes(8) + b"\xff" * 8
    named = b"".join(text(name) + text(b"") for name in extensions)
    return b"".join(map(text, head)) + body + b"".join(map(text, (critical, named, *rest)))


def shown(data: bytes) -> str:
    """As OpenSSH writes it: its type, a blank, and base64."""
    kind = data[4 : 4 + int.from_bytes(data[:4])]
    return f"{kind.decode(errors='replace')} {base64.b64encode(data).decode()}"


def authinfo(data: bytes) -> bytes:
    """As sshd says that it was proven."""
    return b"publickey " + shown(data).encode()


def held(data: bytes = b"", label: str = "laptop", uid: int = ALICE, user: str = "alice", **more: Any) -> Credential:
    """An enrolled one."""
    material = Material(data or blob(), more.pop("verified", False))
    return Credential(material.id, uid, user, "ssh-key", label, material.pack(), **more)
