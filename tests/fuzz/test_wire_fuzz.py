"""Hostile packets: exactly one frame or ProtocolError, and whatever is accepted is within its limits."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given, settings, strategies as st

from pam_mfa import wire
from pam_mfa.errors import ProtocolError
from pam_mfa.outcome import Outcome
from pam_mfa.wire import Hello, Tag, Type

MANY = settings(max_examples=500, deadline=None)


def within(limit: int, least: int = 0) -> st.SearchStrategy[str]:
    """Text that HELLO takes: bounded in bytes, without NUL and surrogates."""
    letters = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(letters, min_size=least, max_size=limit).filter(lambda text: len(text.encode()) <= limit)


HELLOS = st.builds(
    Hello,
    nonce=st.binary(min_size=16, max_size=16),
    service=within(64, 1),
    user=within(256, 1),
    uid=st.none() | st.integers(0, 2**32 - 2),
    ruser=within(256),
    rhost=within(256),
    tty=within(128),
    flags=st.integers(0, 2**32 - 1),
    authinfo=st.integers(0, 32),
)
FIELDS = st.tuples(st.integers(0, 255) | st.sampled_from(Tag), st.binary(max_size=300))


def joined(fields: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([tag]) + len(value).to_bytes(2, "big") + value for tag, value in fields)


def refused_or_sound(payload: bytes) -> None:
    try:
        hello = wire.decode_hello(payload)
    except ProtocolError:
        return
    assert len(hello.nonce) == 16
    assert hello.service
    assert hello.user
    assert hello.uid is None or 0 <= hello.uid < 2**32
    assert 0 <= hello.authinfo <= wire.MAX_AUTHINFO
    for tag, limit in wire.TEXT_LIMITS.items():
        text = getattr(hello, tag.name.lower()).encode()
        assert len(text) <= limit
        assert b"\0" not in text
    # Nothing was misread: what was understood says the same when it is sent again.
    assert wire.decode_hello(wire.decode(wire.encode_hello(hello))[1]) == hello


@MANY
@given(st.binary(max_size=64) | st.binary(min_size=4090, max_size=4110))
@example(bytes(4101))
def test_any_packet(packet: bytes) -> None:
    try:
        kind, payload = wire.decode(packet)
    except ProtocolError:
        return
    assert wire.encode(kind, payload) == packet


@MANY
@given(st.sampled_from(Type), st.binary(max_size=4096))
def test_any_frame_comes_back(kind: Type, payload: bytes) -> None:
    assert wire.decode(wire.encode(kind, payload)) == (kind, payload)


@MANY
@given(st.sampled_from(Type), st.binary(max_size=64), st.data())
def test_a_frame_with_one_byte_changed_is_another_frame_or_none(
    kind: Type, payload: bytes, data: st.DataObject
) -> None:
    packet = bytearray(wire.encode(kind, payload))
    at = data.draw(st.integers(0, len(packet) - 1))
    packet[at] ^= data.draw(st.integers(1, 255))
    with suppress(ProtocolError):
        assert wire.decode(packet) != (kind, payload)


@MANY
@given(st.sampled_from(Type), st.binary(max_size=64), st.integers(1, 68))
def test_a_frame_that_is_cut_off_is_none(kind: Type, payload: bytes, cut: int) -> None:
    packet = wire.encode(kind, payload)
    try:
        wire.decode(packet[: max(0, len(packet) - cut)])
    except ProtocolError:
        return
    raise AssertionError("a part of a frame was taken for a frame")


@MANY
@given(HELLOS)
def test_any_hello_comes_back(hello: Hello) -> None:
    assert wire.decode_hello(wire.decode(wire.encode_hello(hello))[1]) == hello


@MANY
@given(st.binary(max_size=4096))
def test_any_payload_as_hello(payload: bytes) -> None:
    refused_or_sound(payload)


@MANY
@given(st.lists(FIELDS, max_size=14))
def test_any_fields_as_hello(fields: list[tuple[int, bytes]]) -> None:
    refused_or_sound(joined(fields))


@MANY
@given(HELLOS, st.data())
def test_a_hello_with_bytes_changed_cut_or_added(hello: Hello, data: st.DataObject) -> None:
    payload = bytearray(wire.encode_hello(hello)[wire.HEADER.size :])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    refused_or_sound(bytes(payload))
    refused_or_sound(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    refused_or_sound(bytes(payload) + data.draw(st.binary(max_size=8)))


@MANY
@given(st.text(st.characters(codec="utf-8")), st.booleans())
def test_any_text_is_sent_whole_or_refused(text: str, skippable: bool) -> None:
    data = text.encode()
    try:
        asked = wire.decode(wire.encode_text(Type.ASK, text))
        told = wire.decode(wire.encode_tell(text, skippable))
    except ProtocolError:
        assert b"\0" in data or len(data) >= wire.MAX_PAYLOAD
        return
    assert asked == (Type.ASK, data)
    assert told == (Type.TELL, bytes([skippable]) + data)


@MANY
@given(st.sampled_from(Outcome), st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_any_result_comes_back(outcome: Outcome, delay_ms: int, nonce: bytes) -> None:
    kind, payload = wire.decode(wire.encode_result(outcome, delay_ms, nonce))
    assert kind is Type.RESULT
    assert wire.RESULT.unpack(payload) == (outcome, delay_ms, nonce)
