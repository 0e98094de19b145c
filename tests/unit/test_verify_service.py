"""The path checker as a process: who may ask, what it answers, and what becomes of those whose work does not end."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import ca
import path_checker
import pytest
from ca import Authority
from cryptography.hazmat.primitives.asymmetric import rsa

from pam_mfa.errors import ProtocolError
from pam_mfa.verify import client, paths, service
from pam_mfa.verify.authorities import Authorities, Directory
from pam_mfa.verify.base import MAX_CERTIFICATE, MAX_CHAIN, Check, Checked, Kind, Name, Revocation, Trust
from pam_mfa.verify.codec import CODEC

NOBODY = 65534
ROOT = Authority.root()
ISSUING = ROOT.authority()
ALICE = ISSUING.leaf(upns=["alice@example.org"])


def wanted(*certificates: bytes, rule: Revocation = Revocation.SOFT) -> Check:
    return Check(certificates or ca.der(ALICE.certificate), rule, (ca.LOGON,))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return ca.lay(tmp_path / "ca", {"root.pem": ca.pem(ROOT.certificate)}, {"i.pem": ca.pem(ISSUING.certificate)})


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def eternal(*_: object) -> Checked:
    while True:
        pass


def broken(*_: object) -> Checked:
    raise RuntimeError("this must not be seen as an answer")


def test_what_it_says_is_what_the_paths_say(directory: Path, tmp_path: Path) -> None:
    with path_checker.running(directory, tmp_path / "socket") as checker:
        answers = [client.ask(wanted(), checker.connect) for _ in range(3)]
        assert answers == [paths.check(wanted(), Directory(directory).current(), datetime.now(UTC))] * 3
        assert answers[0].trust is Trust.GOOD
        assert client.ask(wanted(b"garbage"), checker.connect) == Checked(Trust.BAD, "unreadable")
        strict = client.ask(wanted(rule=Revocation.STRICT), checker.connect)
        assert strict == Checked(Trust.UNKNOWN, "crl_missing")


def test_p04_a_list_that_arrives_is_seen_by_the_next_request(directory: Path, tmp_path: Path) -> None:
    with path_checker.running(directory, tmp_path / "socket") as checker:
        assert client.ask(wanted(), checker.connect).trust is Trust.GOOD
        ca.lay(directory, crls={"issuing.crl": ISSUING.crl([ALICE.serial])})
        assert client.ask(wanted(), checker.connect) == Checked(Trust.BAD, "revoked")


def test_many_at_once_are_all_answered(directory: Path, tmp_path: Path) -> None:
    with path_checker.running(directory, tmp_path / "socket", seconds=30) as checker, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: client.ask(wanted(), checker.connect, 30), range(72)))
        assert {answer.trust for answer in answers} == {Trust.GOOD}
        until(lambda: not checker.workers())


def test_work_without_an_end_is_killed_and_others_are_served_meanwhile(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "GRACE", 600)
    with path_checker.running(directory, tmp_path / "socket", seconds=0.3, work=eternal) as checker:
        with checker.connect() as first, checker.connect() as second:
            for connection in (first, second):
                connection.send(CODEC.encode(wanted()))
            until(lambda: len(checker.workers()) == 2)
            for connection in (first, second):
                connection.settimeout(20)
                assert connection.recv(100) == b""
        assert client.ask(wanted(), checker.connect, 20) == Checked(Trust.UNKNOWN, "path_checker_gone")
        until(lambda: not checker.workers())


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_work_without_an_end_ends_also_where_nobody_is_left_to_kill_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "GRACE", 0.1)
    with (
        path_checker.running(directory, tmp_path / "socket", seconds=0.5, work=eternal) as checker,
        checker.connect() as connection,
    ):
        connection.send(CODEC.encode(wanted()))
        until(lambda: len(checker.workers()) == 1)
        (worker,) = checker.workers()
        os.kill(checker.pid, signal.SIGKILL)
        os.waitpid(checker.pid, 0)
        until(lambda: gone(worker))


def test_a_worker_that_fails_is_no_answer(directory: Path, tmp_path: Path) -> None:
    with path_checker.running(directory, tmp_path / "socket", work=broken) as checker:
        assert client.ask(wanted(), checker.connect) == Checked(Trust.UNKNOWN, "path_checker_gone")


def test_who_says_nothing_or_nonsense_gets_nothing(directory: Path, tmp_path: Path) -> None:
    with path_checker.running(directory, tmp_path / "socket", seconds=0.3) as checker:
        for packet in (b"\x01", b"\x00" * 100, CODEC.encode(Checked(Trust.GOOD, "")), None):
            with checker.connect() as connection:
                if packet:
                    connection.send(packet)
                connection.settimeout(20)
                assert connection.recv(100) == b""
        until(lambda: not checker.workers())


def as_nobody(path: Path) -> str:
    """The verdict that somebody else hears."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, client.ask(wanted(), lambda: client.connect(path)).trust.name.encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading) as heard:
        return heard.read()


def test_only_root_and_the_service_may_ask(directory: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        open_to_all = Path(name)
        open_to_all.chmod(0o755)
        with path_checker.running(directory, open_to_all / "first") as checker:
            assert as_nobody(checker.path) == "UNKNOWN"
            assert client.ask(wanted(), checker.connect).trust is Trust.GOOD
        with path_checker.running(directory, open_to_all / "second", uids=(0, NOBODY)) as checker:
            assert as_nobody(checker.path) == "GOOD"
    assert 0 in service.peers()


def test_a_worker_has_nothing_but_its_connection(directory: Path, tmp_path: Path) -> None:
    with (
        open(os.dup2(0, 300, inheritable=False)),
        path_checker.running(directory, tmp_path / "socket", seconds=20, work=eternal) as checker,
        checker.connect() as connection,
    ):
        connection.send(CODEC.encode(wanted()))
        until(lambda: len(checker.workers()) == 1)
        (worker,) = checker.workers()
        until(lambda: sum(int(fd) > 2 for fd in os.listdir(f"/proc/{worker}/fd")) == 1)
        assert resource.prlimit(worker, resource.RLIMIT_CORE) == (0, 0)


def test_the_engines_own_serves_one(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(service, "Directory", lambda: Directory(directory))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(CODEC.encode(wanted()))
        assert service.serve_one(theirs) == 0
        assert CODEC.decode(ours.recv(65536)).trust is Trust.GOOD


def test_the_engines_own_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(service, "Directory", lambda: Directory(directory))
    monkeypatch.setattr(service, "SECONDS", 0.05)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        silent = threading.Thread(target=service.serve_one, args=[theirs], daemon=True)
        silent.start()
        silent.join(20)
        assert not silent.is_alive()


def test_a_verdict_is_no_request() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            ours.send(CODEC.encode(Checked(Trust.GOOD, "")))
            service.answer(theirs, Authorities())
        assert ours.recv(100) == b""


# ----------------------------------------------------------------------------------------------------- hostile chains


def giant(bits: int) -> rsa.RSAPublicKey:
    """A key that is as slow as they come. Nobody has its private half."""
    chance = random.Random(bits)
    return rsa.RSAPublicNumbers(
        chance.getrandbits(63) | 1 << 63 | 1, chance.getrandbits(bits) | 1 << bits - 1 | 1
    ).public_key()


class Halved:
    """A private key that belongs to another public one."""

    def __init__(self, public: rsa.RSAPublicKey) -> None:
        self.public = public

    def public_key(self) -> rsa.RSAPublicKey:
        return self.public


def loop() -> list[Authority]:
    """Authorities that have issued each other, and themselves, under one name."""
    key = ca.new_key()
    return [Authority.root("Loop", key) for _ in range(MAX_CHAIN - 1)]


def circle() -> list[Authority]:
    """Authorities of which the next issued the one before, and the first the last."""
    keys = [ca.new_key() for _ in range(MAX_CHAIN - 1)]
    firsts = [Authority.root(f"Circle {number}", key) for number, key in enumerate(keys)]
    return [firsts[(number + 1) % len(keys)].authority(f"Circle {number}", key) for number, key in enumerate(keys)]


def giants() -> list[Authority]:
    """Authorities of the right name whose keys are giant."""
    return [ROOT.authority("Giant", key=Halved(giant(16384 - number))) for number in range(MAX_CHAIN - 1)]


@pytest.mark.parametrize("make", [loop, circle, giants])
def test_p03_hostile_chains_end_within_the_deadline(
    directory: Path, tmp_path: Path, make: Callable[[], list[Authority]]
) -> None:
    chain = make()
    issuer = Authority(chain[0].certificate, ca.new_key()) if make is giants else chain[0]
    with path_checker.running(directory, tmp_path / "socket") as checker:
        certificates = ca.der(issuer.leaf("mallory").certificate, *(each.certificate for each in chain))
        verdict = client.ask(wanted(*certificates), checker.connect)
        assert verdict.trust is not Trust.GOOD
        assert client.ask(wanted(), checker.connect).trust is Trust.GOOD


def test_p03_noise(directory: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    (der,) = ca.der(ALICE.certificate)
    with path_checker.running(directory, tmp_path / "socket") as checker:
        for _ in range(60):
            noisy = bytearray(der)
            for _ in range(chance.randrange(1, 4)):
                noisy[chance.randrange(len(noisy))] = chance.randrange(256)
            if bytes(noisy) != der:
                verdict = client.ask(wanted(bytes(noisy)), checker.connect)
                assert (verdict.trust, verdict.names) == (Trust.BAD, ())
        full = [chance.randbytes(MAX_CERTIFICATE) for _ in range(MAX_CHAIN)]
        assert client.ask(wanted(*full), checker.connect) == Checked(Trust.BAD, "unreadable")


# ------------------------------------------------------------------------------------------------------------ client


def answering(packet: bytes | None) -> Callable[[], socket.socket]:
    """Connections to a checker that says this, or nothing and stays."""

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept.append(theirs)
        if packet is not None:
            theirs.send(packet)
        return ours

    kept: list[socket.socket] = []
    return connect


@pytest.mark.parametrize(
    "packet", [b"x", CODEC.encode(wanted()), CODEC.encode(Checked(Trust.GOOD, "")) + b"x", b"\x81\0\0\0\x09"]
)
def test_what_is_no_verdict_is_none(packet: bytes) -> None:
    assert client.ask(wanted(), answering(packet)) == Checked(Trust.UNKNOWN, "path_checker_nonsense")


def test_whoever_says_nothing_is_not_waited_for() -> None:
    assert client.ask(wanted(), answering(None), 0.05) == Checked(Trust.UNKNOWN, "path_checker_silent")


def test_a_request_that_fits_no_packet() -> None:
    assert client.ask(wanted(*[bytes(65535)] * 3), answering(None)).trust is Trust.UNKNOWN


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(str(path))
    made.listen(0)
    return made


def test_nobody_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "socket"
    assert client.ask(wanted(), lambda: client.connect(nowhere)).reason == "no_path_checker"
    listening(nowhere).close()
    assert client.ask(wanted(), lambda: client.connect(nowhere)).reason == "no_path_checker"


def test_a_socket_that_is_not_roots() -> None:
    os.seteuid(NOBODY)
    try:
        other = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        other.bind(f"\0pam-mfa-test-{os.getpid()}")
        other.listen(1)
    finally:
        os.seteuid(0)
    with other:
        address = f"\0pam-mfa-test-{os.getpid()}"
        assert client.ask(wanted(), lambda: client.connect(address)).reason == "path_checker_untrusted"


def test_a_full_one(tmp_path: Path) -> None:
    with listening(tmp_path / "socket"), client.connect(tmp_path / "socket"):
        assert client.ask(wanted(), lambda: client.connect(tmp_path / "socket")).reason == "path_checker_busy"


def test_every_verdict_travels_whole() -> None:
    verdict = Checked(
        Trust.GOOD, "crl_stale", b"key", "root.pem", (Name(Kind.UPN, b"alice"), Name(Kind.KEY, bytes(32)))
    )
    assert CODEC.decode(CODEC.encode(verdict)) == verdict
    assert CODEC.decode(CODEC.encode(wanted())) == wanted()
    with pytest.raises(ProtocolError):
        CODEC.decode(CODEC.encode(verdict)[:-1])
