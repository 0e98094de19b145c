"""Enrolling a security key: every way in which nothing is enrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from flows import FACTORS, Memory, World
from keyflows import HERE, STRICT, enrol_key, enrolled, enrolment, makes, reply
from softkey import BE, BS, UP, UV, SoftKey

from pam_mfa.config import Fido2, Synced
from pam_mfa.conversation import Aborted, DeviceGone, DeviceReply, DeviceTouch, Event, Expired, HangUp, Shown, Skipped
from pam_mfa.devices.base import (
    Asserted,
    Failed,
    Failure,
    Idle,
    Made as MadeReply,
    PinReason,
    PinWanted,
    Strange,
    Touch,
    Transport,
)
from pam_mfa.errors import AbortedError, ProtocolError, RefusedError
from pam_mfa.factors.base import Enrolment, Place
from pam_mfa.factors.ceremonies import NO_PASSKEYS, NOT_VERIFIED
from pam_mfa.factors.dialogue import BAD_PIN, NO_KEY, NO_SERVICE, NOT_TOUCHED, WORDS
from pam_mfa.factors.fido2 import Material
from pam_mfa.structure import replace


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


def refused(device: Sequence[Any], of: Enrolment | None = None, answers: Sequence[str] = ()) -> str:
    world = World(Memory(), answers, device=device)
    with pytest.raises(RefusedError) as caught:
        world.run(FACTORS["fido2"].enrol(of or enrolment()))
    assert caught.value.code == "refused"
    assert caught.value.message.startswith("nothing was enrolled. ")
    assert world.wants[-1] == HangUp()
    assert world.operations == []
    return caught.value.message.removeprefix("nothing was enrolled. ")


@pytest.mark.parametrize("failure", WORDS)
@pytest.mark.parametrize("made_before", [False, True])
def test_each_failure_says_what_to_do(key: SoftKey, failure: Failure, made_before: bool) -> None:
    before = [key.touch, key.make] if made_before else []
    ends = [DeviceReply(Failed(1, failure)), DeviceReply(Idle(1)), Expired()]
    assert refused([*before, *ends]) == (NO_KEY if failure is Failure.UNPLUGGED else WORDS[failure])


def test_a_key_without_a_pin_where_one_is_needed(key: SoftKey) -> None:
    words = refused([DeviceReply(Failed(1, Failure.PIN_UNSET)), DeviceReply(Idle(1))], enrolment(verify=True))
    assert "fido2-token -S" in words
    assert "ykman" in words


@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ([Expired()], NO_KEY),
        ([DeviceTouch(Touch(1, False)), Expired(), Expired()], NOT_TOUCHED),
        ([DeviceGone("no_device_service")], NO_SERVICE),
        ([Skipped()], "stopped."),
        ([DeviceReply(Strange(1, "x")), DeviceReply(Idle(1)), Expired()], NO_KEY),
    ],
)
def test_no_answer_enrols_nothing(key: SoftKey, made_before: bool, ends: list[Any], words: str) -> None:
    assert refused([*([key.make] if made_before else []), *ends]) == words


def test_what_cannot_be_a_pin(key: SoftKey) -> None:
    wanted = [DeviceReply(PinWanted(1, PinReason.FIRST, 8)), Expired()]
    assert refused(wanted, answers=["123"]) == BAD_PIN


MADE_WRONG: dict[str, tuple[dict[str, Any], Place, str]] = {
    "no touch": ({"flags": UV}, HERE, WORDS[Failure.NONSENSE]),
    "another rp id": ({"rp_id": "example.com"}, HERE, WORDS[Failure.NONSENSE]),
    "BS without BE": ({"flags": UP | BS}, HERE, WORDS[Failure.NONSENSE]),
    "a long id": ({"credential_id": bytes(1024)}, HERE, WORDS[Failure.NONSENSE]),
    "not verified": ({}, STRICT, NOT_VERIFIED),
    "synced": ({"flags": UP | BE}, replace(HERE, fido2=Fido2(synced=Synced.DENY)), NO_PASSKEYS),
}


@pytest.mark.parametrize(("how", "place", "words"), MADE_WRONG.values(), ids=MADE_WRONG)
def test_a_new_credential_that_is_not_what_it_must_be(
    key: SoftKey, how: dict[str, Any], place: Place, words: str
) -> None:
    assert refused([makes(key, **how)], enrolment(place)) == words


def test_a_key_that_makes_a_credential_which_is_known_already(key: SoftKey) -> None:
    old = enrolled(SoftKey(2))
    known = Material.unpack(old.material).credential_id
    assert refused([makes(key, credential_id=known)], enrolment(held=(old,))) == WORDS[Failure.EXCLUDED]


@pytest.mark.parametrize(
    "how",
    [{"flags": UV}, {"hash": bytes(32)}, {"rp_id": "example.com"}, {"answer_as": b"another"}, {"handle": b"bob"},
     {"flags": UP | BE}],
)  # fmt: skip
def test_a_key_that_cannot_prove_its_credential(key: SoftKey, how: dict[str, Any]) -> None:
    assert refused([key.make, reply(key, **how)]) == WORDS[Failure.NONSENSE]


def test_a_key_that_verifies_its_user_once_only() -> None:
    key = SoftKey(verifies=True)
    assert refused([key.make, reply(key, flags=UP)], enrolment(STRICT)) == NOT_VERIFIED


@pytest.mark.parametrize("count", [0, 1])
def test_a_counter_that_does_not_grow(key: SoftKey, count: int) -> None:
    def sign(request: Any) -> Event:
        key.count = count - 1
        return DeviceReply(key.asserted(request))

    assert refused([key.make, sign]) == WORDS[Failure.NONSENSE]


def test_a_key_that_does_not_count() -> None:
    silent = SoftKey(count=None)
    assert enrol_key([silent.make, silent.sign])[0].mark == 0


def test_another_key_signs_for_the_new_one(key: SoftKey) -> None:
    other = SoftKey(2)
    enrolled(other)

    def sign(request: Any) -> Event:
        return DeviceReply(other.asserted(request, answer_as=request.wanted[0].credential_id))

    assert refused([key.make, sign]) == WORDS[Failure.NONSENSE]


def test_the_wrong_kind_of_answer(key: SoftKey) -> None:
    made_again = DeviceReply(MadeReply(1, Transport.USB, "x", b""))
    signed_first = DeviceReply(Asserted(1, Transport.USB, "host.example", b"x", b"", b"", b""))
    assert refused([key.make, made_again]) == WORDS[Failure.NONSENSE]
    assert refused([signed_first]) == WORDS[Failure.NONSENSE]


@pytest.mark.parametrize("options", [{"verify": 1}, {"verify": "yes"}, {"discoverable": []}, {"discoverable": "x"}])
def test_options_are_true_or_false(options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        enrol_key([], enrolment(**options))
    assert caught.value.code == "invalid"


@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize(
    ("event", "error"),
    [(Aborted(), AbortedError), (Shown(), ProtocolError), (DeviceReply(None), ProtocolError)],
)
def test_any_other_event_ends_it(key: SoftKey, made_before: bool, event: Event, error: type[Exception]) -> None:
    with pytest.raises(error):
        enrol_key([*([key.make] if made_before else []), event])
