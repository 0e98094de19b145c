"""A SQLite store whose process is killed, or whose disk fails, at every single write (S01, F08, F09)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_actions import ACTIONS, BOBS, CHECKPOINT, people, state
from stores import DEADLINE, SEALER, at, credential, discard, do, enrol, make, program, start

from pam_mfa.errors import StoreMissing
from pam_mfa.store.base import Advance, Attempt, ListAccounts, Tried
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import create

WRITES = ("pwrite64", "fdatasync", "fsync", "ftruncate", "fchmod", "link", "linkat", "unlink", "unlinkat", "rename")
LOCKS = ("fcntl",)
KILLED = -9
ANY = [*ACTIONS, CHECKPOINT]

pytestmark = pytest.mark.skipif(not shutil.which("strace") or os.geteuid() != 0, reason="needs strace and root")


class Actors:
    """Processes that have imported everything and opened nothing, one for each action."""

    def __init__(self) -> None:
        self._server = start(program("store_actions.py"))

    def run(self, path: str, action: str, *options: str) -> Run:
        """Let a new one act under strace, from its first system call on.

        Args:
            options: of strace.
        """
        log = Path(path).parent.with_suffix(".trace")
        pid = self._say(f"{path}\t{action}")
        command = ["strace", "-o", str(log), *(options or _traced(WRITES)), "-p", pid]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            status, *words = self._say("go").split()
        return Run(
            int(status), words, Counter(re.findall(r"^(\w+)\(", log.read_text("utf-8", "replace"), re.MULTILINE))
        )

    def _say(self, line: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()

    def close(self) -> None:
        self._server.communicate(timeout=DEADLINE)


@dataclass(frozen=True)
class Run:
    """How a process ended, what it said before, and how often it made each system call that was traced."""

    status: int
    words: list[str]
    calls: Counter[str]


@pytest.fixture(scope="module")
def actors() -> Iterator[Actors]:
    actors = Actors()
    yield actors
    actors.close()


class Disk:
    """A filled store of which every run gets a copy, and what it looks like before and after an action."""

    def __init__(self, directory: Path, action: str, actors: Actors) -> None:
        self._actors = actors
        self._directory = directory
        self._runs = 0
        self._action = action
        self._filled = directory / "filled"
        people(make(self._filled))
        self.old = self.look(self.copy())
        done = self.copy()
        assert self.trace(done).words == ["done"]
        self.new = self.look(done)

    def copy(self) -> str:
        self._runs += 1
        copy = self._directory / f"run{self._runs}"
        shutil.copytree(self._filled, copy)
        return str(copy / "store.db")

    def trace(self, path: str, *options: str) -> Run:
        return self._actors.run(path, self._action, *options)

    def moments(self, calls: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        return moments(self._actors, self.copy(), self._action, calls)

    @staticmethod
    def look(path: str) -> object:
        store = SqliteStore(path, SEALER)
        seen = state(store)
        discard(store)
        return seen


def _traced(calls: tuple[str, ...]) -> tuple[str, str]:
    return "-e", "trace=" + ",".join(f"?{call}" for call in calls)


def moments(actors: Actors, path: str, action: str, calls: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Every one of those system calls that the action makes: (call, which one)."""
    clean = actors.run(path, action, *_traced(calls))
    assert clean.words == ["done"]
    assert clean.calls
    for call, times in clean.calls.items():
        for nth in range(1, times + 1):
            yield call, nth


def inject(call: str, what: str, when: str) -> tuple[str, ...]:
    return "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={when}"


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest, actors: Actors) -> Disk:
    disk = Disk(tmp_path, request.param, actors)
    assert disk.old != disk.new
    return disk


def nobody_is_blocked(path: str) -> None:
    """The next login and the next enrolment succeed at once, and what was used stays used."""
    store = SqliteStore(path, SEALER, patience=0)
    bobs = [bob for bob in store.read(ListAccounts()) if bob == (1001, "bob")]
    if bobs:
        attempt = Attempt(1001, "totp", Advance(BOBS.id, 77), at())
        assert do(store, attempt, attempt) == (Tried.ACCEPTED, Tried.REPLAYED)
    enrol(store, credential("daves", uid=1003, user="dave"))
    assert store._db is not None
    assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    discard(store)


def dies_whole(disk: Disk, calls: tuple[str, ...]) -> None:
    for call, nth in disk.moments(calls):
        path = disk.copy()
        died = disk.trace(path, *inject(call, "signal=SIGKILL", str(nth)))
        assert died.status == KILLED, (call, nth)
        assert disk.look(path) in ((disk.new,) if died.words else (disk.old, disk.new)), (call, nth)
        nobody_is_blocked(path)


@pytest.mark.parametrize("disk", ANY, indirect=True)
def test_killed_at_any_write_the_store_is_old_or_new(disk: Disk) -> None:
    dies_whole(disk, WRITES)


@pytest.mark.parametrize("disk", ["accepted"], indirect=True)
def test_killed_at_any_lock_the_store_is_old_or_new(disk: Disk) -> None:
    dies_whole(disk, LOCKS)


@pytest.mark.parametrize(("error", "calls"), [("ENOSPC", ("pwrite64",)), ("EIO", ("pwrite64", "fdatasync"))])
@pytest.mark.parametrize("disk", ANY, indirect=True)
def test_one_failing_write_is_refused_and_then_tried_again(disk: Disk, error: str, calls: tuple[str, ...]) -> None:
    """F09: the connection is dropped; what was refused was not done, or it could not be done again."""
    endings = set()
    for call, nth in disk.moments(calls):
        path = disk.copy()
        ended = disk.trace(path, *inject(call, f"error={error}", str(nth)))
        assert ended.status == 0, (call, nth)
        assert ended.words in (["done"], ["refused", "done"]), (call, nth)
        assert disk.look(path) == disk.new, (call, nth)
        nobody_is_blocked(path)
        endings.update(ended.words)
    assert "refused" in endings


@pytest.mark.parametrize(("error", "calls"), [("ENOSPC", ("pwrite64",)), ("EIO", ("pwrite64", "fdatasync"))])
@pytest.mark.parametrize("disk", ANY, indirect=True)
def test_what_cannot_be_written_is_never_acknowledged(disk: Disk, error: str, calls: tuple[str, ...]) -> None:
    """From some call on, all of them fail."""
    refused: set[str] = set()
    for call, nth in disk.moments(calls):
        path = disk.copy()
        ended = disk.trace(path, *inject(call, f"error={error}", f"{nth}+"))
        assert ended.status == 0, (call, nth)
        assert ended.words in (["done"], ["refused", "refused"]), (call, nth)
        assert disk.look(path) in ((disk.new,) if "done" in ended.words else (disk.old, disk.new)), (call, nth)
        nobody_is_blocked(path)
        refused.update({call} if "refused" in ended.words else ())
    assert refused == set(calls)  # each kind of call counts: also what is written but not synced is refused


def test_killed_while_it_is_made_a_store_is_whole_or_missing(tmp_path: Path, actors: Actors) -> None:
    def directory(name: str) -> str:
        (tmp_path / name).mkdir(mode=0o700)
        return str(tmp_path / name / "store.db")

    for call, nth in moments(actors, directory("clean"), "created", WRITES):
        path = directory(f"{call}{nth}")
        assert actors.run(path, "created", *inject(call, "signal=SIGKILL", str(nth))).status == KILLED
        _whole_or_missing(path, (call, nth))


def _whole_or_missing(path: str, moment: tuple[str, int]) -> None:
    store = SqliteStore(path, SEALER)
    try:
        assert store.read(ListAccounts()) == (), moment
    except StoreMissing:
        create(path, SEALER)
        assert store.read(ListAccounts()) == (), moment
    enrol(store, BOBS)
    discard(store)


def test_killed_while_the_log_is_grown_nothing_is_lost(tmp_path: Path, actors: Actors) -> None:
    people(make(tmp_path / "filled"))
    store = SqliteStore(str(tmp_path / "filled/store.db"), SEALER)
    before = state(store)
    discard(store)  # the last one: the log is gone, and all of it has to be grown again

    def copy(name: str) -> str:
        shutil.copytree(tmp_path / "filled", tmp_path / name)
        return str(tmp_path / name / "store.db")

    for call, nth in moments(actors, copy("clean"), "prepared", WRITES):
        if call == "pwrite64" and nth % 4:
            continue  # the zeros come in many equal pieces
        path = copy(f"{call}{nth}")
        assert actors.run(path, "prepared", *inject(call, "signal=SIGKILL", str(nth))).status == KILLED
        assert Disk.look(path) == before
        nobody_is_blocked(path)
