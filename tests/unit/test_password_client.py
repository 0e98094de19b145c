"""The service's side of the password helper: what is sent, whom it believes, what is an answer and what is none."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pam_mfa import wire
from pam_mfa.conversation import Checked, CheckPassword
from pam_mfa.errors import LookupFailed
from pam_mfa.outcome import Outcome
from pam_mfa.service import password
from pam_mfa.service.password import PROVEN, check

NOT_PROVEN = 0x69
DEADLINE = 20.0
Answer = Callable[[bytes], bytes | None]


class Helper:
    """A helper that answers each request with what `answer` makes of it; None: it hangs up."""

    def __init__(self, path: Path, answer: Answer, uid: int = 0) -> None:
        self.path, self.requests, self._answer = str(path), list[bytes](), answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        os.seteuid(uid)
        try:
            self._listener.listen()
        finally:
            os.seteuid(0)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                with link:
                    self.requests.append(link.recv(wire.RECEIVE_SIZE))
                    answer = self._answer(self.requests[-1])
                    if answer is not None:
                        link.send(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._listener.close()


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Callable[..., Helper]]:
    started: list[Helper] = []

    def start(answer: Answer, **more: int) -> Helper:
        started.append(Helper(tmp_path / "password.sock", answer, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


def result(code: int, nonce: bytes, kind: int = wire.Type.RESULT, more: bytes = b"") -> bytes:
    payload = struct.pack(">BI", code, 0) + nonce + more
    return struct.pack(">BBH", 1, kind, len(payload)) + payload


def nonce_of(request: bytes) -> bytes:
    return request[7:23]


def ask(helper: Helper, secret: str = "correct horse", user: str = "alice") -> Checked:
    return check(CheckPassword(user, secret), helper.path)


def test_the_request_holds_a_fresh_nonce_the_user_and_the_password(helper: Callable[..., Helper]) -> None:
    one = helper(lambda request: result(PROVEN, nonce_of(request)))
    assert ask(one) == ask(one) == Checked(True)
    first, second = one.requests
    assert first[:7] == bytes([1, 7, 0, len(first) - 4, 1, 0, 16])
    assert first[23:] == b"\x02\x00\x05alice" + b"\x03\x00\x0dcorrect horse"
    assert nonce_of(first) != nonce_of(second)


def test_a_password_of_any_bytes_is_passed_on(helper: Callable[..., Helper]) -> None:
    one = helper(lambda request: result(PROVEN, nonce_of(request)))
    ask(one, b"caf\xe9".decode(errors="surrogateescape"))
    ask(one, "пароль")
    ask(one, "x" * 512)
    assert one.requests[0].endswith(b"\x03\x00\x04caf\xe9")
    assert one.requests[1].endswith("пароль".encode())
    assert one.requests[2].endswith(b"x" * 512)


@pytest.mark.parametrize("secret", ["", "x" * 513, "a\0b", "\0", "й" * 257])
def test_what_can_be_no_password_is_wrong_and_not_even_asked(helper: Callable[..., Helper], secret: str) -> None:
    one = helper(lambda request: result(PROVEN, nonce_of(request)))
    assert ask(one, secret) == Checked(False)
    assert one.requests == []


@pytest.mark.parametrize("code", [NOT_PROVEN, 0, 1, 0xFF, PROVEN ^ 1, *Outcome])
def test_only_one_word_is_proven(helper: Callable[..., Helper], code: int) -> None:
    """Above all none of a login's."""
    one = helper(lambda request: result(code, nonce_of(request)))
    assert ask(one) == Checked(False)


NONSENSE: dict[str, Answer] = {
    "hangs up": lambda request: None,
    "nothing": lambda request: b"",
    "echo": lambda request: request,
    "another nonce": lambda request: result(PROVEN, bytes(16)),
    "no nonce": lambda request: result(PROVEN, b""),
    "too long": lambda request: result(PROVEN, nonce_of(request), more=b"x"),
    "another type": lambda request: result(PROVEN, nonce_of(request), kind=wire.Type.ALIVE),
    "no frame": lambda request: b"\x96" * 25,
    "huge": lambda request: result(PROVEN, nonce_of(request), more=bytes(8000)),
    "text": lambda request: b"PROVEN",
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_helper_that_talks_nonsense_proves_nothing(helper: Callable[..., Helper], case: str) -> None:
    with pytest.raises(LookupFailed) as failed:
        ask(helper(NONSENSE[case]))
    assert "correct horse" not in str(failed.value)


def test_a_helper_that_is_not_roots_is_told_nothing(helper: Callable[..., Helper]) -> None:
    one = helper(lambda request: result(PROVEN, nonce_of(request)), uid=12345)
    with pytest.raises(LookupFailed):
        ask(one)
    assert one.requests in ([], [b""])


def test_no_helper_is_no_answer(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(LookupFailed):
            check(CheckPassword("alice", "x"), str(path))


def test_a_helper_that_hangs_is_waited_for_no_longer_than_agreed(
    helper: Callable[..., Helper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password, "SECONDS", 0.05)
    free = threading.Event()

    def hangs(request: bytes) -> None:
        free.wait(DEADLINE)

    one = helper(hangs)
    with pytest.raises(LookupFailed):
        ask(one)
    free.set()
