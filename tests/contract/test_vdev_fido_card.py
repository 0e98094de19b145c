"""The virtual key in a virtual reader, seen through the real pcscd by pyscard and python-fido2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import pytest
from cards import (
    ES256,
    GET_INFO,
    HASH,
    RP,
    SELECT_FIDO,
    SELECTION,
    SELECTION_WITHOUT_POLLING,
    USER,
    Client,
    inside,
    key,
    make,
    transmit,
    verified,
)
from cryptography.exceptions import InvalidSignature
from fido2.ctap import STATUS, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2
from machine import wait_for
from vdev.authenticator import Authenticator
from vdev.fido_card import GET_STATUS, MESSAGE
from vdev.iso7816 import GET_RESPONSE
from vdev.pcscd import Reader


@pytest.mark.parametrize("extended", [False, True], ids=["short", "extended"])
def test_a_credential_is_made_and_signs(readers: list[Reader], client: Client, extended: bool) -> None:
    card = key()
    readers[0].insert(card)
    device = client.open_key()
    device.use_ext_apdu = extended
    credential = make(device)
    others: list[Mapping[str, Any]] = [
        {"type": "public-key", "id": bytes([number]) * 65} for number in range(8)
    ]  # more than one APDU takes
    assertion = verified(device, credential, [*others, {"type": "public-key", "id": credential.credential_id}])
    with pytest.raises(InvalidSignature):
        credential.public_key.verify(assertion.auth_data + HASH[::-1], assertion.signature)
    chained = [exchange for exchange in card.commands(MESSAGE) if exchange.command[0] & 0x10]
    assert bool(chained) is bool(card.commands(GET_RESPONSE)) is not extended


def test_another_seed_is_another_key(readers: list[Reader], client: Client) -> None:
    readers[0].insert(key(b"one"))
    readers[3].insert(key(b"two"))
    first, second = client.open_key(0), client.open_key(3)
    credential = make(first)
    verified(first, credential)
    with pytest.raises(CtapError) as refused:
        verified(second, credential)
    assert refused.value.code == CtapError.ERR.NO_CREDENTIALS


@pytest.mark.parametrize("protocol", [PinProtocolV1, PinProtocolV2])
def test_a_pin_verifies_the_user_and_three_wrong_ones_last_until_the_card_is_out(
    readers: list[Reader], client: Client, protocol: Any
) -> None:
    card = key(pin="1234")
    readers[0].insert(card)
    device = client.open_key()
    pin = ClientPin(Ctap2(device), protocol())
    codes = []
    for _ in range(3):
        with pytest.raises(CtapError) as refused:
            pin.get_pin_token("9999", ClientPin.PERMISSION.GET_ASSERTION, RP["id"])
        codes.append(refused.value.code)
    wrong, paused = CtapError.ERR.PIN_INVALID, CtapError.ERR.PIN_AUTH_BLOCKED
    assert codes == [wrong, wrong, paused]
    readers[0].remove()
    readers[0].insert(card)
    device = client.open_key()
    pin = ClientPin(Ctap2(device), protocol())
    assert pin.get_pin_retries()[0] == 5
    token = pin.get_pin_token("1234", ClientPin.PERMISSION.MAKE_CREDENTIAL, RP["id"])
    proof = protocol().authenticate(token, HASH)
    made = Ctap2(device).make_credential(HASH, RP, USER, ES256, pin_uv_param=proof, pin_uv_protocol=protocol().VERSION)
    assert made.auth_data.is_user_verified()


def test_the_client_is_told_that_a_touch_is_awaited(readers: list[Reader], client: Client) -> None:
    card = key()
    readers[0].insert(card)
    device = client.open_key()
    inside(card).faults.set(touch="manual")
    told: list[int] = []

    def touch(status: int) -> None:
        told.append(status)
        inside(card).touch()

    make(device, on_keepalive=touch)
    assert told == [STATUS.UPNEEDED]


def test_the_client_cancels_what_waits_for_a_touch(readers: list[Reader], client: Client) -> None:
    card = key()
    readers[0].insert(card)
    device = client.open_key()
    inside(card).faults.set(touch="never")
    cancel = threading.Event()
    with pytest.raises(CtapError) as refused:
        make(device, event=cancel, on_keepalive=lambda status: cancel.set())
    assert refused.value.code == CtapError.ERR.KEEPALIVE_CANCEL
    assert {"cancel": True} in inside(card).trace
    inside(card).faults.set(touch="yes")
    verified(device, make(device))


def test_a_client_that_does_not_poll_waits(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card = key()
    readers[0].insert(card)
    connection = client.select_key()
    inside(card).faults.set(touch="manual")
    waiting = background(transmit, connection, SELECTION_WITHOUT_POLLING)
    wait_for("the request", lambda: inside(card).trace)
    inside(card).touch()
    assert touched_until(waiting, inside(card)) == (b"\x00", 0x9000)
    assert not card.commands(GET_STATUS)


def touched_until(waiting: Future[Any], authenticator: Authenticator) -> Any:
    """Touched before it waits, a key has not been touched: so until it helps."""

    def answered() -> bool:
        authenticator.touch()
        return waiting.done()

    wait_for("an answer", answered)
    return waiting.result()


def test_a_request_gives_up_the_one_before(readers: list[Reader], client: Client) -> None:
    card = key()
    readers[0].insert(card)
    connection = client.select_key()
    inside(card).faults.set(touch="never")
    assert transmit(connection, SELECTION) == (b"\x02", 0x9100)
    assert transmit(connection, GET_INFO)[1] == 0x9000
    assert {"cancel": True} in inside(card).trace


def test_selecting_anew_gives_up_what_runs(readers: list[Reader], client: Client) -> None:
    card = key()
    readers[0].insert(card)
    connection = client.select_key()
    inside(card).faults.set(touch="never")
    assert transmit(connection, SELECTION) == (b"\x02", 0x9100)
    assert transmit(connection, b"\x80\x11\x00\x00\x00") == (b"\x02", 0x9100)
    transmit(connection, SELECT_FIDO)
    assert {"cancel": True} in inside(card).trace
    assert transmit(connection, b"\x80\x11\x00\x00\x00") == (b"", 0x6985)
