"""Has an account's password checked by pam-mfa-password, the one part of pam-mfa that runs as root (and is C)."""

from __future__ import annotations

import secrets
import socket
import struct

from .. import wire
from ..conversation import Checked, CheckPassword
from ..errors import LookupFailed, ProtocolError
from ..peer import peer_uid

SOCKET = "/run/pam-mfa/password.sock"
SECONDS = 35.0  # the helper ends PAM after 30
PASSWORD = 0x07
PROVEN = 0x96
MAX_PASSWORD = 512


def check(want: CheckPassword, path: str = SOCKET) -> Checked:
    """Ask, and wait for the answer; blocks.

    Raises:
        LookupFailed: the helper is absent, not root's, or gave no proper answer.
    """
    nonce = secrets.token_bytes(wire.NONCE_SIZE)
    password = want.password.encode(errors="surrogateescape")
    if not 0 < len(password) <= MAX_PASSWORD or b"\0" in password:
        return Checked(False)
    fields = ((1, nonce), (2, want.user.encode()), (3, password))
    payload = b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.settimeout(SECONDS)
            link.connect(path)
            _must_be_root(link)
            link.send(wire.HEADER.pack(wire.VERSION, PASSWORD, len(payload)) + payload)
            return Checked(_proven(link.recv(wire.RECEIVE_SIZE), nonce))
    except (OSError, ProtocolError) as problem:
        raise LookupFailed(f"the password could not be checked: {type(problem).__name__}: {problem}") from None


def _proven(packet: bytes, nonce: bytes) -> bool:
    kind, payload = wire.decode(packet)
    if kind is not wire.Type.RESULT or len(payload) != wire.RESULT.size:
        raise ProtocolError("the password helper answered something else")
    code, _, echoed = wire.RESULT.unpack(payload)
    if echoed != nonce:
        raise ProtocolError("the password helper answered somebody else")
    return bool(code == PROVEN)


def _must_be_root(link: socket.socket) -> None:
    if peer_uid(link) != 0:
        raise ProtocolError("the password helper is not root's")
