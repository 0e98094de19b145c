"""The relay against a scripted service: every outcome, and every way in which a service can misbehave."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shim import (
    AUTH_ERR,
    ECHO_OFF,
    SUCCESS,
    UNAVAILABLE,
    Lab,
    Peer,
    grant,
)

from pam_mfa import wire
from pam_mfa.outcome import PAM_CODE, Outcome
from pam_mfa.wire import Type


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_pam_code(tmp_path: Path, outcome: Outcome, compiler: str) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.ask() == b"123456"
        peer.result(outcome)

    with Lab(tmp_path, compiler) as lab:
        lab.serve(serve)
        ran = lab.host("answer=text:123456", "auth")
    assert ran.code == PAM_CODE[outcome][1]
    assert ran.shown == [(ECHO_OFF, "Code: ")]
    assert len(ran.log) == (0 if outcome in (Outcome.GRANTED, Outcome.EXEMPT) else 1)


def test_only_one_byte_of_256_grants(lab: Lab) -> None:
    """And only one exempts: every other code is refused, whatever libpam thinks of its number."""
    codes = iter(range(256))

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode(Type.RESULT, wire.RESULT.pack(next(codes), 0, peer.hello.nonce)))

    lab.serve(serve)
    results = lab.host(*["auth"] * 256).codes()
    known = {outcome.value: PAM_CODE[outcome][1] for outcome in Outcome}
    assert results == [known.get(code, UNAVAILABLE) for code in range(256)]


def _result(peer: Peer) -> bytes:
    return wire.encode_result(Outcome.GRANTED, 0, peer.hello.nonce)


def _flipped(peer: Peer) -> bytes:
    nonce = bytearray(peer.hello.nonce)
    nonce[15] ^= 1
    return wire.encode_result(Outcome.GRANTED, 0, bytes(nonce))


HOSTILE: dict[str, Callable[[Peer], bytes]] = {
    "result with a wrong nonce": _flipped,
    "result with a nonce of zeroes": lambda peer: wire.encode_result(Outcome.GRANTED, 0, bytes(16)),
    "result of version 2": lambda peer: b"\x02" + _result(peer)[1:],
    "result of version 0": lambda peer: b"\x00" + _result(peer)[1:],
    "short result": lambda peer: wire.encode(Type.RESULT, _result(peer)[4:-1]),
    "long result": lambda peer: wire.encode(Type.RESULT, _result(peer)[4:] + b"\0"),
    "empty result": lambda peer: wire.encode(Type.RESULT),
    "result cut in its header": lambda peer: _result(peer)[:3],
    "result with a lying length": lambda peer: _result(peer)[:2] + b"\xff\xff" + _result(peer)[4:],
    "result with bytes behind": lambda peer: _result(peer) + b"\0",
    "one byte": lambda peer: b"\x01",
    "a packet longer than a frame": lambda peer: wire.HEADER.pack(1, Type.ASK, 4096) + b"x" * 4097,
    "a packet of 64 KiB": lambda peer: wire.HEADER.pack(1, Type.ASK, 65535) + b"x" * 65535,
    "type 0": lambda peer: wire.HEADER.pack(1, 0, 0),
    "type 255": lambda peer: wire.HEADER.pack(1, 255, 0),
    "hello back": lambda peer: wire.encode_hello(peer.hello),
    "reply back": lambda peer: wire.encode(Type.REPLY, b"123456"),
    "abort back": lambda peer: wire.encode(Type.ABORT),
    "skip back": lambda peer: wire.encode(Type.SKIP),
    "authinfo back": lambda peer: wire.encode(Type.AUTHINFO, b"publickey"),
    "request": lambda peer: wire.encode(Type.REQUEST, b"{}"),
    "reserved get_authtok": lambda peer: wire.encode(Type.GET_AUTHTOK),
    "reserved set_authtok": lambda peer: wire.encode(Type.SET_AUTHTOK, b"secret"),
    "part of the manage socket": lambda peer: wire.encode(Type.PART, b"{}"),
    "done of the manage socket": lambda peer: wire.encode(Type.DONE, b"{}"),
    "alive with a payload": lambda peer: wire.encode(Type.ALIVE, b"x"),
    "ask with a NUL": lambda peer: wire.encode(Type.ASK, b"Code\0: "),
    "warn that ends in a NUL": lambda peer: wire.encode(Type.WARN, b"Code\0"),
    "tell without flags": lambda peer: wire.encode(Type.TELL),
    "tell with a NUL": lambda peer: wire.encode(Type.TELL, b"\x00a\0b"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_frame_ends_the_session(lab: Lab, what: str) -> None:
    """The frame is refused even though a valid grant stands behind it in the queue."""

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(HOSTILE[what](peer))
        peer.send_late(_result(peer))

    lab.install_stub("grant")
    lab.serve(serve)
    ran = lab.host("answer=text:1", "answer=text:1", "auth")
    assert ran.code == UNAVAILABLE
    assert ran.shown == []
    assert len(ran.log) == 1
    assert lab.report is None, "after the first frame nobody else is asked"


@pytest.mark.parametrize("what", ["result with a wrong nonce", "type 255", "one byte", "result of version 2"])
def test_hostile_first_frame_is_a_frame(lab: Lab, what: str) -> None:
    """The engine is not asked after a first frame that is broken."""

    def serve(peer: Peer) -> None:
        peer.take_hello()
        peer.send(HOSTILE[what](peer))

    lab.install_stub("grant")
    lab.serve(serve)
    assert lab.host("answer=text:1", "auth").code == UNAVAILABLE
    assert lab.report is None


def test_nonce_of_another_session_does_not_grant(lab: Lab) -> None:
    nonces: list[bytes] = []

    def serve(peer: Peer) -> None:
        nonces.append(peer.greet().nonce)
        peer.send(wire.encode_result(Outcome.GRANTED, 0, nonces[0]))

    lab.serve(serve)
    assert lab.host("auth", "auth").codes() == [SUCCESS, UNAVAILABLE]
    assert nonces[0] != nonces[1]


def _after_alive(peer: Peer) -> None:
    peer.greet()


def _at_the_prompt(peer: Peer) -> None:
    peer.greet()
    peer.send(wire.encode_text(Type.ASK, "Code: "))


def _after_the_answer(peer: Peer) -> None:
    peer.greet()
    peer.ask()


def _after_text(peer: Peer) -> None:
    peer.greet()
    peer.send(wire.encode_tell("Touch the key"))


def _empty_packet(peer: Peer) -> None:
    peer.greet()
    peer.send(b"")
    peer.send_late(_result(peer))


@pytest.mark.parametrize("leave", [_after_alive, _at_the_prompt, _after_the_answer, _after_text, _empty_packet])
def test_end_of_file_refuses(lab: Lab, leave: Callable[[Peer], None]) -> None:
    lab.install_stub("grant")
    lab.serve(leave)
    ran = lab.host("answer=text:123456", "auth")
    assert ran.code == UNAVAILABLE
    assert len(ran.log) == 1
    assert lab.report is None


def test_first_result_counts_and_nothing_after_it(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.result(Outcome.DENIED)
        peer.send_late(_result(peer))

    lab.serve(serve)
    assert lab.host("auth").code == AUTH_ERR


def test_silence_after_the_first_frame(lab: Lab) -> None:
    """15 s without any frame: the service is gone, and the engine is not asked any more."""

    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.gone()

    lab.install_stub("grant")
    lab.serve(serve)
    ran = lab.host("auth")
    assert ran.code == UNAVAILABLE
    assert ran.took >= 14
    assert lab.report is None


def test_alive_alone_meets_the_total_deadline(lab: Lab) -> None:
    stop = threading.Event()

    def serve(peer: Peer) -> None:
        peer.greet()
        while not stop.wait(0.1):
            peer.send_late(wire.encode(Type.ALIVE))

    lab.serve(serve)
    try:
        ran = lab.host("auth", arguments="timeout=5")
    finally:
        stop.set()
    assert ran.code == UNAVAILABLE
    assert ran.took >= 4.9


def test_flood_of_frames_ends(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        for _ in range(1000):
            peer.send_late(wire.encode(Type.ALIVE))
        peer.send_late(_result(peer))

    lab.serve(serve)
    assert lab.host("auth").code == UNAVAILABLE


def test_fail_delay_is_asked_of_pam(lab: Lab) -> None:
    """libpam waits after the failure; the module itself does not."""

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.result(Outcome.DENIED, delay_ms=1500)

    lab.serve(serve)
    ran = lab.host("auth")
    assert ran.code == AUTH_ERR
    assert ran.took >= 0.7  # libpam varies the delay by up to a half


def test_fail_delay_is_capped(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode(Type.RESULT, struct.pack(">BI16s", Outcome.DENIED, 0xFFFFFFFF, peer.hello.nonce)))

    lab.serve(serve)
    ran = lab.host("auth")
    assert ran.code == AUTH_ERR
    assert 4 <= ran.took <= 30  # 10 s, and libpam's variation


def test_control(lab: Lab) -> None:
    lab.serve(grant)
    assert lab.host("auth").code == SUCCESS
