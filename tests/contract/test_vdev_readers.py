"""Virtual readers: cards that come, go, hang and answer nonsense, other clients, and pcscd itself."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from cards import (
    GET_INFO,
    SELECT_FIDO,
    SELECTION_WITHOUT_POLLING,
    Client,
    inside,
    key,
    make,
    transmit,
    verified,
)
from machine import Machine, wait_for
from smartcard.Exceptions import CardConnectionException, NoCardException
from smartcard.pcsc.PCSCExceptions import EstablishContextException
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_RESET_CARD
from smartcard.System import readers as list_readers
from vdev.fido_card import MESSAGE
from vdev.iso7816 import GET_RESPONSE, Card, Command
from vdev.pcscd import FIRST_PORT, Pcscd, Reader

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
    connection = client.select_key()
    inside(card).faults.set(touch="never")
    waiting = background(transmit, connection, SELECTION_WITHOUT_POLLING)
    wait_for("the request", lambda: inside(card).trace)
    readers[0].remove()
    assert isinstance(waiting.exception(30), CardConnectionException)
    assert {"cancel": True} in inside(card).trace


def test_a_card_pulls_itself_in_the_middle_of_a_command(readers: list[Reader], client: Client) -> None:
    card = key()
    card.faults.before[MESSAGE] = lambda command: readers[0].remove(wait=False)
    readers[0].insert(card)
    connection = client.select_key()
    with pytest.raises(CardConnectionException):
        transmit(connection, GET_INFO)


def test_a_swap_is_seen_or_not(readers: list[Reader], client: Client) -> None:
    first, second, third = key(b"one"), key(b"two"), key(b"three")
    readers[0].insert(first)
    connection = client.select_key()
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
    connection = client.select_key()
    assert transmit(connection, GET_INFO) == (b"", 0x6D00)
    assert len(second.trace) == 1


# ------------------------------------------------------------------------------------------------------ other clients


def test_another_client_resets_the_card(readers: list[Reader], client: Client) -> None:
    readers[0].insert(key())
    connection = client.select_key()
    client.connect(disposition=SCARD_RESET_CARD).disconnect()
    with pytest.raises(CardConnectionException, match="0x80100068"):
        transmit(connection, GET_INFO)
    connection.reconnect(disposition=SCARD_LEAVE_CARD)
    assert transmit(connection, GET_INFO) == (b"", 0x6D00)  # no applet is selected any more


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
    connection = client.select_key()
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
    connection = client.select_key()
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
    connection = client.select_key()
    assert transmit(connection, GET_INFO) == answer


@pytest.mark.parametrize("name", ["empty", "one"])
def test_an_answer_too_short_to_be_one(
    readers: list[Reader], client: Client, background: Callable[..., Future[Any]], name: str
) -> None:
    """An empty one may hang the client, until the card is out."""
    card = key()
    card.faults.answer[MESSAGE] = name
    readers[0].insert(card)
    connection = client.select_key()
    waiting = background(transmit, connection, GET_INFO)
    wait_for("the answer", lambda: card.commands(MESSAGE))
    readers[0].remove()
    assert waiting.exception(30)


def test_an_answer_without_end(readers: list[Reader], client: Client) -> None:
    card = key()
    card.faults.answer |= {MESSAGE: "endless", GET_RESPONSE: "endless"}
    readers[0].insert(card)
    connection = client.select_key()
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


def test_a_pcscd_that_lets_nobody_in(pcscd: Pcscd) -> None:
    pcscd.refuse()
    for _ in range(2):
        with pytest.raises(EstablishContextException, match="0x8010006A"):
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
