"""Frames of the wire protocol, version 1 (native/PROTOCOL.md owns it). No sockets here.

One SOCK_SEQPACKET packet is one frame: version u8, type u8, payload length u16 (big endian), payload.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from .errors import ProtocolError
from .outcome import Outcome
from .structure import structure

VERSION = 1
HEADER = struct.Struct(">BBH")
MAX_PAYLOAD = 4096
MAX_FRAME = HEADER.size + MAX_PAYLOAD
RECEIVE_SIZE = MAX_FRAME + 1  # one more than a frame: a longer packet shows itself
MAX_REPLY = 512
MAX_AUTHINFO = 32
NO_UID = 0xFFFF_FFFF  # (uid_t)-1 is nobody's (POSIX chown)
NONCE_SIZE = 16
RESULT = struct.Struct(">BI16s")


class Type(IntEnum):
    """Frame types; below 0x10 to the service, from 0x10 to the shim or the CLI."""

    HELLO = 0x01
    REPLY = 0x02
    ABORT = 0x03
    SKIP = 0x04
    AUTHINFO = 0x05
    REQUEST = 0x06
    ASK = 0x11
    ASK_SECRET = 0x12
    TELL = 0x13
    WARN = 0x14
    ALIVE = 0x15
    GET_AUTHTOK = 0x16
    SET_AUTHTOK = 0x17
    PART = 0x18
    DONE = 0x19
    RESULT = 0x1F


class Tag(IntEnum):
    """Fields of HELLO. From OPTIONAL_TAGS on a receiver may ignore what it does not know."""

    NONCE = 0x01
    SERVICE = 0x02
    USER = 0x03
    UID = 0x04
    RUSER = 0x05
    RHOST = 0x06
    TTY = 0x07
    FLAGS = 0x08
    AUTHINFO = 0x09


KNOWN_TAGS = frozenset(Tag)
OPTIONAL_TAGS = 0x80
FLAG_SILENT = 0x1
FLAG_DISALLOW_NULL = 0x2

# The longest value of each text field, in bytes: what the system itself allows, no more.
TEXT_LIMITS = {Tag.SERVICE: 64, Tag.USER: 256, Tag.RUSER: 256, Tag.RHOST: 256, Tag.TTY: 128}


@structure
class Hello:
    """What the shim says first.

    Args:
        nonce: 16 random bytes that RESULT must carry back.
        service, user: PAM_SERVICE and PAM_USER.
        uid: of `user` as getpwnam_r gave it, None where there is no such user.
        ruser, rhost, tty: the PAM items, "" where unset.
        flags: FLAG_*.
        authinfo: how many AUTHINFO frames follow before the first answer.
    """

    nonce: bytes
    service: str
    user: str
    uid: int | None = None
    ruser: str = ""
    rhost: str = ""
    tty: str = ""
    flags: int = 0
    authinfo: int = 0


def encode(kind: Type, payload: bytes = b"") -> bytes:
    """One frame. Raises ProtocolError when the payload is too long."""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"{kind.name} with {len(payload)} bytes")
    return HEADER.pack(VERSION, kind, len(payload)) + payload


def decode(packet: bytes | bytearray | memoryview) -> tuple[Type, bytes]:
    """Type and payload of one packet. Raises ProtocolError for anything that is not exactly one frame."""
    if not HEADER.size <= len(packet) <= MAX_FRAME:
        raise ProtocolError(f"packet of {len(packet)} bytes")
    version, kind, length = HEADER.unpack_from(packet)
    if version != VERSION or length != len(packet) - HEADER.size:
        raise ProtocolError(f"version {version}, length {length} in a packet of {len(packet)} bytes")
    try:
        return Type(kind), bytes(packet[HEADER.size :])
    except ValueError:
        raise ProtocolError(f"unknown frame type {kind:#04x}") from None


def encode_text(kind: Type, text: str) -> bytes:
    """ASK, ASK_SECRET or WARN. Raises ProtocolError where the text holds a NUL or is too long."""
    return encode(kind, _text(text))


def encode_tell(text: str, skippable: bool = False) -> bytes:
    """TELL: one byte of flags (1 = the user may skip the wait), then the text."""
    return encode(Type.TELL, bytes([skippable]) + _text(text))


def encode_result(outcome: Outcome, delay_ms: int, nonce: bytes) -> bytes:
    """RESULT: the outcome's code, the delay to ask of PAM in milliseconds, the nonce of HELLO."""
    return encode(Type.RESULT, RESULT.pack(outcome, delay_ms, nonce))


def encode_hello(hello: Hello) -> bytes:
    """HELLO as the shim sends it; for tests and tools."""
    fields = [(Tag.NONCE, hello.nonce), (Tag.SERVICE, hello.service.encode()), (Tag.USER, hello.user.encode())]
    if hello.uid is not None:
        fields.append((Tag.UID, hello.uid.to_bytes(4, "big")))
    for tag, text in ((Tag.RUSER, hello.ruser), (Tag.RHOST, hello.rhost), (Tag.TTY, hello.tty)):
        if text:
            fields.append((tag, text.encode()))
    fields += [(Tag.FLAGS, hello.flags.to_bytes(4, "big")), (Tag.AUTHINFO, hello.authinfo.to_bytes(4, "big"))]
    return encode(Type.HELLO, b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields))


def decode_hello(payload: bytes) -> Hello:
    """HELLO's fields. Raises ProtocolError for an unknown, doubled, missing, over-long or malformed one."""
    fields = _fields(payload)
    try:
        nonce, service, user = fields.pop(Tag.NONCE), fields.pop(Tag.SERVICE), fields.pop(Tag.USER)
    except KeyError as missing:
        raise ProtocolError(f"HELLO without field {missing}") from None
    if len(nonce) != NONCE_SIZE or not service or not user:
        raise ProtocolError("HELLO with an empty or malformed field")
    return Hello(
        nonce=nonce,
        service=_field_text(Tag.SERVICE, service),
        user=_field_text(Tag.USER, user),
        uid=_uid(_number(fields[Tag.UID])) if Tag.UID in fields else None,
        ruser=_field_text(Tag.RUSER, fields.get(Tag.RUSER, b"")),
        rhost=_field_text(Tag.RHOST, fields.get(Tag.RHOST, b"")),
        tty=_field_text(Tag.TTY, fields.get(Tag.TTY, b"")),
        flags=_number(fields.get(Tag.FLAGS, bytes(4))),
        authinfo=_authinfo(_number(fields.get(Tag.AUTHINFO, bytes(4)))),
    )


def _fields(payload: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(payload):
        if at + 3 > len(payload):
            raise ProtocolError("HELLO ends within a field")
        tag, length = struct.unpack_from(">BH", payload, at)
        value = payload[at + 3 : at + 3 + length]
        at += 3 + length
        if len(value) != length or tag in fields:
            raise ProtocolError(f"HELLO field {tag:#04x} is cut off or doubled")
        if tag < OPTIONAL_TAGS and tag not in KNOWN_TAGS:
            raise ProtocolError(f"HELLO field {tag:#04x} is unknown")
        fields[tag] = value
    return fields


def _field_text(tag: Tag, value: bytes) -> str:
    if len(value) > TEXT_LIMITS[tag] or b"\0" in value:
        raise ProtocolError(f"HELLO {tag.name} is too long or holds a NUL")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"HELLO {tag.name} is not UTF-8") from None


def _uid(number: int) -> int:
    if number == NO_UID:
        raise ProtocolError("HELLO with uid -1")
    return number


def _authinfo(count: int) -> int:
    if count > MAX_AUTHINFO:
        raise ProtocolError(f"HELLO announces {count} AUTHINFO frames")
    return count


def _number(value: bytes) -> int:
    if len(value) != 4:
        raise ProtocolError("HELLO number is not four bytes")
    return int.from_bytes(value, "big")


def _text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ProtocolError("text holds half a character") from None
    if b"\0" in data:
        raise ProtocolError("text holds a NUL")
    return data
