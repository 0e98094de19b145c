"""The frame codec of the shim (C) against that of the service (Python): same numbers, same frames, same refusals."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st
from shim import NATIVE

from pam_mfa import wire
from pam_mfa.errors import ProtocolError
from pam_mfa.outcome import PAM_CODE, Outcome


def _compile() -> Any:
    """Builds _frames as the build does, and imports it; the process keeps it after the folder is gone."""
    folder = Path(tempfile.mkdtemp(prefix="pam-mfa-frames-"))
    try:
        source, library = folder / "_frames.c", folder / f"_frames{sysconfig.get_config_var('EXT_SUFFIX')}"
        subprocess.run([sys.executable, str(NATIVE / "frames_build.py"), str(source)], check=True)
        include = [f"-I{NATIVE}", f"-I{sysconfig.get_path('include')}"]
        sources = [str(source), str(NATIVE / "wire.c")]
        subprocess.run(["gcc", "-shared", "-fPIC", *include, *sources, "-o", str(library)], check=True)
        spec = importlib.util.spec_from_file_location("_frames", library)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        shutil.rmtree(folder)


FRAMES = _compile()
ffi, lib = FRAMES.ffi, FRAMES.lib
NONCE = st.binary(min_size=wire.NONCE_SIZE, max_size=wire.NONCE_SIZE)
U32 = st.integers(0, 2**32 - 1)


def _frame(packet: bytes) -> Any:
    """A packet as recv() left it: cut at the buffer's end."""
    frame = ffi.new("struct frame *")
    packet = packet[: wire.RECEIVE_SIZE]
    ffi.memmove(frame.bytes, packet, len(packet))
    frame.size = len(packet)
    return frame


def _packet(frame: Any) -> bytes:
    return bytes(ffi.buffer(frame.bytes, frame.size))


def test_same_numbers() -> None:
    ours = {name: getattr(lib, name) for name in dir(lib)}
    for kind in ("HELLO", "REPLY", "ABORT", "AUTHINFO", "ASK", "ASK_SECRET", "TELL", "WARN", "ALIVE", "RESULT"):
        assert ours.pop(f"FRAME_{kind}") == wire.Type[kind]
    for tag in wire.Tag:
        assert ours.pop(f"TAG_{tag.name}") == tag
    for outcome in Outcome:
        assert ours.pop(f"OUTCOME_{outcome.name}") == outcome
    numbers = {name: number for name, number in ours.items() if isinstance(number, int)}
    assert numbers == {
        "WIRE_VERSION": wire.VERSION,
        "WIRE_HEADER": wire.HEADER.size,
        "WIRE_MAX_PAYLOAD": wire.MAX_PAYLOAD,
        "WIRE_MAX_FRAME": wire.MAX_FRAME,
        "WIRE_RECEIVE": wire.RECEIVE_SIZE,
        "WIRE_MAX_REPLY": wire.MAX_REPLY,
        "WIRE_MAX_AUTHINFO": wire.MAX_AUTHINFO,
        "WIRE_NONCE": wire.NONCE_SIZE,
        "FLAG_SILENT": wire.FLAG_SILENT,
        "FLAG_DISALLOW_NULL": wire.FLAG_DISALLOW_NULL,
    }


def test_same_limits_of_the_items() -> None:
    hello = ffi.new("struct hello *")
    sizes = {tag: len(getattr(hello, tag.name.lower())) - 1 for tag in wire.TEXT_LIMITS}
    assert sizes == wire.TEXT_LIMITS


def test_every_outcome_is_far_from_every_other_and_from_0_and_1() -> None:
    codes = [0, 1, 0xFF, *Outcome]
    distances = {(a, b): (a ^ b).bit_count() for a in codes for b in codes if a < b and {a, b} & set(Outcome)}
    assert min(distances.values()) >= 3
    assert set(PAM_CODE) == set(Outcome)


ITEM = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=128)


def _hello_packet(hello: wire.Hello) -> bytes:
    """HELLO as the shim writes it."""
    c_hello, frame = ffi.new("struct hello *"), ffi.new("struct frame *")
    ffi.memmove(c_hello.nonce, hello.nonce, wire.NONCE_SIZE)
    for tag in wire.TEXT_LIMITS:
        value = getattr(hello, tag.name.lower()).encode() + b"\0"
        ffi.memmove(getattr(c_hello, tag.name.lower()), value, len(value))
    c_hello.known, c_hello.uid = hello.uid is not None, hello.uid or 0
    c_hello.flags, c_hello.authinfo = hello.flags, hello.authinfo
    assert lib.frame_hello(frame, c_hello)
    assert lib.frame_valid(frame)
    return _packet(frame)


@given(
    nonce=NONCE,
    service=ITEM.filter(bool).map(lambda text: text[:64]),
    user=ITEM.filter(bool),
    uid=st.none() | st.integers(0, 2**32 - 2),
    ruser=ITEM,
    rhost=ITEM,
    tty=ITEM,
    flags=U32,
    authinfo=st.integers(0, wire.MAX_AUTHINFO),
)
def test_hello_of_the_shim_is_the_hello_of_the_service(**fields: Any) -> None:
    hello = wire.Hello(**fields)
    packet = _hello_packet(hello)
    assert packet == wire.encode_hello(hello)
    kind, payload = wire.decode(packet)
    assert (kind, wire.decode_hello(payload)) == (wire.Type.HELLO, hello)


def test_longest_hello_fits() -> None:
    longest = {tag.name.lower(): "x" * limit for tag, limit in wire.TEXT_LIMITS.items()}
    hello = wire.Hello(b"n" * 16, uid=1, flags=3, authinfo=32, **longest)
    assert wire.decode_hello(wire.decode(_hello_packet(hello))[1]) == hello


@given(
    st.sampled_from([wire.Type.REPLY, wire.Type.AUTHINFO, wire.Type.ABORT]), st.binary(max_size=wire.MAX_PAYLOAD + 9)
)
@example(wire.Type.REPLY, b"x" * wire.MAX_PAYLOAD)
@example(wire.Type.REPLY, b"x" * (wire.MAX_PAYLOAD + 1))
def test_frames_of_the_shim_are_read_by_the_service(kind: wire.Type, payload: bytes) -> None:
    frame = ffi.new("struct frame *")
    lib.frame_start(frame, kind.value)
    assert lib.frame_append(frame, payload, len(payload)) is (len(payload) <= wire.MAX_PAYLOAD)
    if len(payload) <= wire.MAX_PAYLOAD:
        assert wire.decode(_packet(frame)) == (kind, payload)


@given(st.lists(st.binary(max_size=3000), max_size=4))
def test_appending_never_overruns(parts: list[bytes]) -> None:
    frame, kept = ffi.new("struct frame *"), b""
    lib.frame_start(frame, lib.FRAME_REPLY)
    for part in parts:
        if lib.frame_append(frame, part, len(part)):
            kept += part
        else:
            assert len(kept) + len(part) > wire.MAX_PAYLOAD
    assert wire.decode(_packet(frame)) == (wire.Type.REPLY, kept)


PACKET = st.binary(max_size=64) | st.builds(
    lambda version, kind, length, payload: wire.HEADER.pack(version, kind, length) + payload,
    st.sampled_from([0, 1, 1, 1, 2, 255]),
    st.integers(0, 255),
    st.integers(0, 80) | st.sampled_from([4095, 4096, 4097, 65535]),
    st.binary(max_size=80),
)


def _valid(packet: bytes) -> bool:
    """Whether Python takes it as a frame, whatever its type."""
    try:
        wire.decode(packet[:1] + b"\x11" + packet[2:])
    except ProtocolError:
        return False
    return True


@given(PACKET)
@example(wire.HEADER.pack(1, 0x11, 4096) + b"x" * 4096)
@example(wire.HEADER.pack(1, 0x11, 4097) + b"x" * 4097)
@example(b"")
def test_what_is_a_frame(packet: bytes) -> None:
    """The shim takes as a frame what the service does; unknown types it refuses one step later."""
    assert lib.frame_valid(_frame(packet)) is _valid(packet)


@given(st.binary(max_size=200), st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_damaged_frames(payload: bytes, at: int, damage: bytes) -> None:
    whole = wire.encode(wire.Type.ASK, payload)
    cut = whole[: at % len(whole)]
    broken = cut + damage + whole[len(cut) :]
    assert not lib.frame_valid(_frame(cut))
    assert lib.frame_valid(_frame(broken)) is _valid(broken)


@given(st.sampled_from([wire.Type.ASK, wire.Type.ASK_SECRET, wire.Type.WARN]), st.text(max_size=1000))
@example(wire.Type.ASK, "x" * 4096)
@example(wire.Type.ASK, "")
def test_texts_of_the_service_are_read_by_the_shim(kind: wire.Type, text: str) -> None:
    try:
        packet = wire.encode_text(kind, text)
    except ProtocolError:
        packet = wire.encode(kind, text.encode())
        assert lib.frame_text(_frame(packet), 0) == ffi.NULL
        return
    frame = _frame(packet)
    assert lib.frame_valid(frame)
    assert ffi.string(lib.frame_text(frame, 0)) == text.encode()


@given(st.binary(max_size=100), st.integers(0, 3))
@example(b"", 1)
@example(b"x" * 4096, 0)
@example(b"x" * 4096, 1)
def test_text_behind_other_bytes(payload: bytes, skip: int) -> None:
    frame = _frame(wire.encode(wire.Type.TELL, payload))
    text = lib.frame_text(frame, skip)  # lies in the frame, which has to live as long
    if skip > len(payload) or b"\0" in payload[skip:]:
        assert text == ffi.NULL
    else:
        assert ffi.string(text) == payload[skip:]


@given(st.text(max_size=1000).filter(lambda text: "\0" not in text), st.booleans())
def test_tell_of_the_service(text: str, skippable: bool) -> None:
    frame = _frame(wire.encode_tell(text, skippable))
    assert frame.bytes[wire.HEADER.size] == skippable
    assert ffi.string(lib.frame_text(frame, 1)) == text.encode()


def _result(packet: bytes, nonce: bytes) -> tuple[int, int] | None:
    code, delay = ffi.new("uint8_t *"), ffi.new("uint32_t *")
    read = lib.frame_result(_frame(packet), nonce, code, delay)
    return (code[0], delay[0]) if read else None


@given(st.sampled_from(Outcome), U32, NONCE)
def test_result_of_the_service(outcome: Outcome, delay_ms: int, nonce: bytes) -> None:
    assert _result(wire.encode_result(outcome, delay_ms, nonce), nonce) == (outcome, delay_ms)


@given(NONCE, NONCE)
def test_result_needs_this_nonce(nonce: bytes, other: bytes) -> None:
    assert (_result(wire.encode_result(Outcome.GRANTED, 0, other), nonce) is None) is (nonce != other)


@given(NONCE, st.integers(0, 127))
def test_result_needs_every_bit_of_the_nonce(nonce: bytes, bit: int) -> None:
    other = bytearray(nonce)
    other[bit // 8] ^= 1 << bit % 8
    assert _result(wire.encode_result(Outcome.GRANTED, 0, bytes(other)), nonce) is None


@pytest.mark.parametrize("size", [*range(wire.RESULT.size), wire.RESULT.size + 1, wire.MAX_PAYLOAD])
def test_result_needs_its_exact_size(size: int) -> None:
    payload = (wire.RESULT.pack(Outcome.GRANTED, 0, bytes(16)) + bytes(wire.MAX_PAYLOAD))[:size]
    assert _result(wire.encode(wire.Type.RESULT, payload), bytes(16)) is None
