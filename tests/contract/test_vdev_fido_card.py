"""The virtual key in a virtual reader, seen through the real pcscd by pyscard and python-fido2."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from fido2.ctap import STATUS, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2
from fido2.pcsc import CtapPcscDevice
from machine import Machine, wait_for
from smartcard.Exceptions import CardConnectionException, NoCardException
from smartcard.pcsc.PCSCExceptions import EstablishContextException
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_RESET_CARD
from smartcard.System import readers as list_readers
from vdev.authenticator import Authenticator
from vdev.fido_card import AID, GET_STATUS, MESSAGE, FidoApplet
from vdev.iso7816 import GET_RESPONSE, Card, Command
from vdev.pcscd import FIRST_PORT, Pcscd, Reader

SELECT_FIDO = b"\x00\xa4\x04\x00" + bytes([len(AID)]) + AID + b"\x00"
GET_INFO = b"\x80\x10\x80\x00\x01\x04\x00"
HASH = hashlib.sha256(b"client data").digest()
RP = {"id": "example.org", "name": "Example"}
USER = {"id": b"1000", "name": "alice"}
ES256: list[Mapping[str, Any]] = [{"type": "public-key", "alg": -7}]


def key(seed: bytes = b"one", **options: Any) -> Card:
    return Card(FidoApplet(Authenticator(seed, **options)))


def inside(card: Card) -> Authenticator:
    (applet,) = card.applets
    assert isinstance(applet, FidoApplet)
    return applet.authenticator


class Client:
    """Connections of pyscard's; close() it before their pcscd ends, or they complain when they are collected."""

    def __init__(self) -> None:
        self._connections: list[Any] = []

    def close(self) -> None:
        for connection in self._connections:
            with suppress(CardConnectionException):
                connection.disconnect()
            connection.release()

    def connect(self, number: int = 0, disposition: int = SCARD_LEAVE_CARD) -> Any:
        connection = self._connection(number)
        connection.connect(disposition=disposition)
        return connection

    def open_key(self, number: int = 0) -> CtapPcscDevice:
        return CtapPcscDevice(self._connection(number), "key")

    def _connection(self, number: int) -> Any:
        self._connections.append(list_readers()[number].createConnection())
        return self._connections[-1]


@pytest.fixture
def client(pcscd: Pcscd) -> Iterator[Client]:
    with closing(Client()) as client:
        yield client


def transmit(connection: Any, apdu: bytes) -> tuple[bytes, int]:
    data, first, second = connection.transmit(list(apdu))
    return bytes(data), first << 8 | second


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Runs what waits for a card."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def verified(device: CtapPcscDevice, credential: Any, wanted: list[Mapping[str, Any]] | None = None) -> Any:
    """An assertion by `credential`, its signature checked."""
    wanted = wanted or [{"type": "public-key", "id": credential.credential_id}]
    assertion = Ctap2(device).get_assertion(RP["id"], HASH, wanted)
    credential.public_key.verify(assertion.auth_data + HASH, assertion.signature)
    return assertion


def make(device: CtapPcscDevice, **more: Any) -> Any:
    return Ctap2(device).make_credential(HASH, RP, USER, ES256, **more).auth_data.credential_data


# ---------------------------------------------------------------------------------------------------------- the key


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
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    inside(card).faults.set(touch="manual")
    waiting = background(transmit, connection, b"\x80\x10\x00\x00\x01\x0b\x00")  # authenticatorSelection
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


def test_selecting_anew_gives_up_what_runs(readers: list[Reader], client: Client) -> None:
    card = key()
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    inside(card).faults.set(touch="never")
    assert transmit(connection, b"\x80\x10\x80\x00\x01\x0b\x00") == (b"\x02", 0x9100)
    assert transmit(connection, b"\x80\x11\x00\x00\x00") == (b"\x02", 0x9100)
    transmit(connection, SELECT_FIDO)
    assert {"cancel": True} in inside(card).trace
    assert transmit(connection, b"\x80\x11\x00\x00\x00") == (b"", 0x6985)


# ----------------------------------------------------------------------------------------------- cards that come and go


def test_no_card(readers: list[Reader], client: Client) -> None:
    with pytest.raises(NoCardException):
        client.connect()


def test_a_foreign_card(readers: list[Reader], client: Client) -> None:
    readers[0].insert(Card())
    assert transmit(client.connect(), SELECT_FIDO) == (b"", 0x6A82)
    with pytest.raises(ValueError, match="applet selection"):
        client.open_key()


def test_a_card_is_pulled_while_it_waits_for_a_touch(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card = key()
    readers[0].insert(card)
    device = client.open_key()
    inside(card).faults.set(touch="never")
    told = threading.Event()
    waiting = background(make, device, on_keepalive=lambda status: told.set())
    assert told.wait(30)
    readers[0].remove()
    assert isinstance(waiting.exception(30), CardConnectionException)


def test_a_card_is_pulled_while_a_client_that_does_not_poll_waits(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card = key()
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    inside(card).faults.set(touch="never")
    waiting = background(transmit, connection, b"\x80\x10\x00\x00\x01\x0b\x00")
    wait_for("the request", lambda: inside(card).trace)
    readers[0].remove()
    assert isinstance(waiting.exception(30), CardConnectionException)
    assert {"cancel": True} in inside(card).trace


def test_a_card_pulls_itself_in_the_middle_of_a_command(readers: list[Reader], client: Client) -> None:
    card = key()
    card.faults.before[MESSAGE] = lambda command: readers[0].remove(wait=False)
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    with pytest.raises(CardConnectionException):
        transmit(connection, GET_INFO)


def test_a_swap_is_seen_or_not(readers: list[Reader], client: Client) -> None:
    first, second, third = key(b"one"), key(b"two"), key(b"three")
    readers[0].insert(first)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    readers[0].swap(second, unseen=True)
    assert transmit(connection, GET_INFO) == (b"", 0x6D00)  # another card, of which no applet is selected
    assert not first.commands(MESSAGE)
    assert transmit(connection, SELECT_FIDO) == (b"FIDO_2_0", 0x9000)
    readers[0].swap(third)
    with pytest.raises(CardConnectionException, match="0x80100069"):  # removed
        transmit(connection, GET_INFO)


def test_a_swap_in_the_middle_of_a_command_has_the_other_card_answer(readers: list[Reader], client: Client) -> None:
    first, second = key(b"one"), Card()

    def swap(command: Command) -> None:
        readers[0].swap(second, unseen=True)

    first.faults.before[MESSAGE] = swap
    readers[0].insert(first)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    assert transmit(connection, GET_INFO) == (b"", 0x6D00)
    assert len(second.trace) == 1


# ------------------------------------------------------------------------------------------------------ other clients


def test_another_client_resets_the_card(readers: list[Reader], client: Client) -> None:
    readers[0].insert(key())
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    client.connect(disposition=SCARD_RESET_CARD).disconnect()
    with pytest.raises(CardConnectionException, match="0x80100068"):
        transmit(connection, GET_INFO)


def test_two_clients_share_a_card(readers: list[Reader], client: Client) -> None:
    readers[0].insert(key())
    first, second = client.connect(), client.connect()
    transmit(first, SELECT_FIDO)
    assert transmit(second, GET_INFO)[1] == 0x9000  # of the applet that the other one selected


def test_a_late_card_holds_up_its_own_reader_alone(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card, late = key(), threading.Event()

    def wait(command: Command) -> None:
        late.wait(30)

    card.faults.before[MESSAGE] = wait
    readers[0].insert(card)
    readers[1].insert(key(b"two"))
    readers[2].insert(key(b"three"))
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    waiting = background(transmit, connection, GET_INFO)
    for other in (1, 2):
        verified(device := client.open_key(other), make(device))
    assert not waiting.done()
    late.set()
    assert waiting.result(30)[1] == 0x9000


def test_removal_ends_the_wait_of_a_late_card(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card = key()
    card.faults.late[MESSAGE] = 3600
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    waiting = background(transmit, connection, GET_INFO)
    readers[0].remove()
    assert isinstance(waiting.exception(30), CardConnectionException)


# ---------------------------------------------------------------------------------------------------- answers of none


@pytest.mark.parametrize(
    ("name", "answer"),
    [("6F00", (b"", 0x6F00)), ("long", (bytes(60_000), 0x9000)), ("wrong length", (b"", 0x6C10))],
)
def test_odd_answers(readers: list[Reader], client: Client, name: str, answer: tuple[bytes, int]) -> None:
    card = key()
    card.faults.answer[MESSAGE] = name
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    assert transmit(connection, GET_INFO) == answer


@pytest.mark.parametrize("name", ["empty", "one"])
def test_an_answer_too_short_to_be_one(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]], name: str
) -> None:
    """An empty one may hang the client, until the card is out."""
    card = key()
    card.faults.answer[MESSAGE] = name
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    waiting = background(transmit, connection, GET_INFO)
    wait_for("the answer", lambda: card.commands(MESSAGE))
    readers[0].remove()
    assert waiting.exception(30)


def test_an_answer_without_end(readers: list[Reader], client: Client) -> None:
    card = key()
    card.faults.answer |= {MESSAGE: "endless", GET_RESPONSE: "endless"}
    readers[0].insert(card)
    connection = client.connect()
    transmit(connection, SELECT_FIDO)
    for apdu in [GET_INFO] + [b"\x00\xc0\x00\x00\xff"] * 300:
        assert transmit(connection, apdu) == (bytes(16), 0x61FF)


def test_a_reader_that_hangs_before_the_card_says_what_it_is(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
) -> None:
    card, hang = key(), threading.Event()
    readers[0].insert(card)
    readers[1].insert(key(b"two"))
    asked = threading.Event()

    def power() -> None:
        asked.set()
        hang.wait(30)

    card.faults.power = power
    assert asked.wait(30)
    waiting = background(client.connect, 0)
    client.connect(1)
    assert not waiting.done()
    hang.set()
    waiting.result(30)


# ------------------------------------------------------------------------------------------------------------- pcscd


def test_a_hung_and_an_absent_pcscd(pcscd: Pcscd, background: Callable[..., Future[Any]]) -> None:
    os.kill(pcscd.pid, signal.SIGSTOP)
    waiting = background(list_readers)
    pcscd.stop()
    assert isinstance(waiting.exception(30), EstablishContextException)
    with pytest.raises(EstablishContextException, match="0x8010001D"):
        list_readers()
    pcscd.start()
    assert len(list_readers()) == 4


def test_no_reader_can_be_reached_over_the_network(readers: list[Reader]) -> None:
    with socket.socket() as stranger:
        assert stranger.connect_ex(("127.0.0.1", FIRST_PORT)) != 0


def test_a_private_machine_has_readers_of_its_own(machine: Machine) -> None:
    with Pcscd(1, machine.path("/run/pcscd/pcscd.comm")) as pcscd:
        pcscd.readers[0].insert(key())
        select = SELECT_FIDO.hex()
        said = machine.run(["opensc-tool", "--reader", "0", "--send-apdu", select], user="alice").stdout
    assert "SW1=0x90, SW2=0x00" in said
