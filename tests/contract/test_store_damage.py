"""A SQLite store with changed rows and changed bytes: never more than was enrolled, never "nobody" (F06, S11)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from stores import ALICE, SEALER, at, credential, discard, do, enrol, make, raw

from pam_mfa.errors import StoreCorrupt, StoreError
from pam_mfa.store.base import Advance, Attempt, FindAccount, KeptConfig, ListAccounts, Remove, Tried
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_file import PAGE_BYTES

Open = Callable[..., SqliteStore]
PHONE = credential("phone")
CODES = credential("codes", factor="recovery")
BOBS = credential("bobs", uid=1001, user="bob")
FIND = FindAccount(ALICE, "alice")
WRONG = Attempt(ALICE, "totp", None, at())

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
    "suspect": "PRAGMA ignore_check_constraints = ON; UPDATE credential SET suspect = 2",
    "label": "UPDATE credential SET label = CAST(x'ff' AS TEXT)",
    "no tally": "DELETE FROM tally WHERE factor = 'totp'",
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


# ------------------------------------------------------------------------------------------ changed bytes


class Damaged:
    """A store of which every example gets a damaged copy."""

    def __init__(self, directory: Path) -> None:
        self.path = make(directory / "state")
        store = SqliteStore(self.path, SEALER)
        enrol(store, PHONE, CODES)
        discard(store)
        self.file = Path(self.path).read_bytes()
        store = SqliteStore(self.path, SEALER)
        enrol(store, BOBS)
        self.log = Path(f"{self.path}-wal").read_bytes()
        discard(store)
        self.emptied = Path(self.path).read_bytes()
        self.enrolled = {each.id: each for each in (PHONE, CODES, BOBS)}

    def write(self, file: bytes, log: bytes = b"") -> None:
        Path(self.path).write_bytes(file)
        Path(f"{self.path}-wal").write_bytes(log)
        Path(f"{self.path}-shm").unlink(missing_ok=True)

    def judge(self) -> set[int | None]:
        """How many credentials each user seems to have (None: an error); all of them are real."""
        store = SqliteStore(self.path, SEALER)
        seen = {self._judge_one(store, query) for query in (FIND, FindAccount(1001, "bob"))}
        for query in (ListAccounts(), KeptConfig(), FindAccount(1002, "carol")):
            with suppress(StoreError):
                store.read(query)
        with suppress(StoreError):
            for result in store.apply([(WRONG,), (Attempt(1001, "totp", Advance(BOBS.id, 5), at()),)]):
                assert isinstance(result, StoreError) or type(result) is tuple
        discard(store)
        return seen

    def _judge_one(self, store: SqliteStore, query: FindAccount) -> int | None:
        try:
            account = store.read(query)
        except StoreError:
            return None
        for found in account.credentials:
            real = self.enrolled[found.id]
            assert (found.uid, found.user, found.factor) == (query.uid, query.user, real.factor)
            assert (real.uid, real.user, real.material) == (query.uid, query.user, found.material)
        return len(account.credentials)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("damaged"))


def flipped(content: bytes, bits: set[int]) -> bytes:
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


bits = st.sets(st.integers(0, 1 << 20), min_size=1, max_size=12)
examples = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_undamaged_it_is_whole(damaged: Damaged) -> None:
    """What the other examples are compared with."""
    damaged.write(damaged.emptied)
    assert damaged.judge() == {2, 1}
    damaged.write(damaged.file, damaged.log)
    assert damaged.judge() == {2, 1}


@examples
@given(bit=st.integers(0, 1 << 20))
def test_a_flipped_bit_never_makes_somebody_unenrolled(damaged: Damaged, bit: int) -> None:
    damaged.write(flipped(damaged.emptied, {bit}))
    assert damaged.judge() <= {2, 1, None}


@examples
@given(bits=bits)
def test_flipped_bits_never_enrol_anybody(damaged: Damaged, bits: set[int]) -> None:
    damaged.write(flipped(damaged.emptied, bits))
    damaged.judge()


@examples
@given(bits=bits)
def test_a_damaged_log_never_enrols_anybody(damaged: Damaged, bits: set[int]) -> None:
    damaged.write(damaged.file, flipped(damaged.log, {bit % (8 * 4096 * 8) for bit in bits}))
    assert damaged.judge() <= {2, 1, 0, None}


@examples
@given(size=st.integers(0, 1 << 20))
def test_a_truncated_store_never_makes_somebody_unenrolled(damaged: Damaged, size: int) -> None:
    damaged.write(damaged.emptied[: size % len(damaged.emptied)])
    assert damaged.judge() <= {2, 1, None}


def test_every_page_that_is_missing_is_noticed(damaged: Damaged) -> None:
    for size in range(0, len(damaged.emptied), PAGE_BYTES):
        damaged.write(damaged.emptied[:size])
        assert damaged.judge() == {None}, size
