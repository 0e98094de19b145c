"""What is plugged in, as the manage socket tells it."""

from __future__ import annotations

import json

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World

from pam_mfa import wire
from pam_mfa.config import Settings
from pam_mfa.conversation import DeviceGone, DeviceReply, DeviceTouch, Event, Expired, HangUp, Wait
from pam_mfa.devices.base import (
    Asserted,
    Carries,
    Certified,
    Described,
    Failed,
    Failure,
    Idle,
    List,
    Reader,
    Slot,
    Touch,
    Transport,
)
from pam_mfa.enroll import AWAY, Caller, Desk
from pam_mfa.errors import DeadlineError, ProtocolError, RefusedError
from pam_mfa.keys import devices
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.structure import replace

BLUE = Described(
    device=1,
    transport=Transport.USB,
    name="Blue Nano",
    aaguid=bytes.fromhex("2fc0579f811347eab116bb5a8db9202a"),
    firmware=0x50403,
    versions=("U2F_V2", "FIDO_2_0"),
    extensions=("credProtect",),
    options=("clientPin=1", "rk=1", "vendorThing=1"),
    algorithms=(-7, -8, -35),
    pin_tries=8,
    min_pin=4,
    pin_change=False,
)


CERTIFIED = Certified(
    Slot.AUTHENTICATION, b"der", b"key", "CN=Alice", "CN=Example CA", "4d2", "2026-01-01", "2028-01-01", "p-256"
)
DEFAULT = Rule()
HERE, ELSEWHERE = Facts(peer_remote=False), Facts(peer_remote=True)


def desk(peer: int = ALICE, rule: Rule = DEFAULT) -> Desk:
    return Desk(Caller(SESSION, peer, ALICE, "alice", "host"), Settings(policy=rule), FACTORS, Clock())


def ask(*events: Event, of: Desk | None = None, facts: object = HERE) -> World:
    world = World(Memory(), device=events, facts=facts)
    world.run(devices(of or desk(), {}))
    return world


def test_every_device_is_a_record_and_the_devices_are_let_go() -> None:
    world = ask(DeviceReply(BLUE), DeviceReply(Failed(2, Failure.BUSY)), DeviceReply(Idle(2)))
    assert world.records == [
        {
            "kind": "device",
            "device": 1,
            "name": "Blue Nano",
            "transport": "usb",
            "aaguid": "2fc0579f-8113-47ea-b116-bb5a8db9202a",
            "firmware": 328707,
            "versions": ["U2F_V2", "FIDO_2_0"],
            "extensions": ["credProtect"],
            "options": {"clientPin": "1", "rk": "1"},
            "algorithms": ["es256", "eddsa", "-35"],
            "pin_tries": 8,
            "min_pin": 4,
            "pin_change": False,
        },
        {"kind": "device_failed", "device": 2, "why": "busy"},
    ]
    waits = [want for want in world.wants if isinstance(want, Wait)]
    assert isinstance(waits[0].request, List)
    assert [wait.request for wait in waits[1:]] == [None, None]
    assert isinstance(world.wants[-1], HangUp)
    assert world.asked == []


def test_cards_and_readers_are_records() -> None:
    card = Carries(1, "Reader 0", b"\x00\xff", 3, (CERTIFIED,))
    world = ask(DeviceReply(card), DeviceReply(Reader(2, "Reader 1")), DeviceReply(Idle(1)))
    assert world.records == [
        {
            "kind": "card",
            "device": 1,
            "name": "Reader 0",
            "serial": "00ff",
            "pin_tries": 3,
            "certificates": [
                {
                    "slot": "9a",
                    "subject": "CN=Alice",
                    "issuer": "CN=Example CA",
                    "number": "4d2",
                    "valid_from": "2026-01-01",
                    "valid_until": "2028-01-01",
                    "key": "p-256",
                }
            ],
        },
        {"kind": "reader", "device": 2, "name": "Reader 1"},
    ]


def test_a_card_s_record_fits_into_a_frame_whatever_it_says() -> None:
    loud = replace(CERTIFIED, subject='"' * 256, issuer="\\" * 256, number="f" * 64)
    card = Carries(1, "\\" * 64, bytes(16), 255, (loud,) * 3)
    (record,) = ask(DeviceReply(card), DeviceReply(Idle(1))).records
    assert record["pin_tries"] is None
    assert len(json.dumps(record)) < wire.MAX_PAYLOAD


def test_nothing_plugged_in_is_no_record() -> None:
    assert ask(DeviceReply(Idle(0))).records == []


@pytest.mark.parametrize("facts", [UNKNOWN, ELSEWHERE, Facts(owner=Sessions(seat=True, remote=True)), None])
@pytest.mark.parametrize("rule", [DEFAULT, Rule(local_key=LocalKey.NEVER)])
def test_nobody_elsewhere_has_a_device_answer(facts: object, rule: Rule) -> None:
    world = World(Memory(), facts=facts)
    with pytest.raises(RefusedError) as caught:
        world.run(devices(desk(rule=rule), {}))
    assert (caught.value.code, caught.value.message) == ("not_allowed", AWAY)
    assert set(world.kinds) <= {"Locate"}


def test_a_rule_may_keep_the_devices_from_everybody() -> None:
    with pytest.raises(RefusedError):
        ask(of=desk(rule=Rule(local_key=LocalKey.NEVER)))


@pytest.mark.parametrize("facts", [UNKNOWN, ELSEWHERE])
def test_root_may_ask_from_anywhere_and_everybody_where_the_rule_lets_them(facts: object) -> None:
    for of in (desk(0), desk(0, Rule(local_key=LocalKey.NEVER)), desk(rule=Rule(local_key=LocalKey.ALWAYS))):
        assert ask(DeviceReply(BLUE), DeviceReply(Idle(1)), of=of, facts=facts).records


def test_tries_that_a_device_does_not_tell_are_nobody_s_guess() -> None:
    world = ask(DeviceReply(replace(BLUE, pin_tries=255)), DeviceReply(Idle(1)))
    assert world.records[0]["pin_tries"] is None


def test_a_record_fits_into_a_frame_whatever_a_device_says() -> None:
    words = tuple(f"{number:064}" for number in range(32))
    loud = replace(
        BLUE,
        name="x" * 64,
        versions=words,
        extensions=words,
        options=words,
        algorithms=tuple(range(-(2**31), 32 - 2**31)),
    )
    (record,) = ask(DeviceReply(loud), DeviceReply(Idle(1))).records
    assert len(json.dumps(record)) < wire.MAX_PAYLOAD


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (DeviceGone("no_device_service"), RefusedError),
        (Expired(), DeadlineError),
        (DeviceTouch(Touch(1, False)), ProtocolError),
        (DeviceReply(Touch(1, False)), ProtocolError),
        (DeviceReply(Asserted(1, Transport.USB, "rp", b"id", b"", b"", b"")), ProtocolError),
    ],
)
def test_anything_else_is_an_end(event: Event, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(event)
