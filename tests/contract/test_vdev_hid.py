"""The virtual key on USB, and everything it can be told to do wrong, with python-fido2 as witness."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from fido2.cose import CoseKey
from fido2.ctap import CtapError
from fido2.webauthn import AuthenticatorData
from vdev import cbor
from vdev.ctap import Command
from witness import Connection, Filtered, Plug, refused

ERR = CtapError.ERR


# -------------------------------------------------------------------------------------------------------------- HID


def test_messages_of_every_length_come_back(plug: Plug) -> None:
    device = plug().device
    for length in (0, 1, 56, 57, 58, 115, 116, 117, 7609):
        message = bytes(number % 251 for number in range(length))
        assert device.ping(message) == message
    device.wink()
    assert device.capabilities == 0x0D
    with refused(ERR.INVALID_LENGTH):
        device.ping(bytes(7610))
    with refused(ERR.INVALID_COMMAND):
        device.call(0x03, b"")  # CTAP1


def test_one_request_at_a_time(plug: Plug) -> None:
    plugged = plug()
    other = plugged.open()
    plugged.key.faults.set(touch="manual")
    answers: list[bytes] = []

    def meanwhile(status: int) -> None:
        event = threading.Event()
        event.set()
        with pytest.raises(CtapError) as busy:
            other.call(0x10, b"\x04", event)
        answers.append(bytes([busy.value.code]))
        plugged.key.touch()

    # The keepalives of the first channel would end a client that waits on the second: it takes the next one of its own.
    reading, other._connection = other._connection, Filtered(other)
    assert isinstance(reading, Connection)
    plugged.ctap.selection(on_keepalive=meanwhile)
    assert answers == [bytes([ERR.CHANNEL_BUSY])]


@pytest.mark.parametrize(
    ("report", "answer"),
    [
        ("00000001 90 0001 04", "bf0001 0b"),  # a channel that nobody was given
        ("ffffffff 90 0001 04", "bf0001 0b"),
        ("ffffffff 86 0007 01020304050607", "bf0001 03"),
        ("ffffffff 90 ffff 04", "bf0001 03"),
    ],
)
def test_reports_that_are_wrong(plug: Plug, report: str, answer: str) -> None:
    client = plug().memory.client
    client.send(bytes.fromhex(report).ljust(64, b"\0"))
    assert client.recv(64)[4:8] == bytes.fromhex(answer)


def test_continuation_packets_that_are_wrong(plug: Plug) -> None:
    plugged = plug()
    client, channel = plugged.memory.client, plugged.device._channel_id.to_bytes(4, "big")
    client.send((channel + b"\x05").ljust(64, b"\0"))  # of no message: ignored
    client.send((channel + b"\x81\x00\xff").ljust(64, b"\0"))
    client.send((channel + b"\x01").ljust(64, b"\0"))
    assert client.recv(64)[:8] == channel + b"\xbf\x00\x01\x04"
    assert plugged.device.ping(b"still here") == b"still here"


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_busy_key(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(busy=2)
    assert plugged.ctap.get_info().aaguid == b"pam-mfa software"
    assert plugged.key.faults.busy == 0


def test_a_packet_of_another_channel(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(foreign=1)
    with pytest.raises(Exception, match="Wrong channel"):
        plugged.ctap.get_info()


def test_packets_out_of_order(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(wrong_sequence=True)
    with pytest.raises(Exception, match="Wrong sequence"):
        plugged.ctap.get_info()


@pytest.mark.parametrize("fault", [{"mute": True}, {"silent": (Command.GET_INFO,)}])
def test_a_key_that_says_nothing(plug: Plug, fault: dict[str, Any]) -> None:
    plugged = plug()
    plugged.key.faults.set(**fault)
    plugged.memory.client.settimeout(0.2)  # nothing is what shall come
    with pytest.raises(TimeoutError):
        plugged.ctap.get_info()


def test_a_flood_of_keepalives_has_no_end(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(flood=True)
    channel = plugged.device._channel_id.to_bytes(4, "big")
    plugged.memory.client.send((channel + b"\x90\x00\x01\x04").ljust(64, b"\0"))
    plugged.memory.client.send((channel + b"\x91\x00\x00").ljust(64, b"\0"))
    for _ in range(50):
        assert plugged.memory.client.recv(64)[4:8] == b"\xbb\x00\x01\x02"
    plugged.key.faults.set(flood=False)
    while (packet := plugged.memory.client.recv(64))[4:5] == b"\xbb":
        pass
    assert packet[4:5] == b"\x90"


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ("empty", b""),
        ("one", b"\0"),
        ("garbage", b"\0\xff"),
        ("truncated", b"\0\xa2"),
        ("deep", b"\0\x81\x81"),
        ("huge map", b"\0\xbb"),
        ("long", b"\0\x59\xff\xfb"),
        (b"\x00\xf6", b"\0\xf6"),
    ],
)
def test_answers_that_are_none(plug: Plug, answer: str | bytes, seen: bytes) -> None:
    plugged = plug()
    plugged.key.faults.set(answer={4: answer})
    found = plugged.device.call(0x10, b"\x04")
    assert found.startswith(seen)
    assert len(found) == {"empty": 0, "one": 1, "long": 65535}.get(str(answer), len(found))
    plugged.key.faults.set(answer={}, status={4: 0x7F})
    assert plugged.device.call(0x10, b"\x04") == b"\x7f"


def test_a_request_that_takes_its_time(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(think={Command.SELECTION: 0.05})
    told: list[int] = []
    plugged.ctap.selection(on_keepalive=told.append)
    assert told == [1]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ({"counter": 3}, lambda data: data.counter == 3),
        ({"counter": 0}, lambda data: data.counter == 0),
        ({"flags_off": 0x01}, lambda data: not data.is_user_present()),
        ({"flags_on": 0x04}, lambda data: data.is_user_verified()),
        ({"flags_on": 0x18}, lambda data: data.flags & 0x18 == 0x18),
        ({"rp_id": "evil.org"}, lambda data: data.rp_id_hash == hashlib.sha256(b"evil.org").digest()),
    ],
)
def test_authenticator_data_that_is_wrong(
    plug: Plug, fault: dict[str, Any], seen: Callable[[AuthenticatorData], bool]
) -> None:
    plugged = plug()
    credential = plugged.make()
    assert not seen(plugged.assertion(credential).auth_data)
    plugged.key.faults.set(**fault)
    assert seen(plugged.assertion(credential).auth_data)


def test_an_assertion_that_is_wrong(plug: Plug) -> None:
    plugged = plug()
    credential = plugged.make(options={"rk": True})
    plugged.key.faults.set(user_handle=b"mallory", credential_id=b"not yours")
    assertion = plugged.assertion(credential)
    assert assertion.user == {"id": b"mallory"}
    assert assertion.credential["id"] == b"not yours"
    plugged.key.faults.set(bad_signature=True)
    with pytest.raises(InvalidSignature):
        plugged.assertion(credential)


def test_a_credential_that_is_odd(plug: Plug) -> None:
    plugged = plug(synced=True)
    plugged.key.faults.set(credential_id_length=2000)
    credential = plugged.make()
    assert len(credential.credential_id) == 2000
    assert plugged.assertion(credential).auth_data.flags & 0x18 == 0x18
    plugged.key.faults.set(public_key=cbor.encode({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)}))
    assert plugged.make().public_key == CoseKey.parse({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})


def test_no_fault_has_another_name(plug: Plug) -> None:
    with pytest.raises(TypeError, match="toch"):
        plug().key.faults.set(toch="never")
