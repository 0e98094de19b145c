"""Clients of the virtual readers by pyscard and python-fido2, and the cards of their tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fido2.ctap2.base import Ctap2
from fido2.pcsc import CtapPcscDevice
from smartcard.Exceptions import CardConnectionException
from smartcard.scard import SCARD_LEAVE_CARD
from smartcard.System import readers as list_readers
from vdev.authenticator import Authenticator
from vdev.fido_card import AID, FidoApplet
from vdev.iso7816 import Card

SELECT_FIDO = b"\x00\xa4\x04\x00" + bytes([len(AID)]) + AID + b"\x00"
GET_INFO = b"\x80\x10\x80\x00\x01\x04\x00"
SELECTION = b"\x80\x10\x80\x00\x01\x0b\x00"  # authenticatorSelection: wait for a touch
SELECTION_WITHOUT_POLLING = b"\x80\x10\x00\x00\x01\x0b\x00"
HASH = hashlib.sha256(b"client data").digest()
RP = {"id": "example.org", "name": "Example"}
USER = {"id": b"1000", "name": "alice"}
ES256: list[Mapping[str, Any]] = [{"type": "public-key", "alg": -7}]


def key(seed: bytes = b"one", **options: Any) -> Card:
    """A security key to put into a reader."""
    return Card(FidoApplet(Authenticator(seed, **options)))


def inside(card: Card) -> Authenticator:
    """What is in it."""
    (applet,) = card.applets
    assert isinstance(applet, FidoApplet)
    return applet.authenticator


class Client:
    """Connections of pyscard's; close() it before their pcscd ends, or they complain when they are collected."""

    def __init__(self) -> None:
        self._connections: list[Any] = []

    def close(self) -> None:
        """End them all."""
        for connection in self._connections:
            with suppress(CardConnectionException):
                connection.disconnect()
            connection.release()

    def connect(self, number: int = 0, disposition: int = SCARD_LEAVE_CARD) -> Any:
        """A shared connection to the card in that reader. Raises CardConnectionException."""
        connection = self._connection(number)
        connection.connect(disposition=disposition)
        return connection

    def select_key(self, number: int = 0) -> Any:
        """A shared connection to the key in that reader, its applet selected. Raises CardConnectionException."""
        connection = self.connect(number)
        transmit(connection, SELECT_FIDO)
        return connection

    def open_key(self, number: int = 0) -> CtapPcscDevice:
        """The key in that reader. Raises ValueError where it is none."""
        return CtapPcscDevice(self._connection(number), "key")

    def _connection(self, number: int) -> Any:
        self._connections.append(sorted(list_readers(), key=str)[number].createConnection())
        return self._connections[-1]


def transmit(connection: Any, apdu: bytes) -> tuple[bytes, int]:
    """Data and status word that answer one APDU."""
    data, first, second = connection.transmit(list(apdu))
    return bytes(data), first << 8 | second


def make(device: CtapPcscDevice, **more: Any) -> Any:
    """A new credential."""
    return Ctap2(device).make_credential(HASH, RP, USER, ES256, **more).auth_data.credential_data


def verified(device: CtapPcscDevice, credential: Any, wanted: list[Mapping[str, Any]] | None = None) -> Any:
    """An assertion by `credential`. Raises InvalidSignature."""
    wanted = wanted or [{"type": "public-key", "id": credential.credential_id}]
    assertion = Ctap2(device).get_assertion(RP["id"], HASH, wanted)
    credential.public_key.verify(assertion.auth_data + HASH, assertion.signature)
    return assertion
