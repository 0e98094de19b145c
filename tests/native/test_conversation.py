"""The conversation with the user through the relay: what is shown, what is answered, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim import (
    ABORT,
    AUTH_ERR,
    CONV_ERR,
    ECHO_OFF,
    ECHO_ON,
    ERROR_MSG,
    SUCCESS,
    TEXT_INFO,
    UNAVAILABLE,
    Lab,
    Peer,
    finish,
)

from pam_mfa import wire
from pam_mfa.outcome import Outcome
from pam_mfa.wire import Type


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def _result(peer: Peer) -> bytes:
    return wire.encode_result(Outcome.GRANTED, 0, peer.hello.nonce)


def test_conversation_is_relayed_as_it_is(lab: Lab) -> None:
    long = "Approve at https://login.example.org/" + "x" * 3000

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode_text(Type.ASK, long))
        assert peer.frame() == (Type.REPLY, b"y\xc3\xa9s")
        peer.send(wire.encode_tell("Touch", skippable=True))
        peer.send(wire.encode_tell(""))
        peer.send(wire.encode_text(Type.WARN, "No\nkey"))
        peer.send(wire.encode(Type.ALIVE))
        assert peer.ask("") == b""
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    ran = lab.host("answer=text:yés", "answer=text:", "auth=0x8000")  # PAM_SILENT: cues are shown all the same
    assert ran.code == SUCCESS
    assert ran.shown == [(ECHO_ON, long), (TEXT_INFO, "Touch"), (TEXT_INFO, ""), (ERROR_MSG, "No\nkey"), (ECHO_OFF, "")]


def _expect_abort(peer: Peer) -> None:
    peer.greet()
    peer.send(wire.encode_text(Type.ASK_SECRET, "Code: "))
    assert peer.frame() == (Type.ABORT, b"")
    peer.send_late(_result(peer))


@pytest.mark.parametrize("answer", ["error", "noresp", "null", "big:513", "big:1048576"])
def test_failed_conversation(lab: Lab, answer: str) -> None:
    lab.serve(_expect_abort)
    ran = lab.host(f"answer={answer}", "auth")
    assert ran.code == CONV_ERR
    assert len(ran.log) == 1


def test_host_without_a_conversation(lab: Lab) -> None:
    lab.serve(_expect_abort)
    assert lab.host("noconv", "auth").code == CONV_ERR


def test_text_that_cannot_be_shown(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode_tell("Touch"))
        assert peer.frame() == (Type.ABORT, b"")

    lab.serve(serve)
    assert lab.host("info=error", "auth").code == CONV_ERR


@pytest.mark.parametrize("answer", ["text:x", "noresp", "null"])
def test_a_texts_response_means_nothing(lab: Lab, answer: str) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode_tell("Touch"))
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    assert lab.host(f"info={answer}", "auth").code == SUCCESS


@pytest.mark.parametrize(
    ("answer", "bytes_"),
    [
        ("big:512", b"x" * 512),
        ("hex:ff00ff", b"\xff"),
        ("hex:01020a7f80feff", b"\x01\x02\n\x7f\x80\xfe\xff"),
        ("text:", b""),
    ],
)
def test_answers_pass_uncut_and_unchanged(lab: Lab, answer: str, bytes_: bytes) -> None:
    seen: list[bytes] = []

    def serve(peer: Peer) -> None:
        peer.greet()
        seen.append(peer.ask())
        peer.result(Outcome.DENIED)

    lab.serve(serve)
    assert lab.host(f"answer={answer}", "auth").code == AUTH_ERR
    assert seen == [bytes_]


TOTALS = [
    ("login", "", 45),
    ("sshd", "", 90),
    ("sudo", "", 180),
    ("login", "timeout=100", 100),
    ("sudo", "timeout=5", 5),
]


@pytest.mark.parametrize(("service", "argument", "seconds"), TOTALS)
def test_answer_after_the_deadline_is_not_sent(lab: Lab, service: str, argument: str, seconds: int) -> None:
    lab.serve(_expect_abort)
    ran = lab.host(f"answer=clock:{seconds}:123456", "auth", service=service, arguments=argument)
    assert ran.code == UNAVAILABLE
    assert "deadline" in ran.log[0]


@pytest.mark.parametrize(("service", "argument", "seconds"), TOTALS)
def test_answer_before_the_deadline_is_sent(lab: Lab, service: str, argument: str, seconds: int) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.ask() == b"123456"
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    answer = f"answer=clock:{seconds - 3}:123456"
    assert lab.host(answer, "auth", service=service, arguments=argument).code == SUCCESS


@pytest.mark.parametrize("number", ["INT", "QUIT", "TERM", "HUP"])
def test_blocked_signal_ends_the_wait(lab: Lab, number: str) -> None:
    """Ctrl-C under sudo: the host blocks it, so the shim has to look."""
    waiting = threading.Event()

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.settle()
        waiting.set()
        assert peer.frame() == (Type.ABORT, b"")

    lab.serve(serve)
    host = lab.start(f"handle={number}", f"block={number}", "auth", "handled")
    assert waiting.wait(20)
    host.send_signal(signal.Signals[f"SIG{number}"])
    ran = finish(host)
    assert ran.code == ABORT
    assert ran.of("handled") == ["0"], "the signal is left for the host, and its mask as it was"


def test_signal_that_waits_already(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.take_hello()
        assert peer.frame() == (Type.ABORT, b"")

    lab.serve(serve)
    assert lab.host("handle=INT", "block=INT", "raise=INT", "auth").code == ABORT


def test_unblocked_signal_reaches_the_hosts_handler_after_abort(lab: Lab) -> None:
    waiting = threading.Event()

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.settle()
        waiting.set()
        assert peer.frame() == (Type.ABORT, b"")

    lab.serve(serve)
    host = lab.start("handle=INT", "auth", "handled")
    assert waiting.wait(20)
    host.send_signal(signal.SIGINT)
    ran = finish(host)
    assert ran.code == ABORT
    assert ran.of("handled") == [str(int(signal.SIGINT))]


def test_signal_that_kills_the_host_aborts_first(lab: Lab) -> None:
    waiting = threading.Event()

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.settle()
        waiting.set()
        assert peer.frame() == (Type.ABORT, b"")

    lab.serve(serve)
    host = lab.start("auth")
    assert waiting.wait(20)
    host.send_signal(signal.SIGTERM)
    assert finish(host).returncode == -signal.SIGTERM


def test_signal_that_the_host_ignores_does_not_count(lab: Lab) -> None:
    """nohup: a hang-up that the host does not care about is none of ours."""
    waiting, sent = threading.Event(), threading.Event()

    def serve(peer: Peer) -> None:
        peer.greet()
        peer.settle()
        waiting.set()
        assert sent.wait(20)
        peer.send(wire.encode(Type.ALIVE))  # makes the shim look once more
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    host = lab.start("ignore=HUP", "auth")
    assert waiting.wait(20)
    host.send_signal(signal.SIGHUP)
    sent.set()
    assert finish(host).code == SUCCESS


def test_mask_is_the_hosts_own_at_each_prompt(lab: Lab) -> None:
    """A signal raised within the conversation arrives there, and does not wait for the module."""

    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.ask() == b"123456"
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    ran = lab.host("handle=INT", "answer=raise:INT:123456", "auth", "handled")
    assert ran.code == SUCCESS
    assert ran.of("handled") == ["2"]


def test_storm_of_signals(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        for _ in range(3):
            assert peer.ask() == b"123456"
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    assert lab.host("storm=1", *["answer=late:100:123456"] * 3, "auth").code == SUCCESS
