"""What tests of stores share: a store in a directory of its own, people in it, and moments."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pam_mfa.errors import StoreError
from pam_mfa.store import sqlite
from pam_mfa.store.base import Attempt, Enrol, FindAccount, Operation, Query, Store
from pam_mfa.store.rows import Credential
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_file import SCHEMA
from pam_mfa.store.sqlite_setup import create
from pam_mfa.store.writer import Writer
from pam_mfa.throttle import Instant

TESTS = Path(__file__).resolve().parent
KEY = bytes(range(32))
SEALER = Sealer(KEY)
BOOT = "3f1c9d0e-0000-4000-8000-000000000001"
ALICE = 1000
DEADLINE = 60.0  # seconds; for whatever should have happened long before


def at(wall: int = 1_700_000_000, boot: int = 5_000, boot_id: str = BOOT) -> Instant:
    """A moment."""
    return Instant(wall, boot, boot_id)


def later(seconds: int) -> Instant:
    """That long after `at()`, on both clocks."""
    return at(1_700_000_000 + seconds, 5_000 + seconds)


def credential(name: str, uid: int = ALICE, user: str = "alice", factor: str = "totp", **more: Any) -> Credential:
    """A credential whose id and material can be told from its name."""
    id_ = name.encode().hex().ljust(32, "0")
    material = more.pop("material", b"secret of " + name.encode())
    return Credential(id_, uid, user, factor, more.pop("label", name), material, created=more.pop("created", 7), **more)


def make(directory: Path) -> str:
    """An empty store in a new directory that is ours alone; its path."""
    directory.mkdir(mode=0o700)
    path = str(directory / "store.db")
    create(path, SEALER)
    return path


# What takes a store back to the schema before this number.
BACK = {
    7: ["ALTER TABLE tally DROP COLUMN familiar"],
    6: ["DROP TRIGGER lease_ends", "DROP TABLE lease"],
    5: ["DROP TABLE notice", "DROP TABLE heard"],
    4: ["DROP TABLE grace"],
    3: ["DROP INDEX credential_by_id"],
    2: ["ALTER TABLE credential DROP COLUMN suspect"],
}


def take_back(path: str, version: int) -> None:
    """Make a store one of an older schema."""
    for number in range(SCHEMA, version, -1):
        raw(path, *BACK[number], f"PRAGMA user_version = {number - 1}")


def discard(store: SqliteStore) -> None:
    """Close a store, which the program never does; on the thread that used it."""
    if store._db is not None:
        sqlite._open.remove(store._db)
        store._db.close()
        store._db = None
    if store._file is not None:
        os.close(store._file)
        store._file = None


def do(store: Store, *operations: Operation) -> tuple[Any, ...]:
    """One transaction; its results, or the exception that undid it."""
    (results,) = store.apply([operations])
    if isinstance(results, Exception):
        raise results
    return results


def enrol(store: Store, *credentials: Credential) -> None:
    """Enrol credentials of one account."""
    assert do(store, Enrol(credentials)) == (None,)


class ThroughWriter:
    """A store whose changes take the service's way: every tuple is submitted to a Writer on its own."""

    def __init__(self, path: str) -> None:
        self._reader = SqliteStore(path, SEALER)
        self._written = SqliteStore(path, SEALER)
        self._writer = Writer(self._written)

    def read(self, query: Query) -> Any:
        return self._reader.read(query)

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        waiting = []
        for operations in batch:
            answer: SimpleQueue[tuple[Any, ...] | Exception] = SimpleQueue()
            self._writer.submit(operations, answer.put)
            waiting.append(answer)
        return [answer.get(timeout=DEADLINE) for answer in waiting]

    def prepare(self, factors: Sequence[str] = ()) -> None:
        self._reader.prepare(factors)

    def close(self) -> None:
        done: SimpleQueue[None] = SimpleQueue()

        def close_there(results: object) -> None:
            discard(self._written)
            done.put(None)

        self._writer.submit((), close_there)
        done.get(timeout=DEADLINE)
        assert self._writer.stop(DEADLINE)
        discard(self._reader)


def raw(path: str, *statements: str) -> None:
    """Change the file behind the program's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def refuses(store: SqliteStore, kind: type[StoreError]) -> str:
    """Neither read nor changed, and nothing was made at its path. Returns what the log would say."""
    there = os.path.lexists(store._path)
    for use in (lambda: store.read(FindAccount(ALICE, "alice")), lambda: do(store, Attempt(ALICE, "totp", None, at()))):
        try:
            use()
        except StoreError as error:
            said, as_it_should = str(error), type(error) is kind
        else:
            said, as_it_should = "it was not refused", False
        assert as_it_should, said
    assert os.path.lexists(store._path) == there
    return said


def program(name: str, *arguments: str) -> list[str]:
    """The command line of one of the tests' own programs (tests/NAME)."""
    return [sys.executable, "-B", str(TESTS / name), *arguments]


def start(command: Sequence[str], pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
    """Start a program that can import what this one can, and talk to it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, pass_fds=pass_fds)
