"""python-fido2 as witness of the virtual keys: a client that has one open on its socket."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fido2.ctap import CtapError
from fido2.ctap2.base import AssertionResponse, Ctap2
from fido2.ctap2.pin import ClientPin, PinProtocolV2
from fido2.hid import CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor
from fido2.webauthn import AttestedCredentialData
from vdev.authenticator import Authenticator
from vdev.memory import Memory

DEADLINE = 30.0
HASH = hashlib.sha256(b"client data").digest()
RP = {"id": "example.org", "name": "Example"}
USER = {"id": b"1000", "name": "alice", "displayName": "Alice"}
GET_ASSERTION = ClientPin.PERMISSION.GET_ASSERTION


class Connection(CtapHidConnection):
    """What python-fido2 would open, on the key's socket."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        client.settimeout(DEADLINE)

    def read_packet(self) -> bytes:
        if packet := self._client.recv(64):
            return packet
        raise OSError("the key is gone")

    def write_packet(self, data: bytes) -> None:
        self._client.send(b"\0" + data)

    def close(self) -> None:
        self._client.close()


class Plugged:
    """A key, and a client that has it open."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.key = authenticator
        self.memory = Memory(authenticator)
        self.device = self.open()
        self.ctap = Ctap2(self.device)

    def open(self) -> CtapHidDevice:
        """One more channel."""
        descriptor = HidDescriptor("memory", 1, 2, 64, 64, "key", "1")
        return CtapHidDevice(descriptor, Connection(self.memory.client))

    def make(self, **more: Any) -> AttestedCredentialData:
        """A new credential, its attestation verified where it has one."""
        algorithms: list[Mapping[str, Any]] = [
            {"type": "public-key", "alg": number} for number in more.pop("algorithms", (-7,))
        ]
        user = more.pop("user", USER)
        made = self.ctap.make_credential(HASH, RP, user, algorithms, **more)
        credential = made.auth_data.credential_data
        assert credential
        return credential

    def assertion(self, credential: AttestedCredentialData, **more: Any) -> AssertionResponse:
        """An assertion by `credential`, its signature verified."""
        found = self.ctap.get_assertion(
            RP["id"], HASH, [{"type": "public-key", "id": credential.credential_id}], **more
        )
        credential.public_key.verify(found.auth_data + HASH, found.signature)
        return found


Plug = Callable[..., Plugged]


@contextlib.contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(CtapError) as raised:
        yield
    assert raised.value.code == code


def by_pin(
    plugged: Plugged, pin: str, protocol: Any = PinProtocolV2, permission: Any = GET_ASSERTION
) -> dict[str, Any]:
    """What to say to a command for a user who knows the PIN."""
    return proof(ClientPin(plugged.ctap, protocol()).get_pin_token(pin, permission, RP["id"]), protocol)


def proof(token: bytes, protocol: Any = PinProtocolV2) -> dict[str, Any]:
    return {"pin_uv_param": protocol().authenticate(token, HASH), "pin_uv_protocol": protocol.VERSION}


class Filtered(Connection):
    """A connection that sees its own channel alone."""

    def __init__(self, device: CtapHidDevice) -> None:
        assert isinstance(device._connection, Connection)
        super().__init__(device._connection._client)
        self._channel = device._channel_id.to_bytes(4, "big")

    def read_packet(self) -> bytes:
        while (packet := super().read_packet())[:4] != self._channel:
            pass
        return packet
