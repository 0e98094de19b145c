"""What ends a lease, what gives none, how it lies in the store and is shown; and what scripts are told (R15, R16)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, CODES, FACTORS, SESSION, Clock, World, code_at
from lenders import BLUE, BOBS, HERE, OFFICE, PHONE, SPARE, SSH, SUDO, TABLET, TEN, Scene
from stores import discard, do, make, raw

from pam_mfa.assessment import Assessment, Request
from pam_mfa.config import Settings
from pam_mfa.conversation import Steps
from pam_mfa.enroll import Caller, Desk
from pam_mfa.errors import NameMismatch, RefusedError, StoreError
from pam_mfa.lease import hint, holds, lending
from pam_mfa.leases import end_leases, list_leases
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.policy import Decision, Entry, Facts as About
from pam_mfa.rules import FirstFactor, Rule, Unenrolled
from pam_mfa.store.base import (
    Attempt,
    Count,
    EndLeases,
    Enrol,
    FindAccount,
    FindLease,
    Lend,
    ListLeases,
    Remove,
    Rename,
    Tried,
    Unlock,
)
from pam_mfa.store.rows import Lease
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(make(tmp_path / "state"))
    yield scene
    discard(scene.store)


# --------------------------------------------------------------------------------------------- its end


def test_time_is_the_shorter_of_what_was_said_and_is_said() -> None:
    lease, now = Lease("sudo", "pts/3", "alice", 5_000, 5_600, Clock().boot_id), Clock()

    def at(boot: int) -> Any:
        now.boot = boot
        return now()

    assert [holds(lease, TEN, at(boot)) for boot in (4_999, 5_000, 5_599, 5_600)] == [False, True, True, False]
    assert [holds(lease, replace(TEN, lease=60), at(boot)) for boot in (5_059, 5_060)] == [True, False]
    assert not holds(lease, replace(TEN, lease=3600), at(5_600))
    assert not holds(lease, Rule(), at(5_000))
    now.boot_id = "another"
    assert not holds(lease, TEN, at(5_000))


ENDS: dict[str, Any] = {
    "remove": Remove(ALICE, TABLET.id),
    "the one that was used is removed": Remove(ALICE, PHONE.id),
    "replace": Enrol((replace(SPARE, id="c0de" * 7 + "0000"),), frozenset({"recovery"})),
    "unlock": Unlock(ALICE),
    "revoke": EndLeases(ALICE),
    "revoke all": EndLeases(None),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_ends_leases(scene: Scene, what: str) -> None:
    scene.asks()
    do(scene.store, ENDS[what])
    assert scene.leases == ()
    code = code_at(
        TABLET if PHONE.id == getattr(ENDS[what], "credential", "") else PHONE, Clock(scene.clock.wall + 90)()
    )
    assert scene.asks(SUDO, TEN, HERE, code)


@pytest.mark.parametrize("operation", [Rename(ALICE, PHONE.id, "new"), Remove(BOB, BOBS.id), EndLeases(BOB)])
def test_what_does_not(scene: Scene, operation: Any) -> None:
    scene.asks()
    do(scene.store, operation)
    assert not scene.asks()


def test_the_failure_after_which_one_has_to_wait_ends_them(scene: Scene) -> None:
    """Also where it is that of another factor, at another door."""
    scene.asks()
    door = replace(SUDO, service="login", tty="tty1")
    for count in range(FREE + 1):
        assert len(scene.leases) == 1, count
        do(scene.store, Attempt(ALICE, "recovery", None, scene.clock()))
    assert scene.leases == ()
    assert scene.asks(door)


def test_what_may_be_a_copied_key_ends_them(scene: Scene) -> None:
    do(scene.store, Enrol((BLUE,)))
    scene.asks()
    for tolerant, tried in ((True, Tried.TOLERATED), (False, Tried.CLONE)):
        assert len(scene.leases) == 1
        do(scene.store, Attempt(ALICE, "fido2", Count(BLUE.id, 7, tolerant=True), scene.clock()))
        assert do(scene.store, Attempt(ALICE, "fido2", Count(BLUE.id, 6, tolerant), scene.clock())) == (tried,)
    assert scene.leases == ()


def test_a_recovery_code_gives_none(scene: Scene) -> None:
    assert scene.login(SUDO, TEN, HERE, CODES[0]).factor == "recovery"
    assert scene.leases == ()


@pytest.mark.parametrize(
    ("verdict", "given"),
    [
        (Verdict(Outcome.GRANTED, "proven", "totp", PHONE.id), True),
        (Verdict(Outcome.GRANTED, "proven", "fido2", BLUE.id), True),
        (Verdict(Outcome.GRANTED, "proven", "smartcard", PHONE.id), False),  # nobody has that one
        (Verdict(Outcome.GRANTED, "proven", "recovery", SPARE.id), False),
        (Verdict(Outcome.GRANTED, "proven"), False),
        (Verdict(Outcome.EXEMPT, "exempt", "totp", PHONE.id), False),
        (Verdict(Outcome.DENIED, "wrong", "totp", PHONE.id), False),
        (Verdict(Outcome.TRIES_SPENT, "wrong", "totp", PHONE.id), False),
        (Verdict(Outcome.UNAVAILABLE, "no_proof", "totp", PHONE.id), False),
    ],
)
def test_what_gives_one(scene: Scene, verdict: Verdict, given: bool) -> None:
    do(scene.store, Enrol((BLUE,)))
    account = scene.store.read(FindAccount(ALICE, "alice"))
    found = Assessment(
        TEN, Decision(Entry.PROVE, "enrolled"), ALICE, "alice", account, About("sudo"), bound=("a", "place")
    )

    def proving() -> Steps[Verdict]:
        yield from ()
        return verdict

    assert World(scene.store).run(lending(SUDO, found, scene.clock, proving())) == verdict
    assert bool(scene.leases) is given
    assert World(scene.store).run(lending(SUDO, replace(found, bound=()), scene.clock, proving())) == verdict
    assert len(scene.leases) == given


def test_whoever_is_refused_or_exempt_gets_none(scene: Scene) -> None:
    assert scene.login(SUDO, TEN, HERE, "", "", "").outcome is Outcome.TRIES_SPENT
    assert scene.login(SUDO, replace(TEN, exempt=True)).reason == "exempt"
    carol = Request(SESSION, 0, "sudo", "carol", 1002, tty="/dev/pts/3")
    assert scene.login(carol, replace(TEN, unenrolled=Unenrolled.ALLOW)).reason == "unenrolled_allowed"
    assert scene.login(carol, TEN, HERE, "", "", "").outcome is Outcome.TRIES_SPENT
    assert scene.login(replace(carol, uid=None), TEN, HERE, "", "", "").outcome is Outcome.TRIES_SPENT
    assert "Locate" not in scene.world.kinds
    assert (scene.leases, scene.store.read(ListLeases(1002))) == ((), ())


# -------------------------------------------------------------------------------------------- the store


def test_a_credential_that_is_removed_meanwhile_gives_none(scene: Scene) -> None:
    """Between the proof and the lease (R16)."""

    def run() -> Verdict:
        flow = login(SUDO, Settings(TEN), FACTORS, scene.clock)
        world = World(scene.store, [code_at(PHONE, scene.clock())], facts=HERE)
        original = world._commit

        def commit(operations: tuple[object, ...]) -> Any:
            if isinstance(operations[0], Lend):
                do(scene.store, Remove(ALICE, PHONE.id))
            return original(operations)

        world._commit = commit  # type: ignore[method-assign]
        return world.run(flow)

    assert run().outcome is Outcome.GRANTED
    assert scene.leases == ()


def test_a_disk_without_room_refuses_the_lease_and_not_the_login(scene: Scene) -> None:
    full = {5: StoreError("full")}
    assert scene.asks(instead=full)
    assert isinstance(scene.world.wants[5].operations[0], Lend)  # type: ignore[union-attr]
    assert scene.asks()


@pytest.mark.parametrize("statement", [
    "UPDATE lease SET ends = ends + 86400",
    "UPDATE lease SET began = began + 60, ends = ends + 60",
    "UPDATE lease SET began = began + 1",
    "UPDATE lease SET sealed = zeroblob(60)",
    "UPDATE lease SET sealed = zeroblob(3)",
    "UPDATE lease SET uid = 1001",
    "UPDATE lease SET boot_id = '3f1c9d0e-0000-4000-8000-000000000003'",
    "UPDATE lease SET tag = zeroblob(32)",
])  # fmt: skip
def test_who_can_write_the_file_forges_none(scene: Scene, statement: str) -> None:
    scene.asks()
    raw(scene.path, statement)
    assert scene.asks()


def test_one_that_holds_is_not_moved_to_a_binding_that_had_one(scene: Scene) -> None:
    scene.asks()
    with closing(sqlite3.connect(scene.path)) as db:
        ((before,),) = db.execute("SELECT hex(tag) FROM lease").fetchall()
    scene.clock.sleep(600)
    scene.asks(replace(SUDO, tty="/dev/pts/4"))
    raw(scene.path, f"UPDATE lease SET tag = x'{before}'")
    assert scene.asks()


def test_one_binding_is_another_one_of_each_account_and_boot(scene: Scene) -> None:
    bound, boot_id = ("the", "same"), scene.clock.boot_id
    lease = Lease("sudo", "/dev/pts/3", "root", 5_000, 5_600, boot_id)
    for uid, phone in ((ALICE, PHONE), (BOB, BOBS)):
        assert do(scene.store, Lend(uid, "totp", phone.id, bound, lease)) == (True,)
    assert scene.store.read(FindLease(ALICE, bound, boot_id)) == lease
    assert scene.store.read(FindLease(ALICE, bound, "3f1c9d0e-0000-4000-8000-000000000002")) is None
    with closing(sqlite3.connect(scene.path)) as db:
        assert db.execute("SELECT count(DISTINCT tag) FROM lease").fetchone() == (2,)


def test_an_account_has_sixteen_at_most(scene: Scene) -> None:
    long = replace(TEN, lease=12 * 3600)
    for number in range(20):
        assert scene.asks(replace(SUDO, tty=f"/dev/pts/{number}"), long)
    assert [lease.place for lease in scene.leases] == [f"/dev/pts/{number}" for number in range(4, 20)]
    assert not scene.asks(replace(SUDO, tty="/dev/pts/4"), long)
    assert scene.asks(replace(SUDO, tty="/dev/pts/3"), long)


def test_what_is_over_goes_with_the_next_one(scene: Scene) -> None:
    scene.asks()
    scene.clock.sleep(600)
    scene.asks(replace(SUDO, tty="/dev/pts/9"))
    assert [lease.place for lease in scene.leases] == ["/dev/pts/9"]


def test_nothing_in_the_file_says_what_it_is_for(scene: Scene) -> None:
    scene.asks()
    query = FindLease(ALICE, ("x",), scene.clock.boot_id)
    assert scene.store.read(query) is None
    discard(scene.store)
    written = b"".join(path.read_bytes() for path in Path(scene.path).parent.iterdir())
    assert b"pts/3" not in written


# ----------------------------------------------------------------------------------- shown, and ended


def manage(scene: Scene, flow: Any, peer: int = ALICE, **args: Any) -> list[Mapping[str, Any]]:
    desk = Desk(Caller(SESSION, peer, ALICE, "alice", "host"), Settings(), FACTORS, scene.clock)
    world = World(scene.store)
    world.run(flow(desk, args))
    return world.records


def test_the_list_shows_those_that_hold(scene: Scene) -> None:
    scene.asks()
    scene.clock.sleep(100)
    shown = {"kind": "lease", "service": "sudo", "place": "/dev/pts/3", "user": "alice"}
    assert manage(scene, list_leases) == [{**shown, "left": 500}]
    scene.clock.sleep(500)
    assert manage(scene, list_leases) == []
    scene.clock.boot_id = "3f1c9d0e-0000-4000-8000-000000000002"
    scene.clock.boot = 5_100
    assert manage(scene, list_leases) == []


def test_whose_uid_it_was_before_is_not_shown(scene: Scene) -> None:
    scene.asks()
    desk = Desk(Caller(SESSION, ALICE, ALICE, "mallory", "host"), Settings(), FACTORS, scene.clock)
    world = World(scene.store)
    with pytest.raises(NameMismatch):
        world.run(list_leases(desk, {}))
    assert world.records == []


def test_one_ends_ones_own_and_root_everybodys(scene: Scene) -> None:
    scene.asks()
    bob = Request(SESSION, 0, "sudo", "bob", BOB, ruser="bob", tty="/dev/pts/3")
    scene.asks(bob)
    assert manage(scene, end_leases) == [{"kind": "leases_ended", "ended": 1, "everybody": False}]
    assert manage(scene, end_leases) == [{"kind": "leases_ended", "ended": 0, "everybody": False}]
    assert not scene.asks(bob)
    with pytest.raises(RefusedError):
        manage(scene, end_leases, all=True)
    assert not scene.asks(bob)
    assert manage(scene, end_leases, peer=0, all=True) == [{"kind": "leases_ended", "ended": 1, "everybody": True}]
    assert scene.asks(bob)


# ---------------------------------------------------------------------------------- without a terminal


def test_a_script_is_told_before_it_is_asked(scene: Scene) -> None:
    script = replace(SUDO, tty="")
    assert scene.asks(script)
    (told,) = scene.world.told
    assert (
        told
        == hint(script, TEN)
        == ("No terminal to ask on: use one (ssh -t), where a proof holds for 10 min, also for scripts")
    )
    assert scene.world.kinds.index("Warn") < scene.world.kinds.index("AskSecret")


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (SUDO, TEN),
        (replace(SUDO, tty=""), Rule()),
        (replace(SUDO, tty=""), replace(TEN, first_factor=FirstFactor.NONE)),
        (replace(SUDO, tty="", service="polkit-1"), TEN),
        (replace(SSH, tty=""), OFFICE),
        (replace(SUDO, tty="", peer_uid=ALICE), TEN),
    ],
)
def test_nobody_else_is(request_: Request, rule: Rule) -> None:
    assert hint(request_, rule) == ""


def test_it_is_not_about_the_account(scene: Scene) -> None:
    nobody = replace(SUDO, user="nobody", uid=None, ruser="nobody", tty="")
    scene.login(nobody, TEN, HERE, "", "", "")
    assert scene.world.told[:1] == [hint(replace(SUDO, tty=""), TEN)]
