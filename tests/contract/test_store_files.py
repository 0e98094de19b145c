"""The file under a SQLite store: missing, replaced, in the wrong hands, of another key or schema (F04-F07, S12)."""

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
from stores import ALICE, SEALER, at, credential, discard, do, enrol, make

from pam_mfa.errors import StoreCorrupt, StoreError, StoreMissing, StoreSchema, StoreSealed
from pam_mfa.store import sqlite, sqlite_file, sqlite_setup
from pam_mfa.store.base import (
    DECOY_UID,
    Advance,
    Attempt,
    Burn,
    Enrol,
    FindAccount,
    KeptConfig,
    ListAccounts,
    Remove,
    Rename,
    Tried,
    Unlock,
)
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import create, migrate

Open = Callable[..., SqliteStore]
PHONE = credential("phone")
FIND = FindAccount(ALICE, "alice")
WRONG = Attempt(ALICE, "totp", None, at())
NOBODY = 65534


def refuses(store: SqliteStore, kind: type[StoreError]) -> str:
    """Neither read nor changed; and nothing was made at the path. Returns what the log would say."""
    before = os.path.lexists(store._path) and os.lstat(store._path)
    with pytest.raises(kind) as caught:
        store.read(FIND)
    assert type(caught.value) is kind
    with pytest.raises(kind):
        store.apply([(WRONG,)])
    after = os.path.lexists(store._path) and os.lstat(store._path)
    assert bool(before) == bool(after)
    return str(caught.value)


def raw(path: str, *statements: str) -> None:
    """Change the file behind the program's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.fixture
def enrolled(store_path: str, opened: Open) -> str:
    """A store with alice in it, closed, all of it in one file."""
    store = SqliteStore(store_path, SEALER)
    enrol(store, PHONE)
    discard(store)
    return store_path


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
    other = make(tmp_path / "other")
    second = opened(other)
    enrol(second, credential("phone", label="restored"))
    discard(second)
    store = opened(store_path)
    enrol(store, PHONE)
    for suffix in ("-wal", "-shm"):
        os.unlink(store_path + suffix)
    os.rename(other, store_path)
    assert store.read(FIND).credentials[0].label == "restored"
    assert do(store, WRONG) == (Tried.WRONG,)
    assert len(sqlite._open) == 2
    sqlite._open.pop(0).close()


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


@pytest.mark.parametrize(("version", "advice"), [(2, "newer"), (0, "older"), (-1, "older"), (2**31 - 1, "newer")])
def test_another_schema_is_refused_with_its_own_words(enrolled: str, opened: Open, version: int, advice: str) -> None:
    raw(enrolled, f"PRAGMA user_version = {version}")
    assert advice in refuses(opened(enrolled), StoreSchema)


def test_a_store_that_is_migrated_under_a_running_service_is_refused(enrolled: str, opened: Open) -> None:
    store = opened(enrolled)
    assert store.read(FIND).credentials == (PHONE,)
    raw(enrolled, "PRAGMA user_version = 2")
    refuses(store, StoreSchema)


# ----------------------------------------------------------------------------- rows that are not as written

ROWS = {
    "uid of account": "UPDATE account SET uid = 1001",
    "no account": "DELETE FROM account",
    "seal of account": "UPDATE account SET seal = zeroblob(28)",
    "no credential": "DELETE FROM credential",
    "one credential less": "DELETE FROM credential WHERE factor = 'recovery'",
    "uid of credential": "UPDATE credential SET uid = 1001",
    "id": "UPDATE credential SET id = '00000000000000000000000000000000' WHERE factor = 'totp'",
    "factor": "UPDATE credential SET factor = 'recovery'",
    "created": "UPDATE credential SET created = created + 1",
    "material": "UPDATE credential SET material = zeroblob(length(material))",
    "material of another": (
        "UPDATE credential SET material = (SELECT material FROM credential WHERE factor = 'recovery')"
        " WHERE factor = 'totp'"
    ),
    "mark": "PRAGMA ignore_check_constraints = ON; UPDATE credential SET mark = 5",
    "label": "UPDATE credential SET label = CAST(x'ff' AS TEXT)",
    "failures": "PRAGMA ignore_check_constraints = ON; UPDATE tally SET failures = -1 WHERE uid = 1000",
    "boot id": "PRAGMA ignore_check_constraints = ON; UPDATE tally SET boot_id = '' WHERE uid = 1000",
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS.keys())
def test_a_changed_row_is_corrupt_for_its_user_alone(store_path: str, opened: Open, change: str) -> None:
    store = opened(store_path)
    bobs = credential("bobs", uid=1001, user="bob")
    enrol(store, PHONE, credential("codes", factor="recovery"))
    raw(store_path, *change.split("; "))
    with pytest.raises(StoreCorrupt):
        store.read(FIND)
    if "uid = 1001" not in change:
        enrol(store, bobs)
        assert store.read(FindAccount(1001, "bob")).credentials == (bobs,)


def test_a_removed_credential_cannot_be_put_back(store_path: str, opened: Open) -> None:
    store = opened(store_path)
    enrol(store, PHONE, credential("second"))
    raw(store_path, "CREATE TABLE kept AS SELECT * FROM credential")
    assert do(store, Remove(ALICE, credential("second").id)) == (True,)
    raw(store_path, "INSERT OR IGNORE INTO credential SELECT * FROM kept")
    with pytest.raises(StoreCorrupt):
        store.read(FIND)
    with pytest.raises(StoreCorrupt):
        enrol(store, credential("third"))


def test_damage_to_one_row_does_not_undo_the_batch(store_path: str, opened: Open) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    enrol(store, credential("bobs", uid=1001, user="bob"))
    raw(
        store_path,
        "PRAGMA ignore_check_constraints = ON",
        "UPDATE tally SET boot_id = CAST(x'ff' AS TEXT) WHERE uid = 1001",
    )
    bob = Attempt(1001, "totp", None, at())
    first, second, third = store.apply([(WRONG,), (bob,), (WRONG,)])
    assert (first, third) == ((Tried.WRONG,), (Tried.WRONG,))
    assert isinstance(second, StoreCorrupt)
    assert store.read(FIND).tallies["totp"].failures == 2


def test_kept_settings_that_were_changed_are_corrupt(store_path: str, opened: Open) -> None:
    raw(store_path, "INSERT INTO meta VALUES ('config', CAST('[policy]' AS BLOB))")
    with pytest.raises(StoreCorrupt):
        opened(store_path).read(KeptConfig())


# ----------------------------------------------------------------------------------- making and migrating


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


def test_growing_never_touches_what_is_in_the_log(store_path: str, opened: Open) -> None:
    """A second connection writes while the log is grown again and again."""
    os.truncate(f"{store_path}-wal", 0)
    grower, store = opened(store_path), opened(store_path)
    enrol(store, PHONE)
    done = threading.Event()
    growing = threading.Thread(target=_keep_growing, args=(store_path, done))
    growing.start()
    for step in range(1, 500):
        assert do(store, Attempt(ALICE, "totp", Advance(PHONE.id, step), at())) == (Tried.ACCEPTED,)
    done.set()
    growing.join()
    assert grower.read(FIND).credentials[0].mark == 499
    raw(store_path, "PRAGMA integrity_check")


def _keep_growing(path: str, done: threading.Event) -> None:
    store = SqliteStore(path, SEALER)
    size = os.stat(f"{path}-wal").st_size
    while not done.is_set():
        size += 8192
        with store._transaction("BEGIN IMMEDIATE"):
            sqlite_setup.grow(f"{path}-wal", size)
    discard(store)


def test_forgetting_a_store_leaves_the_log(store_path: str) -> None:
    """The last connection that is closed would delete it."""
    store = SqliteStore(store_path, SEALER)
    enrol(store, PHONE)
    (connection,) = sqlite._open
    del store
    gc.collect()
    assert os.stat(f"{store_path}-wal").st_size == sqlite_file.WAL_BYTES
    sqlite._open.clear()
    connection.close()


@pytest.fixture
def next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's next version: it has one more migration, in the directory that is returned."""
    scripts = tmp_path / "schema"
    shutil.copytree(sqlite_setup.SCHEMA_DIRECTORY, scripts)
    (scripts / "002.sql").write_text(
        "-- One; more.\nCREATE TABLE more (x TEXT) STRICT;\nINSERT INTO more\nVALUES ('a;b');\n"
    )
    monkeypatch.setattr(sqlite_setup, "SCHEMA_DIRECTORY", str(scripts))
    monkeypatch.setattr(sqlite_setup, "SCHEMA", 2)
    monkeypatch.setattr(sqlite_file, "SCHEMA", 2)
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


def test_a_migration_that_fails_changes_nothing(enrolled: str, opened: Open, next_schema: Path) -> None:
    with open(next_schema / "002.sql", "a", encoding="utf-8") as script:
        script.write("INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(StoreError, match="nowhere"):
        migrate(enrolled, SEALER)
    with closing(sqlite3.connect(enrolled)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)


def test_migrating_refuses_what_a_login_refuses(enrolled: str, tmp_path: Path) -> None:
    with pytest.raises(StoreSealed):
        migrate(enrolled, Sealer(bytes(32)))
    with pytest.raises(StoreMissing):
        migrate(str(tmp_path / "nowhere.db"), SEALER)
    raw(enrolled, "PRAGMA user_version = 2")
    with pytest.raises(StoreSchema, match="newer"):
        migrate(enrolled, SEALER)
    raw(enrolled, "PRAGMA application_id = 5")
    with pytest.raises(StoreCorrupt):
        migrate(enrolled, SEALER)


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
                [(Attempt(uid, "recovery", Burn(recovery, round_ * 12), now),), (Attempt(DECOY_UID, "piv", None, now),)]
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
