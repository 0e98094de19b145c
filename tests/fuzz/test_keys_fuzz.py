"""A device service that says anything at any time: nobody is let in, nothing but our own errors, one PIN at most."""

from __future__ import annotations

from typing import Any

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account
from hypothesis import given, settings, strategies as st
from keyflows import PLACE, enrolled
from softkey import SoftKey

from pam_mfa.conversation import AskSecret, DeviceGone, DeviceReply, DeviceTouch, Expired, HangUp, Skipped, Wait
from pam_mfa.devices.base import (
    Asserted,
    Chosen,
    Described,
    Failed,
    Failure,
    Holds,
    Idle,
    Made,
    PinReason,
    PinWanted,
    Strange,
    Touch,
    Transport,
)
from pam_mfa.errors import PamMfaError
from pam_mfa.factors.base import Ceremony, Enrolment
from pam_mfa.login import prove

MANY = settings(max_examples=400, deadline=None)
KEYS = (SoftKey(1), SoftKey(2))
OF = account(*[enrolled(key, f"key {key.device}") for key in KEYS])
IDS = [id_ for key in KEYS for id_ in key.keys]

DEVICES = st.integers(0, 3)
SOME_ID = st.sampled_from(IDS) | st.binary(max_size=40)
HEADS = st.sampled_from([key._head("example.org", flags) for key in KEYS for flags in (0, 1, 5, 255)])
DATA = HEADS | st.binary(max_size=200)
REPLIES = st.one_of(
    st.builds(Holds, DEVICES, st.sampled_from(Transport), st.text(max_size=8), st.lists(SOME_ID).map(tuple)),
    st.builds(Strange, DEVICES, st.text(max_size=8)),
    st.builds(PinWanted, DEVICES, st.sampled_from(PinReason), st.integers(0, 255)),
    st.builds(Chosen, DEVICES),
    st.builds(Failed, DEVICES, st.sampled_from(Failure)),
    st.builds(Idle, st.integers(0, 9)),
    st.builds(Asserted, DEVICES, st.just(Transport.USB), st.just("example.org"), SOME_ID, DATA, st.binary(max_size=80),
              st.binary(max_size=4)),
    st.builds(Made, DEVICES, st.just(Transport.NFC), st.text(max_size=90), DATA),
    st.builds(Touch, DEVICES, st.booleans()),
    st.just(Described(1, Transport.USB, "", bytes(16), 0, (), (), (), (), 8, 4, False)),
    st.sampled_from([None, True, "granted", b"", 0, ()]),
)  # fmt: skip
EVENTS = st.one_of(
    REPLIES.map(DeviceReply),
    st.builds(Touch, DEVICES, st.booleans()).map(DeviceTouch),
    st.just(Expired()),
    st.just(Skipped()),
    st.builds(DeviceGone, st.text(max_size=8)),
)
SCRIPTS = st.lists(EVENTS, max_size=12).map(lambda events: [*events, *[Expired()] * 12])
TYPED = st.lists(st.text(max_size=70), min_size=1, max_size=3)


def asked_once(world: World) -> None:
    assert len([want for want in world.wants if isinstance(want, AskSecret)]) <= 1
    assert all(want.seconds <= 60 for want in world.wants if isinstance(want, Wait))
    assert all(text.isascii() and text.isprintable() for text in world.asked + world.told)


@MANY
@given(SCRIPTS, TYPED)
def test_nobody_gets_in(device: list[Any], typed: list[str]) -> None:
    ceremony = Ceremony(SESSION, ALICE, OF, Clock(), place=PLACE)
    world = World(Memory(OF), typed, device=device)
    try:
        assert world.run(prove(ceremony, ["fido2"], FACTORS)) is None
        assert HangUp() in world.wants
    except PamMfaError:
        pass
    asked_once(world)
    assert len(world.operations) <= 6  # three answers, and the decoy's share where they were not compared


@MANY
@given(SCRIPTS, TYPED)
def test_nothing_is_enrolled(device: list[Any], typed: list[str]) -> None:
    world = World(Memory(), typed, device=device)
    enrolment = Enrolment(ALICE, "alice", "0" * 32, "x", "host", Clock(), {}, SESSION, OF.credentials, PLACE)
    with pytest.raises(PamMfaError) as end:
        world.run(FACTORS["fido2"].enrol(enrolment))
    assert str(end.value).isprintable()
    asked_once(world)
    assert world.operations == []
