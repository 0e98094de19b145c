"""Security keys with which their users log in by ssh: sshd has seen them sign, and says so (SSH_AUTH_INFO_0).

Nothing is ever asked for here, and no rule lists this factor: `pam_mfa/credit.py` has when it counts. Whether a key was
touched sshd does not say: so sshd has to demand it. What sshd says is read in ssh_public.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from ..conversation import Steps
from ..errors import RefusedError
from ..store.rows import Credential
from ..structure import field, replace, structure
from ..throttle import Instant
from .base import Enrolment, Made, other_owner

NAME = "ssh-key"
FORM = 1
VERIFIED = 1
HEAD_BYTES = 2
MAX_TEXT = 2048
REFUSALS = {
    "algorithm": "That key is in no security key: sk-ssh-ed25519 and sk-ecdsa keys are (ssh-keygen -t ed25519-sk).",
    "taken": "That SSH key belongs to another account: use another one.",
    "known": "That SSH key is enrolled already.",
    "certificate": "That is a certificate: give the key that it is over.",
}
DAMAGED = "That is no SSH key that can be read."


@structure
class Material:
    """What a key is recognised by.

    Args:
        blob: its public key as OpenSSH has it, application included.
        verified: it asks for its PIN or a fingerprint, by the word of whoever enrolled it.
    """

    blob: bytes = field(repr=False)
    verified: bool = False

    @property
    def id(self) -> str:
        """Our id of the credential: the same for the same key, whoever enrols it, so that a second owner is found."""
        return sha256(self.blob).hexdigest()[:32]

    def pack(self) -> bytes:
        """The credential's material."""
        return bytes([FORM, VERIFIED * self.verified]) + self.blob

    @staticmethod
    def unpack(material: bytes) -> Material:
        """The other way round. Material was sealed by us, so its form is not checked again."""
        return Material(material[HEAD_BYTES:], bool(material[1] & VERIFIED))


class SshKey:
    """The factor."""

    name = NAME

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: take a public key at its user's word. Raises RefusedError.

        That it is theirs is proven by every login with it: without the private half it opens nothing for anybody.
        """
        material = _material(enrolment.options)
        if any(held.id == material.id for held in enrolment.held):
            raise _refused("known")
        if (yield from other_owner(enrolment.uid, (material.id,))) is not None:
            raise _refused("taken")
        return Made(replace(enrolment.credential(self.name, material.pack()), id=material.id))

    def details(self, credential: Credential) -> Mapping[str, Any]:
        from .ssh_public import ALGORITHMS, parse

        found = Material.unpack(credential.material)
        key = parse(found.blob)
        return {
            "algorithm": ALGORITHMS[key.kind],
            "fingerprint": fingerprint(found.blob),
            "application": key.application,
            "verified": found.verified,
        }

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    from base64 import b64encode

    return "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")


def seen(held: Iterable[Credential], lines: Iterable[bytes], verified: bool) -> Credential | None:
    """The first credential whose key is in one of sshd's lines, and may count by what it and its certificate say.

    Args:
        held: of this factor.
        lines: what sshd says that was proven.
        verified: only keys count that verify their user.
    """
    from .ssh_public import proven

    own = {Material.unpack(credential.material).blob: credential for credential in held}
    for key in map(proven, lines):
        credential = own.get(key.blob) if key is not None and not key.untouched else None
        if credential is not None and (Material.unpack(credential.material).verified or not verified):
            return credential
    return None


def _material(options: Mapping[str, Any]) -> Material:
    """Raises RefusedError."""
    from .assertion import Unproven
    from .ssh_public import CERTIFICATES, check, read

    text = options.get("key")
    if not isinstance(text, str) or not text.isascii() or len(text) > MAX_TEXT:
        raise RefusedError("invalid", "say which SSH key: pam-mfa enroll ssh-key FILE")
    if text.encode().partition(b" ")[0] in CERTIFICATES:
        raise _refused("certificate")
    try:
        key = read(text.encode())
        check(key)
    except Unproven as bad:
        raise _refused(bad.reason) from None
    return Material(key.blob, options.get("verify") is True)


def _refused(reason: str) -> RefusedError:
    return RefusedError("refused", f"nothing was enrolled. {REFUSALS.get(reason, DAMAGED)}")
