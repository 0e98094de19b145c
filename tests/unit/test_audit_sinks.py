"""The three ways an audit record goes out: journald, syslog, standard error; absent, full, broken and restarted."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pam_mfa import audit
from pam_mfa.audit import Log, Record, render
from pam_mfa.outcome import Outcome
from pam_mfa.structure import replace
from pam_mfa.trail import Trail

DEADLINE = 20.0
RECORD = Record(
    event="login",
    outcome=Outcome.DENIED,
    reason="wrong_code",
    role="service",
    service="sshd",
    user="alice",
    uid=1000,
    session="0123abcd",
    duration_ms=412,
)


def record(user: str = "alice") -> Record:
    return replace(RECORD, user=user)


class Reader:
    """A log daemon's end of a datagram socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE)
        self.socket.bind(str(path))

    def read(self) -> bytes:
        return self.socket.recv(65536)

    def nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]

    def drain(self) -> int:
        count = 0
        while not self.nothing():
            self.read()
            count += 1
        return count

    def stop(self) -> None:
        self.socket.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Callable[[str], Reader]]:
    made: list[Reader] = []

    def make(name: str) -> Reader:
        made.append(Reader(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def stderr(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "stderr", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    yield fd
    os.close(fd)


def log(tmp_path: Path, stderr: int, patience: float = 0.0) -> Log:
    return audit.system_log(str(tmp_path / "journal"), str(tmp_path / "syslog"), stderr, patience)


def test_journald_comes_first(tmp_path: Path, reader: Callable[[str], Reader], stderr: int) -> None:
    journal, syslog = reader("journal"), reader("syslog")
    out = log(tmp_path, stderr)
    assert out.write(record()) is True
    lines = journal.read().decode("ascii").splitlines()
    assert dict(line.split("=", 1) for line in lines) == render(record())
    assert syslog.nothing()
    assert (tmp_path / "stderr").read_text() == ""
    out.close()


def test_syslog_where_there_is_no_journald(tmp_path: Path, reader: Callable[[str], Reader], stderr: int) -> None:
    syslog = reader("syslog")
    out = log(tmp_path, stderr)
    assert out.write(record()) is True
    line = syslog.read().decode("ascii")
    message = re.escape(render(record())["MESSAGE"])
    months = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
    assert re.fullmatch(rf"<85>(?:{months}) [ 1-3]\d \d\d:\d\d:\d\d pam-mfa\[{os.getpid()}\]: {message}", line)
    assert out.alert("bad config") is True
    assert syslog.read().startswith(b"<81>")
    assert (tmp_path / "stderr").read_text() == ""
    out.close()


def test_standard_error_where_there_is_neither(tmp_path: Path, stderr: int) -> None:
    out = log(tmp_path, stderr)
    assert out.write(record()) is True
    assert (tmp_path / "stderr").read_text() == f"pam-mfa: {render(record())['MESSAGE']}\n"


def test_a_stream_that_does_not_take_it() -> None:
    fields = render(record())
    null = os.open(os.devnull, os.O_WRONLY)
    read_end, write_end = os.pipe()
    assert audit.Stream(write_end).write(fields) is True
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, bytes(4096))
    os.set_blocking(write_end, True)
    assert audit.Stream(write_end).write(fields) is False, "a full pipe"
    os.close(read_end)
    assert audit.Stream(write_end).write(fields) is False, "a broken pipe"
    os.close(write_end)
    assert audit.Stream(write_end).write(fields) is False, "a closed one"
    assert audit.Stream(null).write(fields) is False, "the null device keeps nothing"
    os.close(null)


def fill(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        other.connect(str(path))
        with suppress(BlockingIOError):
            while True:
                other.send(b"x")


def test_a_full_socket_is_not_waited_for_and_works_again(
    tmp_path: Path, reader: Callable[[str], Reader], stderr: int
) -> None:
    journal = reader("journal")
    sink = audit.Datagram(str(journal.path), audit.journal_form)
    fill(journal.path)
    assert sink.write(render(record())) is False
    journal.drain()
    assert sink.write(render(record())) is True
    assert journal.read().startswith(b"MESSAGE=login DENIED")
    sink.close()


def test_a_full_socket_is_waited_for_with_patience(reader: Callable[[str], Reader]) -> None:
    journal = reader("journal")
    sink = audit.Datagram(str(journal.path), audit.journal_form, DEADLINE)
    fill(journal.path)
    late = threading.Thread(target=journal.drain)
    result: list[bool] = []
    writer = threading.Thread(target=lambda: result.append(sink.write(render(record()))))
    writer.start()
    late.start()
    writer.join(DEADLINE)
    late.join(DEADLINE)
    assert result == [True]
    sink.close()


def test_patience_is_spent_once(reader: Callable[[str], Reader]) -> None:
    journal = reader("journal")
    sink = audit.Datagram(str(journal.path), audit.journal_form, 0.01)
    fill(journal.path)
    assert sink.write(render(record())) is False
    sink._patience = 3600.0  # would hang here if it were still waited for
    assert sink.write(render(record())) is False
    sink._patience = 0.01
    journal.drain()
    assert sink.write(render(record())) is True
    assert sink._full is False
    sink.close()


@pytest.mark.parametrize("gap", [True, False])
def test_a_restarted_journald_is_found_again(
    tmp_path: Path, reader: Callable[[str], Reader], stderr: int, gap: bool
) -> None:
    first = reader("journal")
    out = log(tmp_path, stderr)
    assert out.write(record())
    assert first.read()
    first.stop()
    if gap:
        assert out.write(record(user="between"))
        assert 'user="between"' in (tmp_path / "stderr").read_text()
    second = reader("journal")
    assert out.write(record(user="after"))
    assert b"PAM_MFA_USER=after\n" in second.read()
    out.close()


def test_a_socket_of_another_kind_is_no_log(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "syslog"))
        server.listen()
        assert audit.Datagram(str(tmp_path / "syslog"), audit.syslog_form).write(render(record())) is False


def test_not_written_where_nothing_takes_it(tmp_path: Path) -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    out = log(tmp_path, fd)
    assert out.write(record()) is False
    assert out.alert("bad config") is False
    os.close(fd)


def test_no_file_descriptor_is_left(tmp_path: Path, reader: Callable[[str], Reader]) -> None:
    journal = reader("journal")
    before = len(os.listdir("/proc/self/fd"))
    out = log(tmp_path, -1)
    assert out.write(record())
    journal.stop()
    assert not out.write(record())
    assert len(os.listdir("/proc/self/fd")) <= before
    out.close()


def test_putting_does_not_wait_for_the_log(tmp_path: Path, reader: Callable[[str], Reader]) -> None:
    journal = reader("journal")
    fill(journal.path)
    sink = audit.Datagram(str(journal.path), audit.journal_form, patience=3600.0)
    trail = Trail(Log([sink]))
    assert all(trail.put(record(user=f"u{n}")) for n in range(900))  # would hang here
    lines: list[bytes] = []
    until = time.monotonic() + DEADLINE
    while len(lines) < 900 and time.monotonic() < until:
        data = journal.read()
        if data != b"x":
            lines.append(data)
    assert [f"PAM_MFA_USER=u{n}\n".encode() in line for n, line in enumerate(lines)] == [True] * 900
    assert trail.stop(DEADLINE) is True
    assert trail.lost == 0
