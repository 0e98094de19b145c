"""Logins that enrol their user: for whom and from where, what is shown, and what lets in afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any

import pyotp
import pytest
from flows import ALICE, BOB, Clock, Memory, World, account, ticket, totp
from newcomers import CALL, request, run

from pam_mfa.assessment import Request
from pam_mfa.config import EnrolFrom, FirstEnrolment, Settings
from pam_mfa.conversation import Aborted, Ask, Commit, GlassBroken, Show, Warn
from pam_mfa.errors import StoreError
from pam_mfa.origin import UNKNOWN, Facts
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.policy import Decision, Entry, decide
from pam_mfa.rollout import NEEDED
from pam_mfa.rules import FirstFactor, Rule, Subject
from pam_mfa.store.base import Announce, Enrol, Grace, Operation
from pam_mfa.store.rows import Account, Credential, Notice
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Tally

CODE = "Verification code: "
KEY = b"publickey ssh-ed25519 AAAA"
CLOCK = Clock()
ENROLS = Rule(enrol_at_login=True, help=CALL)


class Full(Memory):
    """A disk that takes what is in its place already, and nothing new."""

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        if isinstance(batch[0][0], Announce | Grace):
            raise StoreError("full")
        return super().apply(batch)


class Newcomer:
    """Alice, who has nothing, at a login; what she types is a function of the prompt."""

    def __init__(self, *answers: str | Callable[[str], str], given: Credential | None = None, **more: Any) -> None:
        self.store = Memory(*([account(given)] if given else []))
        self.world = World(self.store, answers or (self.app, ""), **more)

    def app(self, prompt: str) -> str:
        app = pyotp.parse_uri(re.findall(r"otpauth://\S+", prompt)[0])
        assert isinstance(app, pyotp.TOTP)
        self.secret, self.right = app.secret, app.at(CLOCK.wall)
        return self.right

    def run(self, settings: Settings | None = None, asks: Request | None = None) -> Verdict:
        return run(self.world, settings or Settings(ENROLS), asks)

    @property
    def enrolled(self) -> list[str]:
        held = self.store.accounts[ALICE].credentials if self.store.accounts else ()
        return [each.factor for each in held if each.factor != "ticket"]


def test_a_login_enrols_and_its_code_lets_in() -> None:
    alice = Newcomer()
    verdict = alice.run()
    (phone,) = alice.store.accounts[ALICE].of("totp")
    assert verdict == Verdict(Outcome.GRANTED, "proven_enrolled", "totp", phone.id, "totp 1")
    assert alice.enrolled == ["totp", "recovery"]
    assert alice.world.kinds == ["Read", "Tell", "Ask", "Commit", "Show", "Show", "Commit", "Ask"]
    assert alice.world.told == [NEEDED]


def test_all_that_has_to_be_seen_stands_in_prompts_of_plain_text() -> None:
    alice = Newcomer()
    alice.run()
    first, second = alice.world.asked
    assert f"Secret: {' '.join(re.findall('....', alice.secret))}\n" in first
    assert first.endswith("Code that the app shows now: ")
    codes = re.findall(r"(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}", second)
    assert len(set(codes)) == 10
    assert second.endswith("Press Enter to go on: ")
    for text in (NEEDED, first, second):
        assert text.isascii()
        assert len(text) < 3000  # measured: sshd takes that
    for code in codes[:1]:
        assert run(World(alice.store, [code]), Settings(ENROLS)).factor == "recovery"


def test_what_is_shown_as_a_record_holds_no_secret() -> None:
    alice = Newcomer()
    alice.run()
    records = [want.record for want in alice.world.wants if isinstance(want, Show)]
    assert [(r["kind"], r["factor"], r["label"]) for r in records] == [
        ("enrolled", "totp", "totp 1"), ("enrolled", "recovery", "recovery codes"),
    ]  # fmt: skip
    assert all(set(record) == {"kind", "id", "factor", "label"} for record in records)


def test_that_code_opens_nothing_else() -> None:
    alice = Newcomer()
    assert alice.run().outcome is Outcome.GRANTED
    assert run(World(alice.store, [alice.right] * 3), Settings(ENROLS)) == Verdict(Outcome.TRIES_SPENT, "replayed")


def test_a_code_that_another_session_used_first_lets_nobody_in() -> None:
    """Between the enrolment and its own attempt."""

    class Quick(Memory):
        def apply(self, batch: Any) -> Any:
            result = super().apply(batch)
            if isinstance(batch[0][0], Announce):
                (phone, _) = self.accounts[ALICE].credentials
                used = replace(phone, mark=phone.mark + 1)
                self._change(ALICE, credentials=(used, *self.accounts[ALICE].credentials[1:]))
            return result

    alice = Newcomer()
    alice.world.store = Quick()
    assert alice.run() == Verdict(Outcome.DENIED, "replayed")


def test_a_code_may_be_mistyped_twice() -> None:
    alice = Newcomer("000000", "nonsense", lambda prompt: alice.app(alice.world.asked[0]), "")
    assert alice.run().outcome is Outcome.GRANTED
    assert "check the clocks" in alice.world.asked[1]
    assert "otpauth" not in alice.world.asked[1]


def test_three_wrong_codes_enrol_nothing_and_let_nobody_in() -> None:
    alice = Newcomer("", "000000", "nonsense")
    assert alice.run() == Verdict(Outcome.TRIES_SPENT, "not_enrolled")
    assert alice.enrolled == []
    assert alice.world.operations == []
    assert alice.world.wants[-1] == Warn(CALL)


def test_who_gives_up_before_the_code_has_enrolled_nothing() -> None:
    alice = Newcomer(instead={2: Aborted()})
    assert alice.run().outcome is Outcome.ABORTED
    assert alice.enrolled == []


def test_who_gives_up_at_the_recovery_codes_is_enrolled_and_not_let_in() -> None:
    alice = Newcomer(instead={7: Aborted()})
    assert alice.run().outcome is Outcome.ABORTED
    assert alice.enrolled == ["totp", "recovery"]


def test_who_has_become_enrolled_meanwhile_does_not_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """S08."""
    alice = Newcomer()

    def late(prompt: str) -> str:
        alice.store.accounts[ALICE] = account(totp("theirs"))
        return alice.app(prompt)

    alice.world.type(late)
    assert alice.run() == Verdict(Outcome.UNAVAILABLE, "changed_meanwhile")
    assert alice.enrolled == ["totp"]
    (commit,) = (want for want in alice.world.wants if isinstance(want, Commit))
    (announced,) = commit.operations
    assert isinstance(announced, Announce)
    assert isinstance(announced.operation, Enrol)
    assert (announced.operation.expected, announced.operation.alone) == (frozenset(), True)


def test_first_the_logins_that_are_left() -> None:
    alice = Newcomer()
    settings = Settings(replace(ENROLS, logins_left=1))
    assert alice.run(settings).outcome is Outcome.EXEMPT
    assert alice.world.operations == [(Grace(ALICE, 1),)]
    alice.world.type(alice.app, "")
    assert alice.run(settings).outcome is Outcome.GRANTED


def refuses(alice: Newcomer, settings: Settings, asks: Request) -> bool:
    """Whether three codes are asked for as ever, and nothing is enrolled."""
    alice.world.type("", "", "", "")
    verdict = alice.run(settings, asks)
    if verdict.outcome is Outcome.GRANTED:
        return False
    assert (verdict.outcome, alice.world.asked[0]) == (Outcome.TRIES_SPENT, CODE)
    assert alice.enrolled == []
    assert NEEDED not in alice.world.told
    return True


@pytest.mark.parametrize(
    ("changes", "items"),
    [
        ({"first_factor": FirstFactor.NONE}, {}),
        ({"methods": ("fido2", "recovery")}, {}),
        ({"enrol_at_login": False}, {}),
        ({}, {"peer_uid": ALICE}),  # a lock screen: nobody knows what it asked for
        ({}, {"uid": None, "user": "mallory"}),
        ({"subject": Subject.CALLER}, {"service": "su", "user": "bob", "uid": BOB, "ruser": "alice"}),
    ],
)
def test_who_is_not_enrolled_in_a_login(changes: dict[str, Any], items: dict[str, Any]) -> None:
    assert refuses(Newcomer(), Settings(replace(ENROLS, **changes)), request(**items))


@pytest.mark.parametrize(
    ("first", "proven", "enrols"),
    [
        (FirstEnrolment.SELF, FirstFactor.STACK, True),
        (FirstEnrolment.SELF, FirstFactor.PUBLICKEY, True),
        (FirstEnrolment.PASSWORD, FirstFactor.STACK, True),
        (FirstEnrolment.PASSWORD, FirstFactor.PUBLICKEY, False),  # a key is no password
        (FirstEnrolment.TICKET, FirstFactor.STACK, False),
        (FirstEnrolment.TICKET, FirstFactor.PUBLICKEY, False),
    ],
)
def test_what_the_first_credential_costs(first: FirstEnrolment, proven: FirstFactor, enrols: bool) -> None:
    settings, asks = Settings(replace(ENROLS, first_factor=proven), first_enrolment=first), request(authinfo=(KEY,))
    if not enrols:
        assert refuses(Newcomer(), settings, asks)
    else:
        assert Newcomer().run(settings, asks).outcome is Outcome.GRANTED


TICKETS = Settings(ENROLS, first_enrolment=FirstEnrolment.TICKET)


def test_a_ticket_comes_before_the_enrolment_that_it_pays_for() -> None:
    alice = Newcomer("T" * 16, lambda prompt: alice.app(prompt), "", given=ticket())
    assert alice.run(TICKETS).reason == "proven_enrolled"
    assert alice.world.asked[0] == CODE
    assert alice.enrolled == ["totp", "recovery"]
    assert [each.mark for each in alice.store.accounts[ALICE].of("ticket")] == [1]


@pytest.mark.parametrize("given", [ticket(mark=1), ticket(valid=0), None], ids=["used", "over", "none"])
def test_without_a_ticket_that_counts_a_login_enrols_nobody(given: Credential | None) -> None:
    assert refuses(Newcomer("T" * 16, *["000000"] * 5, given=given), TICKETS, request())


def test_a_wrong_ticket_enrols_nobody() -> None:
    alice = Newcomer(*["X" * 16] * 3, given=ticket())
    assert alice.run(TICKETS).outcome is Outcome.TRIES_SPENT
    assert (alice.enrolled, NEEDED in alice.world.told) == ([], False)


def test_who_proved_a_ticket_and_enrols_nothing_gets_in_by_it() -> None:
    alice = Newcomer("T" * 16, *["000000"] * 3, given=ticket())
    verdict = alice.run(TICKETS)
    assert (verdict.outcome, verdict.factor, alice.enrolled) == (Outcome.GRANTED, "ticket", [])


def test_who_proved_a_ticket_gets_in_by_it_where_the_disk_is_full() -> None:
    alice = Newcomer("T" * 16, lambda prompt: alice.app(prompt), given=ticket())
    alice.world.store = alice.store = Full(account(ticket()))
    verdict = alice.run(TICKETS)
    assert (verdict.outcome, verdict.factor, alice.enrolled) == (Outcome.GRANTED, "ticket", [])
    alice = Newcomer()
    alice.world.store = Full()
    assert alice.run().outcome is Outcome.UNAVAILABLE


def test_the_log_names_the_ticket_that_paid() -> None:
    alice = Newcomer("T" * 16, lambda prompt: alice.app(prompt), "", given=ticket())
    alice.run(TICKETS)
    shown = [(want.record["kind"], want.record["factor"]) for want in alice.world.wants if isinstance(want, Show)]
    assert shown == [("proven", "ticket"), ("enrolled", "totp"), ("enrolled", "recovery")]


def test_a_break_glass_code_opens_one_login_and_enrols_nothing() -> None:
    taken = GlassBroken(0, "c0ffee00", "the safe")
    alice = Newcomer("B" * 32, given=ticket(), glass=lambda want: taken if want.digest else GlassBroken(1))
    verdict = alice.run(TICKETS)
    assert (verdict.outcome, verdict.factor, alice.enrolled) == (Outcome.GRANTED, "break-glass", [])


@pytest.mark.parametrize("failures", [FREE + 1, LIMIT])
def test_an_app_that_still_waits_or_is_locked_is_none_to_enrol(failures: int) -> None:
    alice = Newcomer(*["000000"] * 3)
    alice.store.accounts[ALICE] = Account(ALICE, "alice", (), {"totp": Tally(failures, CLOCK())})
    assert refuses(alice, Settings(ENROLS), request())


def test_its_user_hears_of_it_at_the_next_login() -> None:
    alice = Newcomer()
    alice.run()
    (announced,) = (
        op
        for want in alice.world.wants
        if isinstance(want, Commit)
        for op in want.operations[:1]
        if isinstance(op, Announce)
    )
    assert announced.notice == Notice(ALICE, "alice", "enrolled", 'totp "totp 1"', by_root=False, at=CLOCK.wall)


OFFICE, SSHD = EnrolFrom(networks=(ip_network("192.0.2.0/24"),)), EnrolFrom(services=("sshd", "gdm-*"))
FAR = {"service": "sshd", "tty": "ssh"}


@pytest.mark.parametrize(
    ("wanted", "items", "known", "enrols"),
    [
        (OFFICE, {**FAR, "rhost": "192.0.2.7"}, UNKNOWN, True),
        (OFFICE, {**FAR, "rhost": "::ffff:192.0.2.7"}, UNKNOWN, True),
        (OFFICE, {**FAR, "rhost": "198.51.100.7"}, UNKNOWN, False),
        (OFFICE, {**FAR, "rhost": "pc7.office.example"}, UNKNOWN, False),
        (OFFICE, FAR, UNKNOWN, False),
        (OFFICE, {**FAR, "rhost": "198.51.100.7"}, Facts(peer_remote=True, host="192.0.2.7"), False),
        # sudo within a session
        (OFFICE, {}, Facts(peer_remote=True, service="sshd", host="192.0.2.7"), True),
        (OFFICE, {}, Facts(peer_remote=True, service="sshd", host="198.51.100.7"), False),
        (OFFICE, {}, Facts(peer_remote=True), False),
        (OFFICE, {}, UNKNOWN, False),
        (OFFICE, {}, Facts(peer_remote=False), True),  # whoever sits here is in all networks
        (OFFICE, {"service": "login", "tty": "tty1"}, UNKNOWN, True),
        (SSHD, {**FAR, "rhost": "198.51.100.7"}, UNKNOWN, True),
        (SSHD, {"service": "login", "tty": "tty1"}, UNKNOWN, False),
        (SSHD, {}, Facts(peer_remote=True, service="sshd"), True),
        (SSHD, {}, Facts(peer_remote=False, service="gdm-password"), True),
        (SSHD, {}, Facts(peer_remote=False, service="login"), False),
        (SSHD, {}, UNKNOWN, False),
        (replace(OFFICE, services=("sshd",)), {**FAR, "rhost": "192.0.2.7"}, UNKNOWN, True),
        (replace(OFFICE, services=("sshd",)), {}, Facts(peer_remote=False, service="gdm-password"), False),
        (replace(OFFICE, services=("sshd",)), {**FAR, "rhost": "198.51.100.7"}, UNKNOWN, False),
    ],
)
def test_from_where(wanted: EnrolFrom, items: dict[str, Any], known: Facts, enrols: bool) -> None:
    settings = Settings(ENROLS, enrol_from=wanted)
    if not enrols:
        assert refuses(Newcomer(facts=known), settings, request(**items))
    else:
        assert Newcomer(facts=known).run(settings, request(**items)).outcome is Outcome.GRANTED


def test_logind_is_not_asked_where_it_changes_nothing() -> None:
    alice = Newcomer()
    alice.run()
    assert "Locate" not in alice.world.kinds
    assert isinstance(alice.world.wants[-1], Ask)


def test_the_decision_needs_a_first_factor() -> None:
    for proven in FirstFactor:
        decision = decide(replace(ENROLS, first_factor=proven), True, False, (KEY,), CLOCK())
        assert (decision == Decision(Entry.ENROL, "enrol_at_login")) is (proven is not FirstFactor.NONE)
