"""When a key that sshd has seen counts as the second factor, and every case in which it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, account, code_at, recovery, totp
from key_files import POINT
from ssh_keys import KINDS, authinfo, blob, certificate, held

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import About
from pam_mfa.credit import credited, stands
from pam_mfa.errors import StoreError
from pam_mfa.factors.base import Ceremony, Place
from pam_mfa.factors.ssh_public import ECDSA
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import FirstFactor, Rule, Subject, Unenrolled, UserVerification
from pam_mfa.store.base import Attempt, Noted
from pam_mfa.store.rows import Account, Credential
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Tally

KEY, PHONE = held(), totp()
PLAIN = b"publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/////////////////////////////////////////w"
RULE = Rule(("totp", "recovery"), credit_ssh_keys=True)
SETTINGS = Settings(RULE, sshd_touch_required=True)
ASKS = Request(SESSION, 0, "sshd", "alice", ALICE, rhost="192.0.2.7", tty="ssh", authinfo=(authinfo(blob()),))
VERIFYING = replace(SETTINGS, policy=replace(RULE, user_verification=UserVerification.REQUIRED))
WRONG = ["000000"] * 3


def log_in(
    request: Request = ASKS, settings: Settings = SETTINGS, of: Account | None = None, answers: list[str] = WRONG
) -> tuple[Verdict, World]:
    world = World(Memory(of or account(KEY, PHONE)), answers, groups={"alice": ()})
    return world.run(login(request, settings, FACTORS, Clock())), world


def denied(*args: Any, **more: Any) -> None:
    """As if there were no key at all: the prompts follow, and a right code still opens."""
    verdict, world = log_in(*args, **more)
    assert verdict.outcome is Outcome.TRIES_SPENT
    assert len(world.asked) == 3
    of = more.get("of") or account(KEY, PHONE)
    if of.of("totp"):
        right, _ = log_in(*args, **more | {"answers": [code_at(PHONE, Clock()())]})
        assert (right.outcome, right.factor) == (Outcome.GRANTED, "totp")


def test_a_key_that_sshd_has_seen_opens_without_a_word() -> None:
    verdict, world = log_in(answers=[])
    assert verdict == Verdict(Outcome.GRANTED, "proven", "ssh-key", KEY.id, "laptop")
    assert world.told == world.asked == []
    assert world.operations == [(Attempt(ALICE, "ssh-key", Noted(KEY.id), Clock()(), "192.0.2.7"),)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [blob, certificate])
def test_a_key_and_a_certificate_over_it(kind: bytes, form: Callable[..., bytes]) -> None:
    asks = replace(ASKS, authinfo=(authinfo(form(kind)),))
    assert log_in(asks, of=account(held(blob(kind))))[0].outcome is Outcome.GRANTED


def test_any_line_of_sshds_counts() -> None:
    lines = b"password", PLAIN, authinfo(blob(ECDSA)), authinfo(blob()), b"publickey ???"
    assert log_in(replace(ASKS, authinfo=lines))[0].outcome is Outcome.GRANTED


@pytest.mark.parametrize("first_factor", FirstFactor)
def test_whatever_was_proven_before(first_factor: FirstFactor) -> None:
    settings = replace(SETTINGS, policy=replace(RULE, first_factor=first_factor))
    assert log_in(settings=settings)[0].outcome is Outcome.GRANTED


REQUESTS = {
    "another service": replace(ASKS, service="sudo"),
    "a service with a longer name": replace(ASKS, service="sshd-of-mine"),
    "no key": replace(ASKS, authinfo=()),
    "a plain key": replace(ASKS, authinfo=(PLAIN,)),
    "another key": replace(ASKS, authinfo=(authinfo(blob(ECDSA)),)),
    "another application": replace(ASKS, authinfo=(authinfo(blob(application=b"ssh:x")),)),
    "another method": replace(ASKS, authinfo=(authinfo(blob()).replace(b"publickey", b"hostbased"),)),
    "something behind it": replace(ASKS, authinfo=(authinfo(blob()) + b" x",)),
    "bytes behind it": replace(ASKS, authinfo=(authinfo(blob() + b"x"),)),
    "another curve": replace(ASKS, authinfo=(authinfo(blob(ECDSA, point=b"\4" + POINT)),)),
    "no base64": replace(ASKS, authinfo=(authinfo(blob()) + b"\xff",)),
    "too long": replace(ASKS, authinfo=(authinfo(blob()) + b"A" * 4096,)),
    "a certificate for no touch": replace(ASKS, authinfo=(authinfo(certificate(extensions=[b"no-touch-required"])),)),
    "a host's certificate": replace(ASKS, authinfo=(authinfo(certificate(of=2)),)),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_what_is_shown_does_not_count(request_: Request) -> None:
    denied(request_)


POLICIES = {
    "the rule gives none": replace(SETTINGS, policy=replace(RULE, credit_ssh_keys=False)),
    "nobody says that sshd demands a touch": replace(SETTINGS, sshd_touch_required=False),
    "the key does not verify": VERIFYING,
}


@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_the_settings_do_not_let_it_count(settings: Settings) -> None:
    denied(settings=settings)


def test_a_key_that_verifies_counts_where_that_is_wanted() -> None:
    assert log_in(settings=VERIFYING, of=account(held(verified=True)))[0].outcome is Outcome.GRANTED


@pytest.mark.parametrize(
    "of", [account(PHONE), account(PHONE, held(blob(ECDSA))), account(PHONE, replace(KEY, factor="fido2"))]
)
def test_a_key_that_is_not_enrolled_does_not_count(of: Account) -> None:
    denied(of=of)


def test_somebody_elses_key_does_not_count() -> None:
    store = Memory(account(PHONE), account(held(uid=BOB, user="bob"), uid=BOB))
    world = World(store, WRONG)
    assert world.run(login(ASKS, SETTINGS, FACTORS, Clock())).outcome is Outcome.TRIES_SPENT


def test_a_peer_that_is_not_root_is_believed_nothing() -> None:
    verdict, world = log_in(replace(ASKS, peer_uid=ALICE))
    assert (verdict.outcome, len(world.asked)) == (Outcome.TRIES_SPENT, 3)


def test_an_unknown_account_has_none() -> None:
    verdict, world = log_in(replace(ASKS, uid=None))
    assert (verdict.outcome, len(world.asked)) == (Outcome.TRIES_SPENT, 3)


def test_a_callers_key_opens_nobody_elses_account() -> None:
    """Whose factor it is has to be whose account is entered: for that one sshd took the key."""
    settings = replace(SETTINGS, policy=replace(RULE, subject=Subject.CALLER))
    world = World(Memory(account(KEY, PHONE)), WRONG)
    asks = replace(ASKS, user="bob", uid=BOB, ruser="alice", rhost="")
    assert world.run(login(asks, settings, FACTORS, Clock())).outcome is Outcome.TRIES_SPENT
    assert [want.user for want in world.wants if isinstance(want, About)] == ["alice"]


@pytest.mark.parametrize("failures", [FREE + 1, LIMIT])
def test_it_waits_as_every_factor_does(failures: int) -> None:
    of = replace(account(KEY, PHONE), tallies={"ssh-key": Tally(failures, Clock()()), "totp": Tally()})
    denied(of=of)
    waiting = replace(ceremony(KEY), account=of)
    assert credited(ASKS, SETTINGS, waiting) is None


def test_a_key_that_is_removed_meanwhile_does_not_count() -> None:
    """R16."""

    class Removed(Memory):
        def apply(self, batch: Any) -> Any:
            self.accounts[ALICE] = replace(self.accounts[ALICE], credentials=(PHONE,))
            return super().apply(batch)

    world = World(Removed(account(KEY, PHONE)), WRONG)
    verdict = world.run(login(ASKS, SETTINGS, FACTORS, Clock()))
    assert (verdict.outcome, len(world.asked)) == (Outcome.TRIES_SPENT, 3)


def test_what_cannot_be_noted_is_not_granted() -> None:
    world = World(Memory(account(KEY, PHONE)))
    flow = login(ASKS, SETTINGS, FACTORS, Clock())
    world.instead = {1: StoreError("full")}
    with pytest.raises(StoreError):
        world.run(flow)
    assert world.kinds == ["Read", "Commit", "BreakGlass"]  # and there is no code


@pytest.mark.parametrize("outcome", ["exempt", "refused"])
def test_it_changes_nothing_where_nothing_is_asked(outcome: str) -> None:
    changes: dict[str, Any] = {"exempt": True} if outcome == "exempt" else {"first_factor": FirstFactor.PUBLICKEY}
    asks = ASKS if outcome == "exempt" else replace(ASKS, authinfo=())
    verdict, world = log_in(asks, replace(SETTINGS, policy=replace(RULE, **changes)))
    assert verdict.outcome is (Outcome.EXEMPT if outcome == "exempt" else Outcome.DENIED)
    assert world.operations == []


def test_who_has_nothing_but_a_key_has_enrolled() -> None:
    """So an exemption for those who have not is none of theirs, here as elsewhere."""
    settings = replace(SETTINGS, policy=replace(RULE, unenrolled=Unenrolled.ALLOW))
    assert log_in(settings=settings, of=account(KEY))[0].outcome is Outcome.GRANTED
    denied(replace(ASKS, service="sudo"), settings, of=account(KEY))


def ceremony(*credentials: Credential, rule: Rule = RULE, uid: int | None = ALICE) -> Ceremony:
    return Ceremony(SESSION, uid, account(*credentials), Clock(), place=Place(service="sshd", rule=rule))


@pytest.mark.parametrize(
    ("request_", "settings", "of", "state"),
    [
        (ASKS, SETTINGS, ceremony(KEY), "credited"),
        (replace(ASKS, authinfo=()), SETTINGS, ceremony(KEY), "not seen"),
        (ASKS, SETTINGS, ceremony(PHONE), "not enrolled"),
        (ASKS, SETTINGS, ceremony(KEY, uid=None), "not enrolled"),
        (ASKS, replace(SETTINGS, sshd_touch_required=False), ceremony(KEY), "sshd not trusted"),
        (ASKS, VERIFYING, ceremony(KEY, rule=VERIFYING.policy), "not seen"),
        (replace(ASKS, service="sudo"), SETTINGS, ceremony(KEY), None),
        (ASKS, SETTINGS, ceremony(KEY, rule=Rule()), None),
    ],
)
def test_how_it_stands(request_: Request, settings: Settings, of: Ceremony, state: str | None) -> None:
    assert stands(request_, settings, of) == ({"ssh-key": state} if state else {})


def test_looking_changes_no_reason() -> None:
    """What is said of a login without such a key is what was said before there were any."""
    for of in (ceremony(PHONE), ceremony(recovery()), ceremony(held(blob(ECDSA)))):
        assert credited(ASKS, SETTINGS, of) is None
        assert of.reason == "unenrolled"
