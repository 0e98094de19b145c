"""What every importer gives: one Entry for each key that was found, importable or not, and why not."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, ClassVar

from ..devices.base import MAX_CREDENTIAL_ID
from ..factors.ssh_key import fingerprint
from ..factors.ssh_public import ALGORITHMS, parse

MAX_FILE = 64 * 1024 * 1024
MAX_LINE = 64 * 1024
MAX_RP_ID = 255
_NAME = re.compile(r"[A-Za-z0-9_@+\\][A-Za-z0-9_.@+\\-]{0,254}\$?")  # as the module takes them
_PRINTABLE = re.compile(r"[\t -~]*")


class Unusable(ValueError):
    """Something cannot be imported; the text says why and, where there is something to be done, what."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A security key as it can be taken over.

    Args:
        user: whose it is.
        rp_id: relying party id that it was made for, literally: the key knows it by its hash.
        credential_id: 1 to 1,023 bytes.
        public_key: COSE_Key (RFC 9053), checked: its point lies on the curve, its size is one we take.
        algorithm: "es256", "eddsa" or "rs256".
        verified: PIN or fingerprint were asked for with it.
        discoverable: it is kept on the device.
        user_handle: what a discoverable one says of its user; empty where that is not known.
    """

    user: str
    rp_id: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    algorithm: str
    verified: bool = False
    discoverable: bool = False
    user_handle: bytes = b""

    FIELDS: ClassVar[tuple[str, ...]] = ("algorithm", "rp_id", "credential_id")

    @property
    def identity(self) -> bytes:
        """What tells it from others."""
        return self.credential_id

    def shown(self) -> dict[str, str]:
        """What a report says of it: FIELDS."""
        return dict(zip(self.FIELDS, (self.algorithm, self.rp_id, _base64(self.credential_id)), strict=True))

    def item(self) -> dict[str, Any]:
        """What is sent to the service."""
        return {
            "rp_id": self.rp_id,
            "credential_id": _base64(self.credential_id),
            "public_key": _base64(self.public_key),
            "verified": self.verified,
            "discoverable": self.discoverable,
            "user_handle": _base64(self.user_handle),
        }


@dataclass(frozen=True, slots=True)
class Pinned:
    """A smartcard's key as it can be taken over.

    Args:
        user: whose it is.
        public_key: subject public key info, DER (RFC 5280 section 4.1.2.7), of a size and kind that we take.
        algorithm: "p-256", "rsa-2048" and so on.
        subject, issuer, number, valid_until: of its certificate; empty where there is none.
    """

    user: str
    public_key: bytes = field(repr=False)
    algorithm: str
    subject: str = ""
    issuer: str = ""
    number: str = ""
    valid_until: str = ""

    FIELDS: ClassVar[tuple[str, ...]] = ("algorithm", "subject", "key_id")

    @property
    def identity(self) -> bytes:
        """What tells it from others, and is pinned."""
        return sha256(self.public_key).digest()

    def shown(self) -> dict[str, str]:
        """What a report says of it: FIELDS."""
        return dict(zip(self.FIELDS, (self.algorithm, self.subject, self.identity.hex()), strict=True))

    def item(self) -> dict[str, Any]:
        """What is sent to the service."""
        return {
            "public_key": _base64(self.public_key),
            "subject": self.subject,
            "issuer": self.issuer,
            "number": self.number,
            "valid_until": self.valid_until,
        }


@dataclass(frozen=True, slots=True)
class Presented:
    """A security key with which its user logs in by ssh, as it can be taken over.

    Args:
        user: whose it is.
        public_key: as OpenSSH has it, checked.
        verified: sshd was told to demand its PIN or a fingerprint.
    """

    user: str
    public_key: bytes = field(repr=False)
    verified: bool = False

    FIELDS: ClassVar[tuple[str, ...]] = ("algorithm", "application", "fingerprint")

    @property
    def identity(self) -> bytes:
        """What tells it from others."""
        return self.public_key

    @property
    def kind(self) -> str:
        """Its type in OpenSSH's word."""
        return parse(self.public_key).kind.decode()

    @property
    def algorithm(self) -> str:
        """The same in ssh-keygen's."""
        return ALGORITHMS[parse(self.public_key).kind]

    def shown(self) -> dict[str, str]:
        """What a report says of it: FIELDS."""
        facts = self.algorithm, parse(self.public_key).application, fingerprint(self.public_key)
        return dict(zip(self.FIELDS, facts, strict=True))

    def item(self) -> dict[str, Any]:
        """What is sent to the service."""
        return {"key": _base64(self.public_key), "verified": self.verified}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one key, or of one line that holds none.

    Args:
        line: its number, from 1.
        user: whose; empty where that cannot be read.
        imported: the key, None where it cannot be imported.
        why: why not.
        note: what will be different from now on.
    """

    line: int
    user: str
    imported: Imported | Pinned | Presented | None = None
    why: str = ""
    note: str = ""


def lines(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Number and text of every line, and why it cannot be read, if so. The end of a line may be CR LF."""
    for number, raw in enumerate(data.split(b"\n"), 1):
        text = raw[:MAX_LINE].rstrip(b"\r\t ").decode("ascii", errors="replace")
        if raw.startswith(b"#"):
            yield number, "#", ""  # a comment; what it says is nobody's business
        elif len(raw) > MAX_LINE:
            yield number, "", f"longer than {MAX_LINE} characters"
        elif not _PRINTABLE.fullmatch(text):
            yield number, "", "not printable ASCII"
        else:
            yield number, text, ""


def check_name(name: str) -> str:
    """`name` if it can be a user's. Raises Unusable."""
    if not _NAME.fullmatch(name):
        raise Unusable("no user name in front")
    return name


def check_rp_id(rp_id: str) -> str:
    """`rp_id` if a key can have been made for it. Raises Unusable."""
    if not 1 <= len(rp_id) <= MAX_RP_ID or not rp_id.isascii() or not rp_id.isprintable():
        raise Unusable(f"a relying party id has 1 to {MAX_RP_ID} printable ASCII characters")
    return rp_id


def check_id(credential_id: bytes) -> bytes:
    """`credential_id` if it has the size of one. Raises Unusable."""
    if not 1 <= len(credential_id) <= MAX_CREDENTIAL_ID:
        raise Unusable(f"a credential id has 1 to {MAX_CREDENTIAL_ID} bytes, not {len(credential_id)}")
    return credential_id


def unbase64(text: str, what: str) -> bytes:
    """Standard base64, padded. Raises Unusable."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unusable(f"the {what} is not base64") from None


def without_doubles(entries: Iterable[Entry], shared: bool = False) -> list[Entry]:
    """The same, but no key is taken twice by a user nor, unless it is `shared`, by two of them."""
    holders: dict[tuple[str, bytes], Entry] = {}
    kept = []
    for entry in entries:
        if entry.imported:
            whose = entry.user if shared else ""
            first = holders.setdefault((whose, entry.imported.identity), entry)
            if first is not entry:
                entry = replace(entry, imported=None, why=_double(first, entry), note="")
        kept.append(entry)
    return kept


def _double(first: Entry, again: Entry) -> str:
    if first.user == again.user:
        return f"the same key again, line {first.line}"
    return f"the key of {first.user}, line {first.line}; --shared gives it to both"
