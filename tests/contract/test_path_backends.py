"""Service and engine have paths checked: by pam-mfa-verify, by the engine's own checker, and by nobody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ca
import path_checker
import pytest
from ca import Authority
from doors import DEADLINE, LoopDoor, opened
from stores import SEALER, discard, make

from pam_mfa.conversation import CheckPath, PathChecked
from pam_mfa.service import paths
from pam_mfa.service.devices import Devices, absent
from pam_mfa.service.direct import DirectBackend
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.verify import client, service
from pam_mfa.verify.authorities import Directory
from pam_mfa.verify.base import Check, Checked, Revocation, Trust

ROOT = Authority.root()
ALICE = ROOT.leaf()
WANT = CheckPath(Check(ca.der(ALICE.certificate), Revocation.SOFT, (ca.LOGON,)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return ca.lay(tmp_path / "ca", {"root.pem": ca.pem(ROOT.certificate)})


@pytest.fixture
def path(tmp_path: Path) -> str:
    return make(tmp_path / "state")


@pytest.fixture
def loop(path: str) -> Iterator[LoopDoor]:
    with opened("loop", path) as door:
        assert isinstance(door, LoopDoor)
        yield door


def asked(loop: LoopDoor) -> SimpleQueue[Any]:
    """Where the service's answer arrives."""
    answers: SimpleQueue[Any] = SimpleQueue()

    def done(answer: Any) -> bool:
        answers.put(answer)
        return True

    loop.on_loop(lambda: loop.backend.check_path(WANT, done))
    return answers


def reason(answer: Any) -> str:
    assert isinstance(answer, PathChecked)
    assert isinstance(answer.checked, Checked)
    assert answer.checked.trust is Trust.UNKNOWN
    return answer.checked.reason


def test_the_service_asks_the_checker(
    loop: LoopDoor, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path_checker.running(directory, tmp_path / "socket") as checker:
        monkeypatch.setattr(paths, "check", partial(paths.check, connected=checker.connect))
        answer = asked(loop).get(timeout=DEADLINE)
        assert (answer.checked.trust, answer.checked.anchor) == (Trust.GOOD, "root.pem")


def test_the_loop_goes_on_while_a_path_is_checked(
    loop: LoopDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(9)
        monkeypatch.setattr(paths, "check", partial(paths.check, connected=lambda: client.connect(tmp_path / "socket")))
        answers = asked(loop)
        connection, _ = listener.accept()  # it has asked, and is not answered
        assert loop.on_loop(lambda: "here") == "here"
        assert answers.empty()
        connection.close()
        assert reason(answers.get(timeout=DEADLINE)) == "path_checker_gone"


def test_a_check_that_never_ends_is_not_waited_for(loop: LoopDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(paths, "SECONDS", 0.05)
    monkeypatch.setattr(paths, "check", lambda want: over.wait(DEADLINE))
    assert isinstance(asked(loop).get(timeout=DEADLINE), Exception)
    over.set()


def test_a_service_without_a_checker(loop: LoopDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "check", partial(paths.check, connected=lambda: client.connect(tmp_path / "nowhere")))
    assert reason(asked(loop).get(timeout=DEADLINE)) == "no_path_checker"


# ----------------------------------------------------------------------------------------------------------- engine


@contextmanager
def own_checker(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """As the engine's C part: takes a connection and has it served."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def take() -> None:
        _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
        for fd in fds:
            with socket.socket(fileno=fd) as connection:
                serve(connection)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    with ours, theirs:
        yield ours.fileno()
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)
        assert not thread.is_alive()


def asked_directly(path: str, checker: int | None) -> Any:
    """The engine's answer."""
    answers: SimpleQueue[Any] = SimpleQueue()

    def done(answer: Any) -> bool:
        answers.put(answer)
        return True

    store = SqliteStore(path, SEALER)
    with socket.socket() as peer:
        backend = DirectBackend(store, lambda: Devices(absent), peer, checker)
        backend.check_path(WANT, done)
    discard(store)
    return answers.get_nowait()


def test_the_engine_asks_its_own(path: str, directory: Path) -> None:
    trusted = Directory(directory).current()
    with own_checker(lambda connection: service.answer(connection, trusted)) as fd:
        answer = asked_directly(path, fd)
    assert (answer.checked.trust, answer.checked.public_key) == (Trust.GOOD, ca.spki(ALICE.certificate))


def test_an_engine_whose_checker_hangs_up(path: str) -> None:
    with own_checker(lambda connection: None) as fd:
        assert reason(asked_directly(path, fd)) == "path_checker_gone"


def test_an_engine_whose_checker_is_gone(path: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours:
        assert reason(asked_directly(path, ours.fileno())) == "no_path_checker"
    assert reason(asked_directly(path, None)) == "no_path_checker"
