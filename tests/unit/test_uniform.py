"""`first_factor = "none"`: whoever is asked without the owner's key or code learns nothing of an account."""

from __future__ import annotations

from typing import Any

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account
from keyflows import PHONE, PLACE, enrolled, run
from softkey import SoftKey

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.conversation import DeviceGone, DeviceReply, DeviceTouch, Expired, Skipped, Wait
from pam_mfa.devices.base import Assert, Asserted, Failed, Failure, Idle, Strange, Touch, Transport
from pam_mfa.factors.base import Ceremony
from pam_mfa.login import login, prove
from pam_mfa.outcome import Verdict
from pam_mfa.rules import FirstFactor, LocalKey, Rule
from pam_mfa.store.rows import Account
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Tally

UNIFORM = replace(PLACE, rule=Rule(first_factor=FirstFactor.NONE))


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


def forged(request: object) -> DeviceReply:
    """A stranger's own key that says it is the one that was asked for."""
    assert isinstance(request, Assert)
    return DeviceReply(Asserted(1, Transport.USB, "", request.wanted[0].credential_id, bytes(37), bytes(70), b""))


DEVICES: list[list[Any]] = [
    [DeviceReply(Idle(0)), Expired()],
    [DeviceReply(Strange(3, "another's")), DeviceReply(Idle(1)), Expired()],
    [DeviceTouch(Touch(1, False)), Expired(), Expired()],
    [DeviceTouch(Touch(1, True)), forged, Expired()],
    [DeviceReply(Failed(1, Failure.BUSY)), Expired()],
    [DeviceGone("gone")],
    [Skipped()],
]


@pytest.mark.parametrize("device", DEVICES, ids=range(len(DEVICES)))
def test_nobody_learns_who_has_a_key(key: SoftKey, device: list[Any]) -> None:
    """R09: the same wants and words for who has one, must wait, has none, or does not exist."""
    of = account(enrolled(key), PHONE)
    waiting = replace(of, tallies=dict.fromkeys(of.tallies, Tally(LIMIT, Clock()())))
    seen = []
    for who, uid in ((of, ALICE), (waiting, ALICE), (Account(ALICE, "alice"), ALICE), (account(PHONE), None)):
        world = World(Memory(who), [""] * 3, device=device)
        ceremony = Ceremony(SESSION, uid, who, Clock(), place=UNIFORM)
        assert world.run(prove(ceremony, ("fido2", "totp"), FACTORS)) is None
        seen.append((world.kinds, world.told, world.asked, ceremony.tries))
    assert seen == [seen[0]] * 4
    assert not any("blue nano" in text for text in seen[0][1])


@pytest.mark.parametrize("first", list(FirstFactor))
@pytest.mark.parametrize("device", DEVICES, ids=range(len(DEVICES)))
def test_only_an_answer_of_a_device_at_the_host_counts_against_a_key(
    key: SoftKey, device: list[Any], first: FirstFactor
) -> None:
    """R03: strangers without one cannot lock its owner out; nor can sessions from elsewhere, which get no device."""
    of = account(enrolled(key), PHONE)
    for local in (True, False):
        world = World(store := Memory(of), [""] * 3, device=device)
        place = replace(PLACE, rule=Rule(first_factor=first), local=local)
        world.run(prove(Ceremony(SESSION, ALICE, of, Clock(), place=place), ("fido2", "totp"), FACTORS))
        against = [attempt for attempt in store.attempts if (attempt.uid, attempt.factor) == (ALICE, "fido2")]
        assert len(against) == (1 if local and forged in device else 0)
        assert local or "Wait" not in world.kinds


@pytest.mark.parametrize("first", list(FirstFactor))
def test_wrong_codes_lock_no_key(key: SoftKey, first: FirstFactor) -> None:
    """R03."""
    of = account(enrolled(key), PHONE)
    of = replace(of, tallies={**of.tallies, "totp": Tally(LIMIT, Clock()())})
    place = replace(PLACE, rule=Rule(first_factor=first))
    proof, _, _ = run(of, [key.holds, key.touch, key.sign], place=place)
    assert proof is not None


def asked_of(who: Account) -> Assert:
    world = World(Memory(who), [""] * 3, device=[Expired()])
    place = replace(UNIFORM, user=who.user)
    world.run(prove(Ceremony(SESSION, None, who, Clock(), place=place), ("fido2", "totp"), FACTORS))
    (request,) = (want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    return request


def test_what_is_asked_of_who_has_no_key_never_changes(key: SoftKey) -> None:
    first, again, other = (asked_of(Account(ALICE, user)) for user in ("mallory", "mallory", "trudy"))
    assert first.wanted == again.wanted != other.wanted
    ((wanted,), real) = (first.wanted, asked_of(account(enrolled(key))))
    assert (len(wanted.credential_id), wanted.rp_id) == (64, UNIFORM.rp_id)
    assert real.verification is first.verification


def test_a_user_whose_key_has_to_wait_is_told_before_it_blinks(key: SoftKey) -> None:
    of = account(enrolled(key), failures=FREE + 1, last=Clock()())
    _, world, _ = run(of, [Skipped()], ["fido2"])
    assert world.told == ["Too many wrong answers: fido2 counts again in 30 s."]


@pytest.mark.parametrize("first", list(FirstFactor))
def test_the_owner_gets_in_whatever_was_proven_before(key: SoftKey, first: FirstFactor) -> None:
    place = replace(PLACE, rule=Rule(first_factor=first))
    proof, world, _ = run(account(enrolled(key)), [key.holds, key.touch, key.sign], place=place)
    assert proof is not None
    assert world.told == ["Touch your security key" + ("" if first is FirstFactor.NONE else ' "blue nano"')]


@pytest.mark.parametrize("local_key", list(LocalKey))
@pytest.mark.parametrize("who", ["keyed", "coded", "nobody"])
def test_the_whole_login_asks_the_same_questions_of_everybody(key: SoftKey, who: str, local_key: LocalKey) -> None:
    rule = Rule(first_factor=FirstFactor.NONE, local_key=local_key, methods=("fido2", "totp"))

    def seen(name: str) -> tuple[list[str], list[str], Verdict]:
        stored = {"keyed": [account(enrolled(key))], "coded": [account(PHONE)], "nobody": []}[name]
        uid = None if name == "nobody" else ALICE
        world = World(Memory(*stored), [""] * 3, device=[DeviceReply(Idle(0)), Expired()])
        verdict = world.run(
            login(Request(SESSION, 0, "login", "alice", uid, tty="tty1"), Settings(rule), FACTORS, Clock())
        )
        return world.kinds, world.told + world.asked, replace(verdict, reason="")

    assert seen(who) == seen("keyed")
    assert ("Wait" in seen(who)[0]) is (local_key is not LocalKey.NEVER)
