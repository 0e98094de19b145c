"""Failures by where they come from: what store/base.py promises of sources, for every store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stores import ALICE, BOOT, SEALER, ThroughWriter, at, credential, do, enrol, later, make, raw, refuses, take_back

from pam_mfa.errors import StoreCorrupt, StoreSchema
from pam_mfa.store import sqlite_file
from pam_mfa.store.base import (
    Advance,
    Attempt,
    Burn,
    Enrol,
    FindAccount,
    FindBudgets,
    Lend,
    ListLeases,
    Reset,
    Tried,
    Unlock,
)
from pam_mfa.store.rows import DECOY_UID, Account, Lease
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import migrate
from pam_mfa.throttle import FAMILIAR, FREE, LIMIT, SHARE, Tally

AnyStore = SqliteStore | ThroughWriter
Open = Callable[..., SqliteStore]
PHONE, CODES = credential("phone"), credential("codes", factor="recovery")
TICKET, BOBS = credential("ticket", factor="ticket"), credential("bobs", uid=1001, user="bob")
HOME, AFAR, NEAR = "192.0.2.7", "198.51.100.1", "2001:db8::/64"
AWAY = [AFAR, NEAR, None, ""]


def tally(store: AnyStore, source: str | None, factor: str = "totp") -> Tally:
    account: Account = store.read(FindAccount(ALICE, "alice", source))
    return account.tallies[factor]


def right(store: AnyStore, step: int, source: str | None, seconds: int = 0) -> Tried:
    (tried,) = do(store, Attempt(ALICE, "totp", Advance(PHONE.id, step), later(seconds), source))
    assert isinstance(tried, Tried)
    return tried


def wrong(store: AnyStore, source: str | None, times: int = 1, seconds: int = 0) -> list[Tried]:
    attempt = Attempt(ALICE, "totp", None, later(seconds), source)
    return [tried for _ in range(times) for tried in do(store, attempt)]


@pytest.mark.parametrize("away", AWAY)
def test_r03_failures_elsewhere_do_not_count_where_it_was_proven(store: AnyStore, away: str | None) -> None:
    enrol(store, PHONE, CODES)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    assert wrong(store, away, FREE + 2) == [Tried.WRONG] * (FREE + 1) + [Tried.WAITING]
    assert right(store, 2, away) is Tried.WAITING
    assert tally(store, away) == Tally(FREE + 1, later(0), LIMIT - SHARE)
    assert tally(store, HOME) == Tally(beyond=FREE + 1)
    assert right(store, 2, HOME) is Tried.ACCEPTED
    assert right(store, 3, away) is Tried.WAITING
    assert {tally(store, source, "recovery").failures for source in (HOME, away)} == {0}


def test_r03_where_one_factor_was_proven_all_of_the_account_are_familiar(store: AnyStore) -> None:
    """Recovery codes and one-time codes above all: what helps somebody in need was proven nowhere before."""
    enrol(store, PHONE, CODES)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    enrol(store, TICKET)
    for factor in ("recovery", "ticket"):
        assert do(store, *[Attempt(ALICE, factor, None, at(), AFAR)] * 7)[-1] is Tried.WAITING
        assert tally(store, HOME, factor) == Tally(beyond=FREE + 1)
    assert do(store, Attempt(ALICE, "recovery", Burn(CODES.id, 3), at(), HOME)) == (Tried.ACCEPTED,)
    do(store, Enrol((credential("another", factor="ticket"),), replace=frozenset({"ticket"})))
    assert tally(store, AFAR, "ticket") == Tally(0, None, LIMIT - SHARE)
    assert tally(store, HOME, "ticket") == Tally()
    assert tally(store, AFAR, "recovery") == Tally(FREE + 1, at(), LIMIT - SHARE)


def test_r03_what_is_familiar_to_one_factor_forgives_nothing_of_another(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    do(store, *[Attempt(ALICE, "recovery", None, at(), HOME)] * 3)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    assert tally(store, HOME, "recovery") == Tally(beyond=3)
    assert tally(store, AFAR, "recovery") == Tally(3, at(), LIMIT - SHARE)


def test_r03_where_one_factor_is_proven_day_by_day_the_others_do_not_forget_it(store: AnyStore) -> None:
    """What they have not proven themselves they know by the order in which they met it."""
    enrol(store, PHONE, CODES)
    for step in range(FAMILIAR + 1):
        assert right(store, 2 * step + 1, HOME) is Tried.ACCEPTED
        assert right(store, 2 * step + 2, f"192.0.2.{100 + step}") is Tried.ACCEPTED
    assert right(store, 99, HOME) is Tried.ACCEPTED
    do(store, *[Attempt(ALICE, "recovery", None, at(), AFAR)] * (FREE + 1))
    assert do(store, Attempt(ALICE, "recovery", Burn(CODES.id, 3), at(), HOME)) == (Tried.ACCEPTED,)


def test_another_factors_row_that_is_damaged_lets_no_answer_count(store_path: str, opened: Open) -> None:
    """Where an account is met anew all of its rows are read; the answer is not used up either."""
    store = opened(store_path)
    enrol(store, PHONE, CODES)
    raw(
        store_path,
        f"UPDATE tally SET familiar = CAST(x'01' || zeroblob(275) AS BLOB) WHERE uid = {ALICE} AND factor = 'recovery'",
    )
    (tried,) = store.apply([(Attempt(ALICE, "totp", Advance(PHONE.id, 1), at(), HOME),)])
    assert isinstance(tried, StoreCorrupt)
    raw(store_path, f"UPDATE tally SET familiar = zeroblob(276) WHERE uid = {ALICE}")
    assert right(store, 1, HOME) is Tried.ACCEPTED


def test_a_new_factor_begins_without_failures_where_it_is_familiar(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    wrong(store, HOME, 3)
    enrol(store, TICKET)
    assert tally(store, HOME, "ticket") == Tally()
    assert tally(store, AFAR, "ticket") == Tally(0, None, LIMIT - SHARE)


def test_what_is_counted_is_told_as_a_whole(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    wrong(store, HOME, 2)
    wrong(store, AFAR, 3)
    budgets = store.read(FindBudgets(ALICE))
    assert set(budgets) == {"totp", "recovery"}
    assert (budgets["totp"].others, [count for _, count in budgets["totp"].familiar]) == (
        Tally(3, later(0)), [Tally(2, later(0))],
    )  # fmt: skip
    assert budgets["recovery"].failures == 0
    assert store.read(FindBudgets(1001)) == {}


def test_r03_nor_the_other_way_round(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    assert wrong(store, HOME, FREE + 2)[-2:] == [Tried.WRONG, Tried.WAITING]
    assert right(store, 2, AFAR) is Tried.ACCEPTED
    assert right(store, 3, HOME) is Tried.WAITING
    assert right(store, 3, HOME, seconds=30) is Tried.ACCEPTED


def test_r03_a_replay_and_what_is_gone_make_nothing_familiar(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 5, HOME) is Tried.ACCEPTED
    assert right(store, 5, AFAR) is Tried.REPLAYED
    assert tally(store, AFAR) == tally(store, NEAR) == Tally(1, later(0), LIMIT - SHARE)


def test_nothing_of_no_particular_place_is_familiar(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, None) is Tried.ACCEPTED
    wrong(store, AFAR)
    assert tally(store, None) == Tally(1, later(0))
    account: Account = store.read(FindAccount(ALICE, "alice", HOME))
    assert account.source == HOME


def test_each_account_has_its_own_sources(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    enrol(store, credential("bobs", uid=1001, user="bob"))
    assert right(store, 1, HOME) is Tried.ACCEPTED
    do(store, Attempt(1001, "totp", None, at(), AFAR))
    bob: Account = store.read(FindAccount(1001, "bob", HOME))
    assert bob.tallies["totp"] == Tally(1, at())


def test_the_decoy_is_never_familiar_and_never_waits(store: AnyStore) -> None:
    for source in (HOME, AFAR, None, ""):
        assert do(store, *[Attempt(DECOY_UID, "totp", None, at(), source)] * 40) == (Tried.WRONG,) * 40
    decoy: Account = store.read(FindAccount(DECOY_UID, "nobody", HOME))
    assert decoy.tallies in ({}, {"totp": Tally(160, at())})


def test_unlock_forgives_everywhere_and_keeps_what_is_familiar(store: AnyStore) -> None:
    enrol(store, PHONE, CODES)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    wrong(store, HOME, FREE + 1)
    assert do(store, Unlock(ALICE)) == (1,)
    wrong(store, AFAR, FREE + 1)
    assert tally(store, HOME) == Tally(beyond=FREE + 1)
    assert do(store, Unlock(ALICE)) == (1,)
    assert tally(store, AFAR) == Tally(0, None, LIMIT - SHARE)
    assert do(store, Unlock(ALICE)) == (0,)


def test_a_share_that_is_used_up_is_everybodys(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    for number in range(SHARE):
        assert wrong(store, HOME, seconds=number * 10_000) == [Tried.WRONG]
    assert tally(store, HOME) == tally(store, AFAR) == Tally(SHARE, later((SHARE - 1) * 10_000))


def test_more_sources_than_there_are_slots(store: AnyStore) -> None:
    enrol(store, PHONE)
    sources = [f"192.0.2.{number}" for number in range(FAMILIAR + 2)]
    for step, source in enumerate(sources, 1):
        assert right(store, step, source) is Tried.ACCEPTED
    wrong(store, AFAR, FREE + 1)
    waits = [tally(store, source).failures > FREE for source in sources]
    assert waits == [True, True] + [False] * FAMILIAR


def test_a_lock_out_elsewhere_ends_leases_as_well(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    lease = Lease("sudo", "pts/1", "alice", at().boot, at().boot + 600, at().boot_id)
    assert do(store, Lend(ALICE, "totp", PHONE.id, ("a",), lease)) == (True,)
    wrong(store, AFAR, FREE)
    assert store.read(ListLeases(ALICE)) == (lease,)
    wrong(store, AFAR)
    assert store.read(ListLeases(ALICE)) == ()
    assert do(store, Lend(ALICE, "totp", PHONE.id, ("a",), lease)) == (True,)
    wrong(store, HOME, FREE)
    assert store.read(ListLeases(ALICE)) == (lease,)
    wrong(store, HOME)
    assert store.read(ListLeases(ALICE)) == ()


def test_the_file_names_no_address(store_path: str, opened: Open) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    enrol(store, credential("bobs", uid=1001, user="bob"))
    assert right(store, 1, HOME) is Tried.ACCEPTED
    do(store, Attempt(1001, "totp", Advance(credential("bobs").id, 1), at(), HOME))
    assert store._db is not None
    rows = store._db.execute("SELECT hex(familiar) FROM tally WHERE uid IN (1000, 1001)").fetchall()
    tags = {bytes.fromhex(row[0])[:16] for row in rows}
    assert len(tags) == 2
    assert all(any(tag) for tag in tags)
    assert not any(HOME.encode() in bytes.fromhex(row[0]) for row in rows)


def test_a_store_of_schema_6_learns_them_and_forgives_nothing(tmp_path: Path, opened: Open) -> None:
    path = make(tmp_path / "state")
    store = opened(path)
    enrol(store, PHONE)
    wrong(store, HOME, 3, seconds=4)
    take_back(path, 6)
    refuses(opened(path), StoreSchema)
    assert migrate(path, SEALER) == sqlite_file.SCHEMA - 6
    store = opened(path)
    assert tally(store, HOME) == Tally(3, later(4))
    assert right(store, 1, HOME, seconds=5) is Tried.ACCEPTED
    assert wrong(store, AFAR, seconds=6) == [Tried.WRONG]
    assert tally(store, HOME) == Tally(beyond=1)
    assert do(store, Attempt(DECOY_UID, "totp", None, at(), HOME)) == (Tried.WRONG,)


def test_of_a_store_of_schema_6_a_damaged_row_is_its_users_alone(tmp_path: Path, opened: Open) -> None:
    path = make(tmp_path / "state")
    store = opened(path)
    enrol(store, PHONE)
    enrol(store, BOBS)
    take_back(path, 6)
    raw(path, "PRAGMA ignore_check_constraints = ON", f"UPDATE tally SET boot_id = 'x' WHERE uid = {ALICE}")
    assert migrate(path, SEALER) == sqlite_file.SCHEMA - 6
    store = opened(path)
    with pytest.raises(StoreCorrupt):
        store.read(FindAccount(ALICE, "alice"))
    assert do(store, Attempt(ALICE, "totp", Advance(PHONE.id, 1), at())) == (Tried.GONE,)
    assert do(store, Attempt(1001, "totp", Advance(BOBS.id, 1), at())) == (Tried.ACCEPTED,)
    assert do(store, Reset(ALICE)) == (1,)


SLOT = "X'" + "11" * 16 + "{failures:02x}" + "00" * 16 + "{boot_id}'"
BLANK, NAMED = "20" * 36, BOOT.encode().hex()
DAMAGES = {
    "no boot id": SLOT.format(failures=1, boot_id=BLANK),
    "no failure": SLOT.format(failures=0, boot_id=NAMED),
    "a share that is used up": SLOT.format(failures=SHARE, boot_id=NAMED),
    "not ASCII": SLOT.format(failures=1, boot_id="ff" * 36),
    "nobody's": SLOT.format(failures=1, boot_id=NAMED).replace("11" * 16, "00" * 16),
    "twice": f"{SLOT.format(failures=0, boot_id=BLANK)} || {SLOT.format(failures=1, boot_id=NAMED)}",
    "behind a free one": f"zeroblob(69) || {SLOT.format(failures=0, boot_id=BLANK)}",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_sources_that_nobody_could_have_written_are_corrupt(store_path: str, opened: Open, damage: str) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    whole = f"CAST({damage} AS BLOB)"
    fill = f"CAST({whole} || zeroblob(276 - length({whole})) AS BLOB)"
    raw(store_path, f"UPDATE tally SET familiar = {fill} WHERE uid = {ALICE}")
    with pytest.raises(StoreCorrupt):
        store.read(FindAccount(ALICE, "alice", HOME))
    (hers,) = store.apply([(Attempt(ALICE, "totp", Advance(PHONE.id, 1), at(), AFAR),)])
    assert isinstance(hers, StoreCorrupt)


@pytest.mark.parametrize("damage", ["x''", "zeroblob(275)", "zeroblob(277)", "'text'", "7"])
def test_damaged_sources_are_corrupt_for_their_user_alone(store_path: str, opened: Open, damage: str) -> None:
    store = opened(store_path)
    enrol(store, PHONE)
    enrol(store, credential("bobs", uid=1001, user="bob"))
    raw(
        store_path,
        "PRAGMA ignore_check_constraints = ON",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(replace(sql, 'familiar BLOB', 'familiar ANY'), '= 276', '!= 0')"
        " WHERE name = 'tally'",
        "PRAGMA writable_schema = RESET",
        f"UPDATE tally SET familiar = {damage} WHERE uid = {ALICE}",
    )
    for query in (FindAccount(ALICE, "alice", HOME), FindAccount(ALICE, "alice")):
        with pytest.raises(StoreCorrupt):
            store.read(query)
    hers, bobs = store.apply([(Attempt(ALICE, "totp", None, at(), HOME),), (Attempt(1001, "totp", None, at(), HOME),)])
    assert isinstance(hers, StoreCorrupt)
    assert bobs == (Tried.WRONG,)


def test_enrolling_anew_keeps_failures_and_sources(store: AnyStore) -> None:
    enrol(store, PHONE)
    assert right(store, 1, HOME) is Tried.ACCEPTED
    wrong(store, AFAR, 2)
    do(store, Enrol((credential("new"),), replace=frozenset({"totp"})))
    assert (tally(store, HOME), tally(store, AFAR)) == (Tally(beyond=2), Tally(2, later(0), LIMIT - SHARE))
