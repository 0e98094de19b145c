"""Public keys of security keys as OpenSSH writes them, and certificates over them: PROTOCOL.u2f and .certkeys. Pure

What sshd says of a login is compared with what was enrolled, so a key has one form only here: that in which sshd writes
it. Everything else is refused.
"""

from __future__ import annotations

import binascii

from ..structure import field, structure
from .assertion import EdDsa, Es256, Unproven, demand

ED25519, ECDSA = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
ALGORITHMS = {ED25519: "ed25519-sk", ECDSA: "ecdsa-sk"}  # as ssh-keygen calls them
CURVE = b"nistp256"
CERTIFICATES = {kind.replace(b"@", b"-cert-v01@"): kind for kind in ALGORITHMS}
OF_A_USER = 1
NO_TOUCH = b"no-touch-required"
PUBLIC_KEY = b"publickey"
POINT_BYTES, COORDINATE = 65, 32
MAX_APPLICATION = 255


@structure
class Shown:
    """A key that somebody has.

    Args:
        kind: a key of ALGORITHMS.
        application: the relying party id, "ssh:" for nearly all.
        blob: all of the public key, in the form of RFC 4253 section 6.6.
        untouched: a certificate says of it that it need not be touched.
    """

    kind: bytes
    application: str
    blob: bytes = field(repr=False)
    untouched: bool = False


class Reader:
    """The strings and numbers of an SSH key, one after the other (RFC 4251 section 5). Raises Unproven."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """That many bytes."""
        taken = self.data[self.at : self.at + size]
        demand(len(taken) == size, "malformed")
        self.at += size
        return taken

    def number(self, size: int) -> int:
        """A whole number of that many bytes."""
        return int.from_bytes(self.take(size))

    def string(self) -> bytes:
        """A string."""
        return self.take(self.number(4))

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.at == len(self.data)


def proven(line: bytes) -> Shown | None:
    """The key of a security key of which sshd says that it was proven; None for every other line.

    Args:
        line: of SSH_AUTH_INFO_0 (sshd_config(5), ExposeAuthInfo).
    """
    method, _, rest = line.partition(b" ")
    if method != PUBLIC_KEY:
        return None
    try:
        return read(rest)
    except Unproven:
        return None


def read(text: bytes) -> Shown:
    """A key or certificate as its type, a blank, and base64. Raises Unproven."""
    kind, _, encoded = text.partition(b" ")
    demand(kind in ALGORITHMS or kind in CERTIFICATES, "algorithm")
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise Unproven("malformed") from None
    demand(Reader(blob).string() == kind, "malformed")
    return parse(blob)


def parse(blob: bytes) -> Shown:
    """A key or certificate of a security key. Raises Unproven."""
    reader = Reader(blob)
    kind = reader.string()
    certified = kind in CERTIFICATES
    if certified:
        reader.string()  # nonce
    found = _key(CERTIFICATES.get(kind, kind), reader, certified)
    demand(reader.over, "malformed")
    return found


def _key(kind: bytes, reader: Reader, certified: bool) -> Shown:
    demand(kind in ALGORITHMS, "algorithm")
    demand(kind == ED25519 or reader.string() == CURVE, "curve")
    point, application = reader.string(), reader.string()
    demand(len(point) == (COORDINATE if kind == ED25519 else POINT_BYTES), "key")
    demand(1 <= len(application) <= MAX_APPLICATION and all(0x20 < byte < 0x7F for byte in application), "application")
    parts = (kind, *(() if kind == ED25519 else (CURVE,)), point, application)
    blob = b"".join(len(part).to_bytes(4) + part for part in parts)
    return Shown(kind, application.decode(), blob, certified and _untouched(reader))


def _untouched(reader: Reader) -> bool:
    """What a certificate says behind its key."""
    reader.take(8)  # serial number
    demand(reader.number(4) == OF_A_USER, "certificate")
    for _ in range(2):  # its name, and those of accounts
        reader.string()
    reader.take(16)  # from when and until when
    reader.string()  # critical options: sshd refuses those that it does not know
    extensions = Reader(reader.string())
    names = set()
    while not extensions.over:
        names.add(extensions.string())
        extensions.string()
    for _ in range(3):  # reserved, the authority's key, its signature
        reader.string()
    return NO_TOUCH in names


def check(key: Shown) -> None:
    """Its point can be one of a key. Raises Unproven."""
    point = Reader(key.blob)
    point.string()
    if key.kind == ED25519:
        EdDsa(point.string())
        return
    point.string()
    encoded = point.string()
    demand(encoded[0] == 4, "key")  # uncompressed (SEC 1 section 2.3.3)
    Es256(encoded[1 : 1 + COORDINATE], encoded[1 + COORDINATE :])
