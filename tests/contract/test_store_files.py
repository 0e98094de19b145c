"""The file under a SQLite store: missing, replaced, in the wrong hands, of another key or schema (F04-F07, S12)."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from stores import ALICE, at, credential, discard, do, enrol, make, raw, refuses

from pam_mfa.errors import StoreCorrupt, StoreError, StoreMissing, StoreSchema, StoreSealed
from pam_mfa.store import sqlite
from pam_mfa.store.base import Advance, Attempt, Burn, Enrol, FindAccount, ListAccounts, Remove, Rename, Tried, Unlock
from pam_mfa.store.rows import DECOY_UID
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_file import SCHEMA

Open = Callable[..., SqliteStore]
PHONE = credential("phone")
FIND = FindAccount(ALICE, "alice")
WRONG = Attempt(ALICE, "totp", None, at())
NOBODY = 65534


# --------------------------------------------------------------------------------- missing and replaced


def test_a_missing_store_is_missing(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    store = opened(str(tmp_path / "state/store.db"))
    assert "does not exist" in refuses(store, StoreMissing)
    assert os.listdir(tmp_path / "state") == []


def test_a_missing_directory_is_missing(tmp_path: Path, opened: Open) -> None:
    refuses(opened(str(tmp_path / "state/store.db")), StoreMissing)
    assert not (tmp_path / "state").exists()


def test_an_empty_file_is_missing_and_stays_empty(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "state/store.db"
    path.touch(0o600)
    assert "is empty" in refuses(opened(str(path)), StoreMissing)
    assert path.stat().st_size == 0


def test_a_store_that_comes_later_is_found(tmp_path: Path, opened: Open) -> None:
    """A service that was started too early answers as soon as it can."""
    store = opened(str(tmp_path / "state/store.db"))
    refuses(store, StoreMissing)
    make(tmp_path / "state")
    assert store.read(ListAccounts()) == ()


@pytest.mark.parametrize(
    "loss", [os.unlink, lambda path: os.rename(path, f"{path}.away"), lambda path: os.truncate(path, 0)]
)
def test_a_store_that_is_lost_while_open_is_missing(store_path: str, opened: Open, loss: Callable[[str], None]) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    loss(store_path)
    refuses(store, StoreMissing)


def test_a_store_that_comes_back_is_used_again(store_path: str, opened: Open) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    os.rename(store_path, f"{store_path}.away")
    refuses(store, StoreMissing)
    os.rename(f"{store_path}.away", store_path)
    assert store.read(FIND).credentials == (PHONE,)


def test_a_store_that_was_replaced_is_opened_anew(store_path: str, tmp_path: Path, opened: Open) -> None:
    before = list(sqlite._open)
    other = make(tmp_path / "other")
    second = opened(other)
    enrol(second, credential("phone", label="restored"))
    discard(second)
    store = opened(store_path)
    enrol(store, PHONE)
    replaced = store._db
    assert replaced is not None
    for suffix in ("-wal", "-shm"):
        os.unlink(store_path + suffix)
    os.rename(other, store_path)
    assert store.read(FIND).credentials[0].label == "restored"
    assert do(store, WRONG) == (Tried.WRONG,)
    assert set(sqlite._open) == {*before, replaced, store._db}
    sqlite._open.remove(replaced)
    replaced.close()


# -------------------------------------------------------------------------------------- owners and modes


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
@pytest.mark.parametrize("place", ["file", "directory"])
def test_access_for_others_is_refused_and_named(enrolled: str, opened: Open, mode: int, place: str) -> None:
    wrong = enrolled if place == "file" else os.path.dirname(enrolled)
    store = opened(enrolled)
    assert store.read(FIND).credentials == (PHONE,)
    os.chmod(wrong, mode | 0o700)
    fresh = refuses(opened(enrolled), StoreError)
    assert wrong in fresh
    assert f"{mode | 0o700:04o}" in fresh


def test_a_file_that_is_opened_to_others_while_in_use_is_refused(enrolled: str, opened: Open) -> None:
    store = opened(enrolled)
    assert store.read(FIND).credentials == (PHONE,)
    os.chmod(enrolled, 0o640)
    refuses(store, StoreError)
    os.chmod(enrolled, 0o600)
    assert store.read(FIND).credentials == (PHONE,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("place", ["file", "directory"])
def test_a_wrong_owner_is_refused_and_named(enrolled: str, opened: Open, place: str) -> None:
    wrong = enrolled if place == "file" else os.path.dirname(enrolled)
    os.chown(wrong, NOBODY, -1)
    message = refuses(opened(enrolled), StoreError)
    assert wrong in message
    assert str(NOBODY) in message


def test_a_symlink_is_refused_even_to_a_good_store(enrolled: str, opened: Open) -> None:
    link = os.path.join(os.path.dirname(enrolled), "link.db")
    os.symlink(enrolled, link)
    assert "not a regular file" in refuses(opened(link), StoreError)


@pytest.mark.parametrize("thing", [os.mkfifo, os.mkdir])
def test_what_is_not_a_file_is_refused(tmp_path: Path, opened: Open, thing: Callable[[str, int], None]) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    path = str(tmp_path / "state/store.db")
    thing(path, 0o600)
    refuses(opened(path), StoreError if thing is os.mkdir else StoreMissing)


def test_odd_characters_in_the_path_mean_nothing(tmp_path: Path, opened: Open) -> None:
    store = opened(make(tmp_path / "a b?mode=memory#%41"))
    enrol(store, PHONE)
    assert store.read(FIND).credentials == (PHONE,)


# ------------------------------------------------------------------------- strangers, keys and versions


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0", os.urandom(8192), bytes(4096)])
def test_what_is_not_a_database_is_corrupt(tmp_path: Path, opened: Open, content: bytes) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "state/store.db"
    path.touch(0o600)
    path.write_bytes(content)
    refuses(opened(str(path)), StoreCorrupt)
    assert path.read_bytes() == content


def test_another_programs_database_is_corrupt(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    path = str(tmp_path / "state/store.db")
    Path(path).touch(0o600)
    raw(path, "PRAGMA journal_mode = WAL", "CREATE TABLE account (uid, user)")
    refuses(opened(path), StoreCorrupt)


def test_a_store_without_its_log_is_corrupt(enrolled: str, opened: Open) -> None:
    raw(enrolled, "PRAGMA journal_mode = DELETE")
    refuses(opened(enrolled), StoreCorrupt)


def test_another_key_is_told_from_damage(enrolled: str) -> None:
    store = SqliteStore(enrolled, Sealer(bytes(32)))
    refuses(store, StoreSealed)


@pytest.mark.parametrize("statement", ["DELETE FROM meta", "UPDATE meta SET value = x''"])
def test_a_store_without_key_check_is_refused(enrolled: str, opened: Open, statement: str) -> None:
    raw(enrolled, statement)
    refuses(opened(enrolled), StoreSealed if "UPDATE" in statement else StoreCorrupt)


@pytest.mark.parametrize(
    ("version", "advice"),
    [(SCHEMA + 1, "newer"), (SCHEMA - 1, "older"), (0, "older"), (-1, "older"), (2**31 - 1, "newer")],
)
def test_another_schema_is_refused_with_its_own_words(enrolled: str, opened: Open, version: int, advice: str) -> None:
    raw(enrolled, f"PRAGMA user_version = {version}")
    assert advice in refuses(opened(enrolled), StoreSchema)


def test_a_store_that_is_migrated_under_a_running_service_is_refused(enrolled: str, opened: Open) -> None:
    store = opened(enrolled)
    assert store.read(FIND).credentials == (PHONE,)
    raw(enrolled, f"PRAGMA user_version = {SCHEMA + 1}")
    refuses(store, StoreSchema)


# ------------------------------------------------------------------------------------------ other promises


def test_somebody_elses_lock_is_waited_for_and_then_an_error(enrolled: str, opened: Open) -> None:
    store = opened(enrolled, patience=0.05)
    with closing(sqlite3.connect(enrolled, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="SQLITE_BUSY"):
            store.apply([(WRONG,)])
        assert store.read(FIND).credentials == (PHONE,)
        db.execute("ROLLBACK")
    assert do(store, WRONG) == (Tried.WRONG,)


def test_a_lock_that_is_let_go_in_time_delays_only(enrolled: str, opened: Open) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(enrolled, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            held.set()
            release.wait(20)
            db.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    threading.Timer(0.1, release.set).start()
    assert do(opened(enrolled, patience=20), WRONG) == (Tried.WRONG,)
    holder.join()


def test_after_an_error_of_the_disk_another_connection_is_used(enrolled: str, opened: Open) -> None:
    """F09. Every write fails here, as it does beyond a limit on the size of files."""
    store = opened(enrolled)
    store.read(FIND)
    failed = store._db
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(StoreError, match="SQLITE_IOERR"):
            store.apply([(WRONG,)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert do(store, WRONG) == (Tried.WRONG,)
    assert store._db is not failed
    assert failed not in sqlite._open
    assert store.read(FIND).tallies["totp"].failures == 1


def test_a_login_changes_nothing_but_numbers_in_their_place(store_path: str, opened: Open) -> None:
    """No page is added, freed or split by logins, whatever the numbers become (then a full disk hurts nobody)."""
    store = opened(store_path)
    for uid in range(1000, 1060):
        enrol(
            store,
            credential(f"p{uid}", uid=uid, user=f"u{uid}"),
            credential(f"c{uid}", uid=uid, user=f"u{uid}", factor="recovery"),
        )
    assert store._db is not None
    layout = "SELECT name, path, pageno, ncell, payload, unused FROM dbstat ORDER BY name, path"
    if ("ENABLE_DBSTAT_VTAB",) not in store._db.execute("PRAGMA compile_options").fetchall():
        layout = "SELECT * FROM pragma_page_count, pragma_freelist_count"
    before = store._db.execute(layout).fetchall()
    for round_, size in enumerate((1, 200, 40_000, 10_000_000, 3_000_000_000, 2**61)):
        now = at(wall=size, boot=size, boot_id="b" * (round_ + 1))
        for uid in range(1000, 1060):
            recovery, totp = credential(f"c{uid}").id, credential(f"p{uid}").id
            store.apply([(Attempt(uid, "totp", None, now),), (Attempt(uid, "totp", Advance(totp, size), now),)])
            store.apply(
                [
                    (Attempt(uid, "recovery", Burn(recovery, round_ * 12), now),),
                    (Attempt(DECOY_UID, "smartcard", None, now),),
                ]
            )
    assert store.read(FindAccount(1000, "u1000")).of("totp")[0].mark == 2**61
    assert store._db.execute(layout).fetchall() == before


def test_every_statement_finds_its_rows_by_key(enrolled: str, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand accounts cost a login no more than one."""
    store = opened(enrolled)
    store.read(FIND)
    seen: set[str] = set()
    assert store._db is not None
    store._db.set_trace_callback(seen.add)
    store.read(FIND)
    for use in (Advance(PHONE.id, 5), Advance(PHONE.id, 5), Burn(PHONE.id, 1), None):
        do(store, Attempt(ALICE, "totp", use, at()))
    do(store, Enrol((credential("codes", factor="recovery"),), frozenset({"recovery"})))
    do(store, Rename(ALICE, PHONE.id, "new"), Remove(ALICE, PHONE.id), Unlock(ALICE, ((PHONE.id, 1),)))
    store._db.set_trace_callback(None)
    plans = {
        row[3]
        for statement in seen
        if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        for row in store._db.execute(f"EXPLAIN QUERY PLAN {statement}")
    }
    assert len(plans) >= 3
    assert all(plan.startswith("SEARCH") for plan in plans), plans
