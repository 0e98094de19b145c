"""Proving with security keys: who is asked what, which answer counts, and every way in which none comes (K01-K17)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account
from keyflows import CUE, PHONE, PLACE, RP, enrolled, reply, run
from softkey import BE, BS, UP, UV, SoftKey, once

from pam_mfa.assessment import Request
from pam_mfa.config import Clone, Fido2, Settings, Synced
from pam_mfa.conversation import (
    Alert,
    DeviceReply,
    DeviceTouch,
    Expired,
    Locate,
    LookedUp,
    Wait,
)
from pam_mfa.devices.base import Assert, Idle, Touch, Verification
from pam_mfa.errors import LookupFailed, PamMfaError
from pam_mfa.factors.base import Place
from pam_mfa.factors.challenge import challenge
from pam_mfa.factors.dialogue import NOT_ACCEPTED
from pam_mfa.login import login
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.outcome import Outcome, Proof
from pam_mfa.rules import LocalKey, Rule, UserVerification
from pam_mfa.store.base import Attempt, Count
from pam_mfa.store.rows import DECOY_UID
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


# ------------------------------------------------------------------------------------------------------ the proof


def test_a_touched_key_proves(key: SoftKey) -> None:
    blue = enrolled(key)
    proof, world, ceremony = run(account(blue, PHONE), [key.holds, key.touch, key.sign])
    assert proof == Proof(SESSION, ALICE, "fido2", blue.id, "blue nano")
    assert world.kinds == ["Wait", "Wait", "Tell", "Wait", "Commit", "HangUp"]
    assert world.told == [CUE]
    request = next(want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    assert [wanted.rp_id for wanted in request.wanted] == [RP]
    assert request.verification is Verification.DISCOURAGED
    ((attempt,),) = world.operations
    assert attempt == Attempt(ALICE, "fido2", Count(blue.id, 2), ceremony.now())


def test_whoever_has_no_key_sees_none_of_this() -> None:
    for of in (account(PHONE), account()):
        proof, world, _ = run(of, [], answers=["1"] * 3)
        assert proof is None
        assert set(world.kinds) == {"AskSecret", "Commit"}


def test_a_login_by_code_imports_nothing_of_keys() -> None:
    """Every import is paid for by the engine, which starts for each login."""
    wanted = "('devices', 'ceremonies', 'dialogue', 'assertion', 'uuid')"
    program = f"""if True:
        import sys, pam_mfa.login, pam_mfa.enroll, pam_mfa.credentials, pam_mfa.factors
        loaded = [name for name in sys.modules if name.rpartition('.')[2] in {wanted}]
        assert not loaded, loaded"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_service_loads_all_of_it_before_the_first_login() -> None:
    program = """if True:
        import sys, pam_mfa.factors
        pam_mfa.factors.load()
        before = set(sys.modules)
        from pam_mfa.factors.assertion import EdDsa, Es256, Rs256, Unproven
        import pam_mfa.factors.ceremonies
        for key in (EdDsa(bytes.fromhex("44e06ddd331c36a8dc667bab52bcae63486c916aa5e339e6acebaa84934bf832")),
                    Rs256(b"\\x80" + bytes(254) + b"\\x01", b"\\3")):
            try:
                key.verify(b"", bytes(64 if key.algorithm == -8 else 256))
            except Unproven:
                continue
        assert set(sys.modules) == before, set(sys.modules) - before"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_nobody_elsewhere_is_asked_for_a_key_of_this_host(key: SoftKey) -> None:
    _, world, _ = run(account(enrolled(key), PHONE), [], place=replace(PLACE, local=False))
    assert "Wait" not in world.kinds


@pytest.mark.parametrize(
    ("service", "rhost", "tty", "local_key", "asked"),
    [
        ("login", "", "tty1", LocalKey.AUTO, True),
        ("gdm-password", "", ":0", LocalKey.AUTO, True),
        ("login", "", "tty1", LocalKey.NEVER, False),
        ("sshd", "", "ssh", LocalKey.AUTO, False),
        ("sshd", "192.0.2.1", "ssh", LocalKey.ALWAYS, True),
        ("login", "192.0.2.1", "tty1", LocalKey.AUTO, False),
        ("cron", "", "", LocalKey.AUTO, False),
    ],
)
def test_who_sits_at_the_host(
    key: SoftKey, service: str, rhost: str, tty: str, local_key: LocalKey, asked: bool
) -> None:
    of = account(enrolled(key))
    settings = Settings(policy=Rule(methods=("fido2",), local_key=local_key))
    request = Request(SESSION, 0, service, "alice", ALICE, "", rhost, tty, "host")
    world = World(Memory(of), device=[key.sign])
    verdict = world.run(login(request, settings, FACTORS, Clock()))
    assert verdict.outcome is (Outcome.GRANTED if asked else Outcome.DENIED)
    assert ("Wait" in world.kinds) is asked


SUDO = Request(SESSION, 0, "sudo", "alice", ALICE, "alice", "", "/dev/pts/0", "host")
HERE, BOTH = Sessions(seat=True, remote=False), Sessions(seat=True, remote=True)


@pytest.mark.parametrize(
    ("request_", "facts", "asked"),
    [
        (SUDO, UNKNOWN, False),
        (SUDO, Facts(peer_remote=False), True),
        (SUDO, Facts(peer_remote=True, owner=HERE, user=HERE), False),
        (SUDO, Facts(owner=HERE), True),
        (SUDO, Facts(owner=BOTH), False),
        (SUDO, Facts(user=HERE), False),
        (SUDO, "nonsense", False),
        (replace(SUDO, service="su", user="root", uid=0), Facts(peer_remote=False), True),
        (replace(SUDO, service="polkit-1", ruser="", tty=""), Facts(user=HERE), True),
        (replace(SUDO, service="polkit-1", ruser="", tty=""), Facts(owner=BOTH), False),
        (replace(SUDO, service="xscreensaver", peer_uid=ALICE, ruser="", tty=":0"), Facts(owner=HERE), True),
    ],
)
def test_logind_knows_whose_session_is_at_the_host(key: SoftKey, request_: Request, facts: object, asked: bool) -> None:
    assert request_.uid is not None
    of = account(replace(enrolled(key), uid=request_.uid, user=request_.user), uid=request_.uid)
    world = World(Memory(of), device=[key.sign], facts=facts)
    verdict = world.run(login(request_, Settings(policy=Rule(methods=("fido2",))), FACTORS, Clock()))
    assert verdict.outcome is (Outcome.GRANTED if asked else Outcome.DENIED)
    assert [want.uid for want in world.wants if isinstance(want, Locate)] == [request_.uid]


@pytest.mark.parametrize("tty", ["tty1", "/dev/pts/0"])
def test_logind_that_does_not_answer_leaves_the_other_rules(key: SoftKey, tty: str) -> None:
    world = World(Memory(account(enrolled(key))), device=[key.sign], instead={1: LookupFailed("no answer in time")})
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", tty, "host")
    verdict = world.run(login(request, Settings(policy=Rule(methods=("fido2",))), FACTORS, Clock()))
    assert (verdict.outcome is Outcome.GRANTED) is (tty == "tty1")


@pytest.mark.parametrize("event", [None, True, LookedUp("alice"), DeviceReply(b"x"), Expired(), RuntimeError("x")])
def test_anything_else_in_its_place_ends_the_login(key: SoftKey, event: Any) -> None:
    world = World(Memory(account(enrolled(key))), device=[key.sign], instead={1: event})
    with pytest.raises((PamMfaError, RuntimeError)):
        world.run(login(SUDO, Settings(), FACTORS, Clock()))
    assert world.kinds == ["Read", "Locate"]


@pytest.mark.parametrize(
    ("held", "rule", "change"),
    [
        ("code", Rule(), {}),
        ("key", Rule(local_key=LocalKey.NEVER), {}),
        ("key", Rule(local_key=LocalKey.ALWAYS), {}),
        ("key", Rule(methods=("totp",)), {}),
        ("key", Rule(), {"service": "sshd"}),
        ("key", Rule(), {"tty": "ssh"}),
        ("key", Rule(), {"rhost": "192.0.2.1"}),
        ("key", Rule(), {"uid": None, "user": "mallory"}),
    ],
)
def test_logind_is_asked_only_where_its_answer_counts(
    key: SoftKey, held: str, rule: Rule, change: dict[str, Any]
) -> None:
    of = account(PHONE, *([enrolled(key)] if held == "key" else []))
    world = World(Memory(of), ["1"] * 3, device=[key.sign])
    world.run(login(replace(SUDO, **change), Settings(policy=rule), FACTORS, Clock()))
    assert "Locate" not in world.kinds


def test_the_second_of_two_keys_is_the_right_one() -> None:
    blue, red = SoftKey(1), SoftKey(2)
    of = account(enrolled(blue), enrolled(red, "red"))
    proof, world, _ = run(of, [blue.holds, red.holds, blue.touch, red.touch, red.sign])
    assert proof is not None
    assert proof.label == "red"
    assert world.told == [CUE, "Touch your security key"]


@pytest.mark.parametrize("label", ["schlüssel", "a\u202eb", "x" * 64])
def test_a_name_that_a_prompt_cannot_show_is_left_out(key: SoftKey, label: str) -> None:
    _, world, _ = run(account(enrolled(key, label)), [key.holds, key.touch, key.sign])
    assert world.told == [f'Touch your security key "{label}"' if label.isascii() else "Touch your security key"]


def test_a_key_that_nobody_asked_what_it_holds_is_not_named(key: SoftKey) -> None:
    _, world, _ = run(account(enrolled(key)), [key.touch, key.sign])
    assert world.told == ["Touch your security key"]


def test_a_reader_of_fingerprints_wants_a_finger(key: SoftKey) -> None:
    _, world, _ = run(account(enrolled(key)), [key.holds, DeviceTouch(Touch(1, verifies=True)), key.sign])
    assert world.told == ['Put your finger on the reader of your security key "blue nano"']


def test_an_answer_of_an_earlier_session_is_wrong(key: SoftKey) -> None:
    """K06: the nonce is another one."""
    of, answer = account(enrolled(key)), once(key.sign)
    assert run(of, [answer], ["fido2"])[0] is not None
    proof, world, ceremony = run(of, [answer, Expired()], ["fido2"])
    assert proof is None
    assert ceremony.reason == "signature"
    assert len(world.operations) == 1


def test_what_is_signed_names_the_session_and_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert challenge(PLACE, SESSION) != challenge(PLACE, SESSION)
    monkeypatch.setattr("pam_mfa.factors.challenge.secrets.token_bytes", bytes)
    here = challenge(PLACE, SESSION)
    assert len(here) == 32
    assert challenge(PLACE, SESSION) == here
    others = [
        Place("x", "sudo", "alice"),
        Place("host", "x", "alice"),
        Place("host", "sudo", "x"),
        replace(PLACE, rhost="x"),
    ]
    hashes = {challenge(place, SESSION) for place in others} | {challenge(PLACE, "x"), here}
    assert len(hashes) == 6
    moved = replace(PLACE, host="hosts", service="udo")  # the same letters, parted elsewhere
    assert challenge(moved, SESSION) != here


# -------------------------------------------------------------------------------------------- answers that are wrong

OTHER = b"another credential id"
WRONG: dict[str, tuple[dict[str, Any], Place, str]] = {
    "UP missing": ({"flags": UV}, PLACE, "up_missing"),
    "UV missing": ({}, replace(PLACE, rule=Rule(user_verification=UserVerification.REQUIRED)), "uv_missing"),
    "BS without BE": ({"flags": UP | BS}, PLACE, "backup_state"),
    "BE flips": ({"flags": UP | BE}, PLACE, "backup_eligibility"),
    "another rp id": ({"rp_id": "example.com"}, PLACE, "rp_id"),
    "another question": ({"hash": bytes(32)}, PLACE, "signature"),
    "another credential": ({"answer_as": OTHER}, PLACE, "unknown_credential"),
    "another user": ({"handle": b"handle of bob"}, PLACE, "user_handle"),
}


IMPORTED: dict[str, Any] = {"synced": None, "verified": True, "user_handle": b""}


@pytest.mark.parametrize("ruled", UserVerification)
def test_an_imported_key_that_was_verified_has_to_be_under_every_rule(ruled: UserVerification) -> None:
    """What pam_u2f has as +pin: its user gave a PIN at every login, and goes on doing so."""
    key, place = SoftKey(verifies=True), replace(PLACE, rule=Rule(user_verification=ruled))
    of = account(enrolled(key, **IMPORTED))
    proof, world, ceremony = run(of, [reply(key, flags=UP), Expired()], ("fido2",), place)
    assert (proof, ceremony.reason) == (None, "uv_missing")
    request = next(want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    assert request.verification is Verification.REQUIRED
    assert run(of, [key.sign], ("fido2",), place)[0] is not None


def test_other_keys_of_the_same_account_are_asked_if_they_can() -> None:
    blue, red = SoftKey(verifies=True), SoftKey(2)
    of = account(enrolled(blue, **IMPORTED), enrolled(red, "red"))
    proof, world, _ = run(of, [reply(blue, flags=UP), red.sign])
    request = next(want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    assert request.verification is Verification.PREFERRED
    assert proof is not None
    assert proof.label == "red"


@pytest.mark.parametrize("material", [{"synced": None, "verified": False}, {"synced": False, "verified": True}])
def test_no_other_key_has_to_be_verified(key: SoftKey, material: dict[str, Any]) -> None:
    proof, world, _ = run(account(enrolled(key, **material)), [key.sign])
    request = next(want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    assert request.verification is Verification.DISCOURAGED
    assert proof is not None


@pytest.mark.parametrize(("how", "place", "reason"), WRONG.values(), ids=WRONG)
def test_an_answer_that_does_not_verify_counts_and_others_go_on(
    key: SoftKey, how: dict[str, Any], place: Place, reason: str
) -> None:
    of, good = account(enrolled(key)), SoftKey(2, verifies=True)
    of = replace(of, credentials=(*of.credentials, enrolled(good, "good")))
    proof, world, ceremony = run(of, [reply(key, **how), good.sign], place=place)
    assert proof is not None
    assert proof.label == "good"
    assert ceremony.tries == 1
    first, second = (attempt for (attempt,) in world.operations)
    assert isinstance(first, Attempt)
    assert first.use is None
    assert isinstance(second, Attempt)
    proof, world, ceremony = run(of, [reply(key, **how), DeviceReply(Idle(1))], ["fido2"], place)
    assert proof is None
    assert (ceremony.reason, ceremony.tries, world.told) == (reason, 2, [NOT_ACCEPTED])


def test_a_signature_of_another_credential_of_the_account_is_wrong(key: SoftKey) -> None:
    other = SoftKey(2)
    of = account(enrolled(key), enrolled(other, "other"))
    (id_,) = other.keys
    proof, _, ceremony = run(of, [reply(key, answer_as=id_), Expired()], ["fido2"])
    assert proof is None
    assert ceremony.reason == "signature"


def test_a_synced_key_where_the_settings_refuse_those() -> None:
    key = SoftKey(synced=True)
    of = account(enrolled(key))
    assert run(of, [key.sign])[0] is not None
    proof, _, ceremony = run(of, [key.sign, Expired()], ["fido2"], replace(PLACE, fido2=Fido2(synced=Synced.DENY)))
    assert (proof, ceremony.reason) == (None, "synced")


def test_an_imported_key_has_no_handle_and_no_word_on_syncing(key: SoftKey) -> None:
    of = account(enrolled(key, user_handle=b"", synced=None))
    assert run(of, [reply(key, handle=b"whatever it has", flags=UP | BE)])[0] is not None


def test_a_verified_answer_where_that_is_required() -> None:
    key = SoftKey(verifies=True)
    place = replace(PLACE, rule=Rule(user_verification=UserVerification.REQUIRED))
    proof, world, _ = run(account(enrolled(key)), [key.sign], place=place)
    assert proof is not None
    request = next(want.request for want in world.wants if isinstance(want, Wait))
    assert isinstance(request, Assert)
    assert request.verification is Verification.REQUIRED


def test_three_wrong_answers_spend_the_tries(key: SoftKey) -> None:
    proof, world, ceremony = run(account(enrolled(key), PHONE), [reply(key, flags=0)] * 3)
    assert proof is None
    assert ceremony.tries == 0
    assert world.asked == []
    assert len(world.operations) == 3
    assert world.kinds[-2:] == ["HangUp", "Warn"]


@pytest.mark.parametrize("failures", [FREE + 1, 100])
def test_a_right_answer_during_a_wait_is_not_compared(key: SoftKey, failures: int) -> None:
    of = account(enrolled(key), failures=failures, last=Clock()())
    proof, world, ceremony = run(of, [key.sign, Expired()], ["fido2"])
    assert proof is None
    assert [attempt.uid for (attempt,) in world.operations] == [DECOY_UID]  # type: ignore[attr-defined]
    assert ceremony.reason in ("waiting", "disabled")


# ---------------------------------------------------------------------------------------------------- sign counts


def alerts(world: World) -> list[Alert]:
    return [want for want in world.wants if isinstance(want, Alert)]


def test_a_count_that_falls_back_is_denied_and_told(key: SoftKey) -> None:
    blue = enrolled(key, mark=40)
    key.count = 39
    proof, world, ceremony = run(account(blue), [key.sign, Expired()], ["fido2"])
    assert proof is None
    assert ceremony.reason == "clone_suspect"
    assert alerts(world) == [Alert("clone_suspect", "fido2", blue.id, "blue nano")]


def test_a_count_that_falls_back_may_be_tolerated_and_is_told_all_the_same(key: SoftKey) -> None:
    blue = enrolled(key, mark=40)
    proof, world, _ = run(account(blue), [key.sign], place=replace(PLACE, fido2=Fido2(clone=Clone.WARN)))
    assert proof is not None
    assert alerts(world) == [Alert("clone_suspect", "fido2", blue.id, "blue nano")]


def test_a_key_that_does_not_count_is_no_clone() -> None:
    key = SoftKey(count=None)
    proof, world, _ = run(account(enrolled(key)), [key.sign])
    assert proof is not None
    assert alerts(world) == []
