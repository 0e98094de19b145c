"""Leases (R15): whom a proof lets by again, and whom it does not: one thing changed, and everybody is asked."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, code_at
from lenders import BOBS, HERE, KEY, OFFICE, PHONE, SSH, SUDO, TEN, Scene
from stores import discard, make

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import Locate, Read
from pam_mfa.errors import LookupFailed
from pam_mfa.lease import kind
from pam_mfa.login import login
from pam_mfa.origin import UNKNOWN
from pam_mfa.outcome import Outcome
from pam_mfa.rules import FirstFactor, Match, Rule, Subject, UserVerification
from pam_mfa.store.base import FindLease
from pam_mfa.structure import replace


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(make(tmp_path / "state"))
    yield scene
    discard(scene.store)


def test_a_proof_holds_for_the_time_of_its_rule(scene: Scene) -> None:
    assert scene.asks()
    for _ in range(6):  # at 90 to 540 seconds
        assert not scene.asks()
    assert scene.asks()  # it was not prolonged by use
    assert not scene.asks()


def test_a_login_by_a_lease_writes_nothing(scene: Scene) -> None:
    scene.asks()
    before = scene.leases
    assert not scene.asks()
    assert scene.leases == before
    assert scene.world.operations == []
    assert scene.world.kinds == ["Read", "Locate", "Read"]


def test_without_a_lease_in_the_rule_nothing_is_looked_at_or_given(scene: Scene) -> None:
    assert scene.asks(SUDO, Rule())
    assert (scene.leases, "Locate" in scene.world.kinds) == ((), False)
    scene.asks()
    assert scene.asks(SUDO, Rule())
    assert scene.world.kinds.count("Read") == 1


# ---------------------------------------------------------------------------------------------- binding

ELSEWHERE: dict[str, tuple[Request, Rule, object]] = {
    "another terminal": (replace(SUDO, tty="/dev/pts/4"), TEN, HERE),
    "another login session": (SUDO, TEN, replace(HERE, session="4")),
    "another session of the kernel": (SUDO, TEN, replace(HERE, leader="4712 88123")),
    "the same number later": (SUDO, TEN, replace(HERE, leader="4711 88124")),
    "another kind of service": (replace(SUDO, service="su"), TEN, HERE),
    "another caller": (replace(SUDO, ruser="bob"), TEN, HERE),
    "another account": (replace(SUDO, user="bob", uid=BOB), TEN, HERE),
    "another rule": (SUDO, replace(TEN, name="other"), HERE),
    "other methods": (SUDO, replace(TEN, methods=("totp",)), HERE),
    "other user verification": (SUDO, replace(TEN, user_verification=UserVerification.REQUIRED), HERE),
    "no terminal": (replace(SUDO, tty=""), TEN, HERE),
    "no login session": (SUDO, TEN, replace(HERE, session="")),
    "no session of the kernel": (SUDO, TEN, replace(HERE, leader="")),
    "no logind": (SUDO, TEN, UNKNOWN),
    "logind says something else": (SUDO, TEN, "nonsense"),
    "from afar": (replace(SUDO, rhost="192.0.2.7"), TEN, HERE),
    "by ssh under another name": (replace(SUDO, tty="ssh"), TEN, HERE),
    "nothing proven before": (SUDO, replace(TEN, first_factor=FirstFactor.NONE), HERE),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_r15_one_thing_changed_and_everybody_is_asked(scene: Scene, what: str) -> None:
    assert scene.asks()
    request, rule, facts = ELSEWHERE[what]
    scene.login(request, rule, facts)
    assert scene.world.asked, what
    assert not scene.asks()


@pytest.mark.parametrize("what", [
    "no terminal", "no login session", "no session of the kernel", "no logind", "logind says something else",
    "from afar", "by ssh under another name", "nothing proven before",
])  # fmt: skip
def test_r15_what_is_missing_gives_none(scene: Scene, what: str) -> None:
    request, rule, facts = ELSEWHERE[what]
    for _ in range(2):
        assert scene.asks(request, rule, facts)
    assert scene.leases == ()


def test_r15_a_host_that_is_not_roots_gets_none(scene: Scene) -> None:
    locker = replace(SUDO, peer_uid=ALICE)
    assert scene.asks(locker)
    assert scene.leases == ()
    assert scene.asks()
    assert scene.asks(locker)


def test_r15_a_boot_ends_them(scene: Scene) -> None:
    scene.asks()
    scene.clock.boot_id = "3f1c9d0e-0000-4000-8000-000000000002"
    assert scene.asks()
    assert len(scene.leases) == 1  # what is of another boot goes with the next one


@pytest.mark.parametrize("seconds", [-86400 * 365, -600, 600, 86400 * 365])
def test_r15_the_wall_clock_does_nothing(scene: Scene, seconds: int) -> None:
    scene.asks()
    scene.clock.wall += seconds
    assert not scene.asks()


def test_r15_a_logind_that_hangs_gives_none(scene: Scene) -> None:
    def slow(number: int) -> dict[int, Any]:
        return {number: LookupFailed("no answer in time")}

    assert scene.asks(instead=slow(1))
    assert isinstance(scene.world.wants[1], Locate)
    assert scene.leases == ()


def test_the_same_rule_for_sudo_and_sudo_i(scene: Scene) -> None:
    scene.asks()
    assert not scene.asks(replace(SUDO, service="sudo-i"))
    assert [kind(service) for service in ("sudo", "sudo-i", "su", "su-l", "login", "sudo-x")] == [
        "sudo", "sudo", "su", "su", "login", "sudo-x",
    ]  # fmt: skip


def test_whose_factor_it_was_counts_with_the_account(scene: Scene) -> None:
    rule = replace(TEN, subject=Subject.CALLER)
    su = Request(SESSION, 0, "su", "bob", BOB, ruser="alice", tty="/dev/pts/3")
    answer = code_at(PHONE, Clock(scene.clock.wall + 90)())
    assert scene.login(su, rule, HERE, answer).outcome is Outcome.GRANTED
    (lease,) = scene.leases
    assert (lease.service, lease.place, lease.user) == ("su", "/dev/pts/3", "bob")
    assert scene.login(su, rule).reason == "lease"
    bobs = code_at(BOBS, Clock(scene.clock.wall + 90)())
    assert scene.asks(su, replace(rule, subject=Subject.USER), HERE, bobs)
    assert scene.login(replace(su, user="carol", uid=1002), rule, HERE, *("",) * 3).outcome is Outcome.TRIES_SPENT


@pytest.mark.parametrize("account", [{"user": "bert"}, {"uid": 1234}])
def test_r15_the_account_that_is_entered_is_the_same_by_name_and_number(scene: Scene, account: dict[str, Any]) -> None:
    rule = replace(TEN, subject=Subject.CALLER)
    su = Request(SESSION, 0, "su", "bob", BOB, ruser="alice", tty="/dev/pts/3")

    def asks(request: Request) -> bool:
        return scene.asks(request, rule, HERE, code_at(PHONE, Clock(scene.clock.wall + 90)()))

    assert asks(su)
    assert asks(replace(su, **account))
    assert not asks(su)


# ------------------------------------------------------------------------------------------------- sshd

AFAR: dict[str, tuple[Request, Rule]] = {
    "another address": (replace(SSH, rhost="192.0.2.8"), OFFICE),
    "another key": (replace(SSH, authinfo=(KEY + b"x",)), OFFICE),
    "a key more": (replace(SSH, authinfo=(KEY, KEY + b"x")), OFFICE),
    "no key": (replace(SSH, authinfo=()), OFFICE),
    "a password": (replace(SSH, authinfo=(b"password",)), OFFICE),
    "no network in the rule": (SSH, replace(OFFICE, match=Match(services=("sshd",)))),
    "another network in the rule": (SSH, replace(OFFICE, match=Match(networks=(ip_network("198.51.100.0/24"),)))),
    "not by root": (replace(SSH, peer_uid=ALICE), OFFICE),
}


def test_sshd_from_a_network_with_a_key(scene: Scene) -> None:
    assert scene.asks(SSH, OFFICE)
    assert not scene.asks(SSH, OFFICE)
    assert not scene.asks(replace(SSH, authinfo=(b"password", KEY)), OFFICE, UNKNOWN)  # logind has no say
    assert [(lease.service, lease.place) for lease in scene.leases] == [("sshd", "192.0.2.7")]


@pytest.mark.parametrize("what", AFAR)
def test_r15_sshd_with_one_thing_changed_asks(scene: Scene, what: str) -> None:
    assert scene.asks(SSH, OFFICE)
    scene.login(*AFAR[what])
    assert scene.world.asked, what
    assert not scene.asks(SSH, OFFICE)


@pytest.mark.parametrize("what", list(AFAR)[3:])
def test_r15_sshd_without_network_or_key_gives_none(scene: Scene, what: str) -> None:
    for _ in range(2):
        assert scene.asks(*AFAR[what])
    assert scene.leases == ()


# --------------------------------------------------------------------------------- never even looked for


def looks(world: World) -> bool:
    """Whether a lease was looked for."""
    return any(isinstance(want, Read) and isinstance(want.query, FindLease) for want in world.wants)


@pytest.mark.parametrize("what", ["no terminal", "no login session", "no logind", "nothing proven before"])
def test_where_there_can_be_none_none_is_looked_for(scene: Scene, what: str) -> None:
    scene.asks(*ELSEWHERE[what])
    assert not looks(scene.world)


def test_who_is_refused_has_none(scene: Scene) -> None:
    """The rule came to demand a key that only sshd can show."""
    assert scene.asks()
    verdict = scene.login(SUDO, replace(TEN, first_factor=FirstFactor.PUBLICKEY))
    assert (verdict.outcome, verdict.reason, looks(scene.world)) == (Outcome.DENIED, "no_public_key", False)


def test_who_has_nothing_enrolled_has_none() -> None:
    """Whatever the store says."""
    world = World(Memory(lent=Clock().boot), [""] * 3, facts=HERE)
    assert world.run(login(SUDO, Settings(TEN), FACTORS, Clock())).outcome is Outcome.TRIES_SPENT
    assert not looks(world)
