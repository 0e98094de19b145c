"""Making, preparing and migrating a SQLite store (L09, S02, S12)."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stores import ALICE, SEALER, at, credential, discard, do, enrol, raw, refuses, take_back

from pam_mfa.errors import StoreCorrupt, StoreError, StoreMissing, StoreSchema, StoreSealed
from pam_mfa.store import sqlite, sqlite_file, sqlite_setup
from pam_mfa.store.base import Advance, Attempt, FindAccount, ListAccounts, Tried
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import create, migrate

Open = Callable[..., SqliteStore]
PHONE = credential("phone")
FIND = FindAccount(ALICE, "alice")


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Sets the umask for one test."""
    before = os.umask(0o077)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_files_are_ours_alone_under_any_umask(
    tmp_path: Path, umask: Callable[[int], int], opened: Open, mask: int
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    path = str(tmp_path / "state/store.db")
    umask(mask)
    create(path, SEALER)
    store = opened(path)
    enrol(store, PHONE)
    assert {name: os.stat(f"{path}{name}").st_mode & 0o7777 for name in ("", "-wal", "-shm")} == dict.fromkeys(
        ("", "-wal", "-shm"), 0o600
    )
    assert sorted(os.listdir(tmp_path / "state")) == ["store.db", "store.db-shm", "store.db-wal"]


def test_a_store_is_made_with_its_log_grown(store_path: str) -> None:
    log = os.stat(f"{store_path}-wal")
    assert log.st_size == sqlite_file.WAL_BYTES
    assert log.st_blocks * 512 >= sqlite_file.WAL_BYTES  # no hole


def test_a_store_is_never_made_over_another(enrolled: str, opened: Open) -> None:
    before = Path(enrolled).read_bytes()
    with pytest.raises(StoreError, match="exists"):
        create(enrolled, SEALER)
    assert Path(enrolled).read_bytes() == before


def test_a_store_is_not_made_in_a_directory_of_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    os.chmod(tmp_path / "state", 0o755)
    with pytest.raises(StoreError, match="0755"):
        create(str(tmp_path / "state/store.db"), SEALER)
    assert os.listdir(tmp_path / "state") == []


def test_nothing_of_an_earlier_store_comes_back(store_path: str, opened: Open) -> None:
    """Its log would be replayed into the new one."""
    store = opened(store_path)
    enrol(store, PHONE)
    shutil.copy(f"{store_path}-wal", f"{store_path}-kept")
    discard(store)
    os.unlink(store_path)
    os.rename(f"{store_path}-kept", f"{store_path}-wal")
    create(store_path, SEALER)
    assert opened(store_path).read(ListAccounts()) == ()


def test_preparing_grows_the_log_again(enrolled: str, opened: Open) -> None:
    assert not os.path.exists(f"{enrolled}-wal")
    store = opened(enrolled)
    store.prepare()
    assert os.stat(f"{enrolled}-wal").st_size == sqlite_file.WAL_BYTES
    enrol(store, credential("second"))
    store.prepare()
    discard(store)
    assert len(opened(enrolled).read(FIND).credentials) == 2


def test_growing_only_appends(store_path: str, opened: Open) -> None:
    os.truncate(f"{store_path}-wal", 0)
    store = opened(store_path)
    enrol(store, PHONE)
    log = Path(f"{store_path}-wal")
    before = log.read_bytes()
    store.prepare()
    assert log.read_bytes() == before + bytes(sqlite_file.WAL_BYTES - len(before))


def test_nobody_else_can_write_while_the_log_is_grown(
    store_path: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the zeros would be written over somebody's answer."""
    os.truncate(f"{store_path}-wal", 0)

    def grow(path: str, size: int) -> None:
        other = sqlite3.connect(store_path, isolation_level=None, timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        sqlite_setup.grow(path, size)

    monkeypatch.setattr(sqlite, "grow", grow)
    opened(store_path).prepare()
    assert os.stat(f"{store_path}-wal").st_size == sqlite_file.WAL_BYTES


def test_growing_never_touches_what_is_in_the_log(store_path: str, opened: Open) -> None:
    """A second connection writes while the log is grown again and again."""
    os.truncate(f"{store_path}-wal", 0)
    store = opened(store_path, patience=60)
    enrol(store, PHONE)
    done = threading.Event()
    growing = threading.Thread(target=_keep_growing, args=(store_path, done))
    growing.start()
    try:
        for step in range(1, 500):
            assert do(store, Attempt(ALICE, "totp", Advance(PHONE.id, step), at())) == (Tried.ACCEPTED,)
    finally:
        done.set()
        growing.join()
    raw(store_path, "PRAGMA wal_checkpoint")
    assert opened(store_path).read(FIND).credentials[0].mark == 499
    assert store._db is not None
    assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _keep_growing(path: str, done: threading.Event) -> None:
    store = SqliteStore(path, SEALER, patience=60)
    size = os.stat(f"{path}-wal").st_size
    while not done.wait(0.001):  # SQLite's locks are not fair
        size += 8192
        with store._change(grows=False):
            sqlite_setup.grow(f"{path}-wal", size)
    discard(store)


def test_forgetting_a_store_leaves_the_log(store_path: str) -> None:
    """The last connection that is closed would delete it."""
    store = SqliteStore(store_path, SEALER)
    enrol(store, PHONE)
    connection = store._db
    assert connection is not None
    del store
    gc.collect()
    assert os.stat(f"{store_path}-wal").st_size == sqlite_file.WAL_BYTES
    sqlite._open.remove(connection)
    connection.close()


@pytest.fixture
def next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's next version: it has one more migration, in the directory that is returned."""
    scripts = tmp_path / "schema"
    shutil.copytree(sqlite_setup.SCHEMA_DIRECTORY, scripts)
    number = sqlite_file.SCHEMA + 1
    (scripts / f"{number:03}.sql").write_text(
        "-- One; more.\nCREATE TABLE more (x TEXT) STRICT;\nINSERT INTO more\nVALUES ('a;b');\n"
    )
    monkeypatch.setattr(sqlite_setup, "SCHEMA_DIRECTORY", str(scripts))
    monkeypatch.setattr(sqlite_setup, "SCHEMA", number)
    monkeypatch.setattr(sqlite_file, "SCHEMA", number)
    return scripts


def test_every_migration_is_numbered_and_counted() -> None:
    scripts = sorted(os.listdir(sqlite_setup.SCHEMA_DIRECTORY))
    assert scripts == [f"{number:03}.sql" for number in range(1, sqlite_file.SCHEMA + 1)]


def test_migrating_brings_an_older_store_up_and_keeps_what_is_in_it(
    enrolled: str, opened: Open, next_schema: Path
) -> None:
    refuses(opened(enrolled), StoreSchema)
    assert migrate(enrolled, SEALER) == 1
    store = opened(enrolled)
    assert store.read(FIND).credentials == (PHONE,)
    assert store._db is not None
    assert store._db.execute("SELECT x FROM more").fetchall() == [("a;b",)]
    assert migrate(enrolled, SEALER) == 0


def test_a_store_of_schema_1_learns_to_suspect_and_its_rows_have_the_length_that_they_keep(
    enrolled: str, opened: Open
) -> None:
    before = os.stat(enrolled).st_size
    take_back(enrolled, 1)
    refuses(opened(enrolled), StoreSchema)
    assert migrate(enrolled, SEALER) == sqlite_file.SCHEMA - 1
    (found,) = opened(enrolled).read(FIND).credentials
    assert found == PHONE
    assert found.suspect is False
    with closing(sqlite3.connect(enrolled)) as db:
        used = "SELECT sum(payload) FROM dbstat WHERE name = 'credential'"
        length = db.execute(used).fetchone() if _has_dbstat(db) else None
        db.execute("UPDATE credential SET suspect = 1, mark = mark + 1")
        assert length is None or db.execute(used).fetchone() == length
    assert os.stat(enrolled).st_size == before


def _has_dbstat(db: sqlite3.Connection) -> bool:
    return ("ENABLE_DBSTAT_VTAB",) in db.execute("PRAGMA compile_options").fetchall()


def test_a_migration_that_fails_changes_nothing(enrolled: str, opened: Open, next_schema: Path) -> None:
    with open(next_schema / f"{sqlite_file.SCHEMA:03}.sql", "a", encoding="utf-8") as script:
        script.write("INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(StoreError, match="nowhere"):
        migrate(enrolled, SEALER)
    with closing(sqlite3.connect(enrolled)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (sqlite_file.SCHEMA - 1,)
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)


def test_migrating_refuses_what_a_login_refuses(enrolled: str, tmp_path: Path) -> None:
    with pytest.raises(StoreSealed):
        migrate(enrolled, Sealer(bytes(32)))
    with pytest.raises(StoreMissing):
        migrate(str(tmp_path / "nowhere.db"), SEALER)
    raw(enrolled, f"PRAGMA user_version = {sqlite_file.SCHEMA + 1}")
    with pytest.raises(StoreSchema, match="newer"):
        migrate(enrolled, SEALER)
    raw(enrolled, "PRAGMA application_id = 5")
    with pytest.raises(StoreCorrupt):
        migrate(enrolled, SEALER)


def test_owners_are_found_without_looking_through_the_store(enrolled: str) -> None:
    """It is asked on the event loop, at every login with a smartcard."""
    with closing(sqlite3.connect(enrolled)) as db:
        query = "EXPLAIN QUERY PLAN SELECT id, uid, user FROM credential JOIN account USING (uid) WHERE id IN (?, ?)"
        plan = [row[3] for row in db.execute(query, ("a", "b"))]
    assert not [step for step in plan if step.startswith("SCAN")], plan
