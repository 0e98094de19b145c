"""Frames: exactly what PROTOCOL.md says goes in and out, and each refusal."""

from __future__ import annotations

import pytest

from pam_mfa import wire
from pam_mfa.errors import ProtocolError
from pam_mfa.outcome import Outcome
from pam_mfa.wire import Hello, Tag, Type

NONCE = bytes(range(16))
HELLO = Hello(NONCE, "sshd", "alice", 1000, "root", "192.0.2.1", "ssh", 3, 2)


def field(tag: int, value: bytes) -> bytes:
    return bytes([tag]) + len(value).to_bytes(2, "big") + value


LEAST = field(Tag.NONCE, NONCE) + field(Tag.SERVICE, b"su") + field(Tag.USER, b"bob")

# ------------------------------------------------------------------------------------------------ frames


def test_the_numbers_of_the_protocol() -> None:
    assert {kind.name: int(kind) for kind in Type} == {
        "HELLO": 0x01, "REPLY": 0x02, "ABORT": 0x03, "SKIP": 0x04, "AUTHINFO": 0x05, "REQUEST": 0x06,
        "ASK": 0x11, "ASK_SECRET": 0x12, "TELL": 0x13, "WARN": 0x14, "ALIVE": 0x15, "GET_AUTHTOK": 0x16,
        "SET_AUTHTOK": 0x17, "PART": 0x18, "DONE": 0x19, "RESULT": 0x1F,
    }  # fmt: skip
    assert (wire.MAX_PAYLOAD, wire.MAX_FRAME, wire.RECEIVE_SIZE, wire.MAX_REPLY) == (4096, 4100, 4101, 512)


def test_frames_byte_by_byte() -> None:
    assert wire.encode(Type.ALIVE) == b"\x01\x15\x00\x00"
    assert wire.encode(Type.REPLY, b"123456") == b"\x01\x02\x00\x06123456"
    assert wire.encode_text(Type.ASK_SECRET, "Code: ") == b"\x01\x12\x00\x06Code: "
    assert wire.encode_text(Type.WARN, "é") == b"\x01\x14\x00\x02\xc3\xa9"
    assert wire.encode_tell("Touch") == b"\x01\x13\x00\x06\x00Touch"
    assert wire.encode_tell("Touch", skippable=True) == b"\x01\x13\x00\x06\x01Touch"
    assert wire.encode_result(Outcome.DENIED, 2000, NONCE) == b"\x01\x1f\x00\x15\x66\x00\x00\x07\xd0" + NONCE


@pytest.mark.parametrize("kind", list(Type))
@pytest.mark.parametrize("size", [0, 1, 255, 256, 4096])
def test_every_frame_comes_back(kind: Type, size: int) -> None:
    packet = wire.encode(kind, b"x" * size)
    for shape in (bytes, bytearray, memoryview):
        assert wire.decode(shape(packet)) == (kind, b"x" * size)


def test_a_decoded_payload_is_a_copy() -> None:
    buffer = bytearray(wire.encode(Type.REPLY, b"123456"))
    _, payload = wire.decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert payload == b"123456"


def test_a_longer_payload_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="REPLY with 4097 bytes"):
        wire.encode(Type.REPLY, bytes(4097))
    with pytest.raises(ProtocolError, match="ASK with 4097 bytes"):
        wire.encode_text(Type.ASK, "x" * 4097)
    with pytest.raises(ProtocolError, match="TELL with 4097 bytes"):
        wire.encode_tell("x" * 4096)


@pytest.mark.parametrize("send", [lambda text: wire.encode_text(Type.ASK, text), wire.encode_tell])
@pytest.mark.parametrize("text", ["\0", "Code\0: ", "é\0"])
def test_text_with_a_nul_is_not_sent(send: object, text: str) -> None:
    assert callable(send)
    with pytest.raises(ProtocolError, match="text holds a NUL"):
        send(text)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "packet of 0 bytes"),
        (b"\x01\x15\x00", "packet of 3 bytes"),
        (b"\x01\x02\x10\x01" + bytes(4097), "packet of 4101 bytes"),
        (b"\x00\x15\x00\x00", "version 0, length 0 in a packet of 4 bytes"),
        (b"\x02\x15\x00\x00", "version 2, length 0 in a packet of 4 bytes"),
        (b"\x01\x15\x00\x01", "version 1, length 1 in a packet of 4 bytes"),
        (b"\x01\x15\x00\x00x", "version 1, length 0 in a packet of 5 bytes"),
        (b"\x01\x02\x01\x00" + bytes(1), "version 1, length 256 in a packet of 5 bytes"),
        (b"\x01\x02\xff\xff" + bytes(4096), "version 1, length 65535 in a packet of 4100 bytes"),
        (b"\x01\x00\x00\x00", "unknown frame type 0x00"),
        (b"\x01\x07\x00\x00", "unknown frame type 0x07"),
        (b"\x01\x10\x00\x00", "unknown frame type 0x10"),
        (b"\x01\x1a\x00\x00", "unknown frame type 0x1a"),
        (b"\x01\xff\x00\x00", "unknown frame type 0xff"),
    ],
)
def test_what_is_not_exactly_one_frame_is_refused(packet: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode(packet)
    assert str(caught.value) == why


def test_only_the_sixteen_types_are_known() -> None:
    known = []
    for kind in range(256):
        try:
            known.append(wire.decode(bytes([1, kind, 0, 0]))[0])
        except ProtocolError:
            continue
    assert known == list(Type)


# ------------------------------------------------------------------------------------------------- HELLO


def test_hello_comes_back() -> None:
    kind, payload = wire.decode(wire.encode_hello(HELLO))
    assert kind is Type.HELLO
    assert wire.decode_hello(payload) == HELLO


def test_hello_byte_by_byte() -> None:
    assert wire.encode_hello(Hello(NONCE, "su", "bob", 1)) == (
        b"\x01\x01\x00\x33" + LEAST + field(0x04, b"\0\0\0\x01") + field(0x08, bytes(4)) + field(0x09, bytes(4))
    )


def test_what_hello_may_leave_out() -> None:
    assert wire.decode_hello(LEAST) == Hello(NONCE, "su", "bob", None, "", "", "", 0, 0)


def test_uid_zero_is_not_no_uid() -> None:
    assert wire.decode_hello(LEAST + field(Tag.UID, bytes(4))).uid == 0
    assert wire.decode_hello(LEAST).uid is None


def test_fields_in_any_order_and_unknown_optional_ones() -> None:
    payload = field(0x80, b"?") + field(Tag.USER, b"bob") + field(Tag.NONCE, NONCE) + field(0xFF, b"")
    assert wire.decode_hello(payload + field(Tag.SERVICE, b"su")) == Hello(NONCE, "su", "bob")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "HELLO without field"),
        (field(Tag.SERVICE, b"su") + field(Tag.USER, b"bob"), "HELLO without field"),
        (field(Tag.NONCE, NONCE) + field(Tag.USER, b"bob"), "HELLO without field"),
        (field(Tag.NONCE, NONCE) + field(Tag.SERVICE, b"su"), "HELLO without field"),
        (LEAST + b"\x04", "HELLO ends within a field"),
        (LEAST + b"\x04\x00", "HELLO ends within a field"),
        (LEAST + b"\x04\x00\x04\x00\x00\x00", "HELLO field 0x04 is cut off or doubled"),
        (LEAST + b"\x06\xff\xff", "HELLO field 0x06 is cut off or doubled"),
        (LEAST + field(Tag.USER, b"root"), "HELLO field 0x03 is cut off or doubled"),
        (LEAST + field(Tag.UID, bytes(4)) * 2, "HELLO field 0x04 is cut off or doubled"),
        (LEAST + field(0x90, b"") * 2, "HELLO field 0x90 is cut off or doubled"),
        (LEAST + field(0x00, b""), "HELLO field 0x00 is unknown"),
        (LEAST + field(0x0A, b""), "HELLO field 0x0a is unknown"),
        (LEAST + field(0x7F, b""), "HELLO field 0x7f is unknown"),
        (LEAST.replace(field(1, NONCE), field(1, NONCE[1:])), "HELLO with an empty or malformed field"),
        (LEAST.replace(field(1, NONCE), field(1, NONCE + b"x")), "HELLO with an empty or malformed field"),
        (LEAST.replace(field(1, NONCE), field(1, b"")), "HELLO with an empty or malformed field"),
        (LEAST.replace(field(2, b"su"), field(2, b"")), "HELLO with an empty or malformed field"),
        (LEAST.replace(field(3, b"bob"), field(3, b"")), "HELLO with an empty or malformed field"),
        (LEAST.replace(field(3, b"bob"), field(3, b"bo\xff")), "HELLO USER is not UTF-8"),
        (LEAST.replace(field(3, b"bob"), field(3, b"\xed\xa0\x80")), "HELLO USER is not UTF-8"),
        (LEAST.replace(field(3, b"bob"), field(3, b"\xc0\x80")), "HELLO USER is not UTF-8"),
        (LEAST.replace(field(3, b"bob"), field(3, b"bob\0x")), "HELLO USER is too long or holds a NUL"),
        (LEAST.replace(field(2, b"su"), field(2, b"\0")), "HELLO SERVICE is too long or holds a NUL"),
        (LEAST + field(Tag.RHOST, b"\xff"), "HELLO RHOST is not UTF-8"),
        (LEAST + field(Tag.UID, b""), "HELLO number is not four bytes"),
        (LEAST + field(Tag.UID, bytes(3)), "HELLO number is not four bytes"),
        (LEAST + field(Tag.UID, bytes(8)), "HELLO number is not four bytes"),
        (LEAST + field(Tag.FLAGS, bytes(5)), "HELLO number is not four bytes"),
        (LEAST + field(Tag.AUTHINFO, b"\x01"), "HELLO number is not four bytes"),
        (LEAST + field(Tag.AUTHINFO, b"\0\0\0\x21"), "HELLO announces 33 AUTHINFO frames"),
        (LEAST + field(Tag.AUTHINFO, b"\xff\xff\xff\xff"), "HELLO announces 4294967295 AUTHINFO frames"),
    ],
)
def test_a_hello_that_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_hello(payload)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("tag", list(wire.TEXT_LIMITS))
def test_the_longest_text_of_each_field(tag: Tag) -> None:
    limit = wire.TEXT_LIMITS[tag]
    others = {Tag.NONCE: NONCE, Tag.SERVICE: b"su", Tag.USER: b"bob"}

    def hello(size: int) -> bytes:
        return b"".join(field(each, value) for each, value in (others | {tag: b"x" * size}).items())

    assert getattr(wire.decode_hello(hello(limit)), tag.name.lower()) == "x" * limit
    with pytest.raises(ProtocolError, match=f"HELLO {tag.name} is too long"):
        wire.decode_hello(hello(limit + 1))


def test_a_refusal_repeats_nothing_of_the_peers_text() -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_hello(LEAST.replace(field(3, b"bob"), field(3, b"secret\xff")))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
