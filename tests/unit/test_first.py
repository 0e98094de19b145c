"""Who may enrol the first credential by `pam-mfa enroll`, and from where."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account, code_at, totp

from pam_mfa import first
from pam_mfa.config import EnrolFrom, FirstEnrolment, Settings
from pam_mfa.enroll import NO_TICKET, Caller, Desk, permit
from pam_mfa.errors import LookupFailed, RefusedError
from pam_mfa.origin import UNKNOWN, Facts, Origin, Sessions
from pam_mfa.store.base import FindAccount
from pam_mfa.store.rows import Account

CLOCK = Clock()
PHONE = totp()
OFFICE, SSHD = EnrolFrom(networks=(ip_network("192.0.2.0/24"),)), EnrolFrom(services=("sshd", "gdm-*"))
BY_SSH = Facts(peer_remote=True, service="sshd", host="192.0.2.7")


def ask(settings: Settings, world: World, peer: int = ALICE) -> str:
    """What `permit` says: "" where the change may be made."""
    desk = Desk(Caller(SESSION, peer, ALICE, "alice", "host"), settings, FACTORS, CLOCK)
    found = world.store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    try:
        world.run(permit(desk, found))
    except RefusedError as refused:
        return refused.message
    return ""


@pytest.mark.parametrize(
    ("wanted", "known", "may"),
    [
        (EnrolFrom(), UNKNOWN, True),
        (OFFICE, BY_SSH, True),
        (OFFICE, Facts(peer_remote=True, service="sshd", host="198.51.100.7"), False),
        (OFFICE, Facts(peer_remote=True, service="sshd", host="pc7.office.example"), False),
        (OFFICE, Facts(peer_remote=True, service="sshd"), False),
        (OFFICE, Facts(peer_remote=False), True),  # who sits here is in all networks
        (OFFICE, Facts(owner=Sessions(True, False)), True),
        (OFFICE, Facts(owner=Sessions(True, True)), False),
        (OFFICE, UNKNOWN, False),
        (SSHD, BY_SSH, True),
        (SSHD, Facts(peer_remote=False, service="gdm-password"), True),
        (SSHD, Facts(peer_remote=False, service="login"), False),
        (SSHD, Facts(peer_remote=False), False),
        (SSHD, UNKNOWN, False),
        (EnrolFrom(services=("pam-mfa", "*mfa")), UNKNOWN, False),  # the request itself begins no session
    ],
)
def test_from_where(wanted: EnrolFrom, known: Facts, may: bool) -> None:
    settings = Settings(enrol_from=wanted, first_enrolment=FirstEnrolment.SELF)
    assert ask(settings, World(Memory(), facts=known)) == ("" if may else first.ELSEWHERE)


def test_a_logind_that_does_not_answer_is_nowhere() -> None:
    settings = Settings(enrol_from=OFFICE, first_enrolment=FirstEnrolment.SELF)
    assert ask(settings, World(Memory(), facts=BY_SSH, instead={0: LookupFailed("hangs")})) == first.ELSEWHERE


def test_the_place_comes_before_the_password() -> None:
    world = World(Memory(), ["correct horse"], passwords={"alice": "correct horse"}, facts=BY_SSH)
    assert ask(Settings(enrol_from=OFFICE), world) == ""
    assert world.kinds == ["Locate", "AskSecret", "CheckPassword"]
    world = World(Memory(), ["correct horse"], passwords={"alice": "correct horse"})
    assert ask(Settings(enrol_from=OFFICE), world) == first.ELSEWHERE
    assert world.asked == []


def test_root_and_whoever_has_a_credential_enrol_from_everywhere() -> None:
    settings = Settings(enrol_from=OFFICE, first_enrolment=FirstEnrolment.TICKET)
    world = World(Memory())
    assert (ask(settings, world, peer=0), world.wants) == ("", [])
    world = World(Memory(account(PHONE)), [code_at(PHONE, CLOCK())])
    assert ask(settings, world) == ""


def test_without_a_ticket_nobody_enrols_where_one_is_needed() -> None:
    world = World(Memory())
    assert NO_TICKET in ask(Settings(first_enrolment=FirstEnrolment.TICKET), world)
    assert world.asked == []


@pytest.mark.parametrize("sentence", [first.ELSEWHERE, NO_TICKET])
def test_they_say_what_to_do(sentence: str) -> None:
    assert "administrator" in sentence
    assert sentence.isascii()
    assert len(sentence) < 200


def test_nothing_listed_is_everywhere() -> None:
    for items in {"service": "", "host": ""}, {"service": "sshd", "host": "x"}:
        start: Any = first.Start(**items, where=Origin.REMOTE)
        assert first.from_there(EnrolFrom(), start)
