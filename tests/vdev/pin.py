"""clientPIN: PIN/UV auth protocols one and two, PIN tries, and the token (CTAP 2.1 section 6.5)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .ctap import Permission, Refused, Status

PIN_TRIES = 8
PIN_TRIES_AT_ONCE = 3  # then the key wants to be plugged in again
UV_TRIES = 3
MAX_PIN = 63  # bytes
BLOCK = 16


def _aes(key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(iv))


class Protocol1:
    """PIN/UV auth protocol one (section 6.5.6)."""

    def derive(self, point: bytes) -> tuple[bytes, bytes]:
        """HMAC key and AES key out of the ECDH x coordinate."""
        key = hashlib.sha256(point).digest()
        return key, key

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        encryptor = _aes(key, bytes(BLOCK)).encryptor()
        return encryptor.update(plain) + encryptor.finalize()

    def decrypt(self, key: bytes, encrypted: bytes) -> bytes:
        decryptor = _aes(key, bytes(BLOCK)).decryptor()
        return decryptor.update(encrypted) + decryptor.finalize()

    def authenticate(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, "sha256")[:16]


class Protocol2(Protocol1):
    """PIN/UV auth protocol two (section 6.5.7)."""

    def derive(self, point: bytes) -> tuple[bytes, bytes]:
        first, second = (
            HKDF(hashes.SHA256(), 32, bytes(32), info).derive(point) for info in (b"CTAP2 HMAC key", b"CTAP2 AES key")
        )
        return first, second

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        iv = secrets.token_bytes(BLOCK)
        encryptor = _aes(key, iv).encryptor()
        return iv + encryptor.update(plain) + encryptor.finalize()

    def decrypt(self, key: bytes, encrypted: bytes) -> bytes:
        decryptor = _aes(key, encrypted[:BLOCK]).decryptor()
        return decryptor.update(encrypted[BLOCK:]) + decryptor.finalize()

    def authenticate(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, "sha256")


PROTOCOLS = {1: Protocol1(), 2: Protocol2()}


def protocol_of(number: object) -> Protocol1:
    """Raises Refused for a protocol that is missing or unknown."""
    if number is None:
        raise Refused(Status.MISSING_PARAMETER)
    if not isinstance(number, int) or number not in PROTOCOLS:
        raise Refused(Status.INVALID_PARAMETER)
    return PROTOCOLS[number]


class ClientPin:
    """PIN, tries and token of one authenticator.

    Args:
        pin: the one that is set, None for none.
        minimum: code points that a new PIN must have.
        force_change: the PIN is to be changed before it is good for anything.
        verify: waits for a finger on the reader, True where it is the right one; None where there is no reader.
    """

    def __init__(
        self, pin: str | None, minimum: int, force_change: bool, verify: Callable[[], bool] | None = None
    ) -> None:
        self.minimum = minimum
        self.force_change = force_change
        self._verify = verify
        self._hash = _hash(pin.encode()) if pin is not None else None
        self.tries = PIN_TRIES
        self.uv_tries = UV_TRIES
        self.power_cycle()

    def power_cycle(self) -> None:
        """Plugged in again: a new key pair, no token, three tries at once."""
        self._misses = 0
        self._private = ec.generate_private_key(ec.SECP256R1())
        self.end_token()

    @property
    def is_set(self) -> bool:
        """Whether there is a PIN."""
        return self._hash is not None

    # ------------------------------------------------------------------------------------------------------ commands

    def process(self, request: dict[int, Any]) -> dict[int, Any]:
        """One authenticatorClientPIN. Raises Refused."""
        number = request.get(2)
        if number is None:
            raise Refused(Status.MISSING_PARAMETER)
        if number == 1:
            return {3: self.tries, 4: self._misses >= PIN_TRIES_AT_ONCE}
        if number == 7 and self._verify:
            return {5: self.uv_tries}
        commands = {2: self._agree, 3: self._set, 4: self._change, 5: self._old_token, 9: self._pin_token}
        if self._verify:
            commands[6] = self._uv_token
        if number not in commands:
            raise Refused(Status.INVALID_SUBCOMMAND)
        return commands[number](protocol_of(request.get(1)), request)

    def _agree(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        numbers = self._private.public_key().public_numbers()
        return {1: {1: 2, 3: -25, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}}

    def _set(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        mac_key, key = self._shared(protocol, request)
        if self.is_set:
            raise Refused(Status.PIN_AUTH_INVALID)
        self._check(protocol, mac_key, request[5], request[4])
        self._take_new(protocol, key, request[5])
        return {}

    def _change(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        mac_key, key = self._shared(protocol, request)
        self._check(protocol, mac_key, request[5] + request[6], request[4])
        self._match(protocol, key, request[6])
        self._take_new(protocol, key, request[5])
        return {}

    def _old_token(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        key = self._shared(protocol, request)[1]
        self._match(protocol, key, request[6])
        if self.force_change:
            raise Refused(Status.PIN_INVALID)
        return self._give_token(protocol, key, Permission.MC | Permission.GA, None)

    def _pin_token(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        key = self._shared(protocol, request)[1]
        permissions = _permissions(request)
        self._match(protocol, key, request[6])
        if self.force_change:
            raise Refused(Status.PIN_POLICY_VIOLATION)
        return self._give_token(protocol, key, permissions, request.get(10))

    def _uv_token(self, protocol: Protocol1, request: dict[int, Any]) -> dict[int, Any]:
        key = self._shared(protocol, request)[1]
        permissions = _permissions(request)
        if not self.verify():
            raise Refused(Status.UV_INVALID if self.uv_tries else Status.UV_BLOCKED)
        return self._give_token(protocol, key, permissions, request.get(10))

    def verify(self) -> bool:
        """Built-in user verification, its tries counted. Raises Refused where none are left."""
        assert self._verify
        if not self.uv_tries:
            raise Refused(Status.UV_BLOCKED)
        matched = self._verify()
        self.uv_tries = UV_TRIES if matched else self.uv_tries - 1
        return matched

    # ------------------------------------------------------------------------------------------------------- the PIN

    def _shared(self, protocol: Protocol1, request: dict[int, Any]) -> tuple[bytes, bytes]:
        try:
            x, y = (int.from_bytes(request[3][label], "big") for label in (-2, -3))
            other = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except KeyError:
            raise Refused(Status.MISSING_PARAMETER) from None
        except ValueError:
            raise Refused(Status.INVALID_PARAMETER) from None
        return protocol.derive(self._private.exchange(ec.ECDH(), other))

    def _check(self, protocol: Protocol1, key: bytes, message: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(protocol.authenticate(key, message), proof):
            raise Refused(Status.PIN_AUTH_INVALID)

    def _match(self, protocol: Protocol1, key: bytes, encrypted: bytes) -> None:
        if self._hash is None:
            raise Refused(Status.PIN_NOT_SET)
        if not self.tries:
            raise Refused(Status.PIN_BLOCKED)
        if self._misses >= PIN_TRIES_AT_ONCE:
            raise Refused(Status.PIN_AUTH_BLOCKED)
        self.tries -= 1
        if not hmac.compare_digest(protocol.decrypt(key, encrypted), self._hash):
            self._miss()
        self.tries, self._misses, self.uv_tries = PIN_TRIES, 0, UV_TRIES

    def _miss(self) -> None:
        self._misses += 1
        self._private = ec.generate_private_key(ec.SECP256R1())
        if not self.tries:
            raise Refused(Status.PIN_BLOCKED)
        raise Refused(Status.PIN_AUTH_BLOCKED if self._misses >= PIN_TRIES_AT_ONCE else Status.PIN_INVALID)

    def _take_new(self, protocol: Protocol1, key: bytes, encrypted: bytes) -> None:
        padded = protocol.decrypt(key, encrypted)
        pin = padded.rstrip(b"\0")
        if len(padded) != 64:
            raise Refused(Status.INVALID_PARAMETER)
        if len(pin) > MAX_PIN or len(pin.decode(errors="replace")) < self.minimum:
            raise Refused(Status.PIN_POLICY_VIOLATION)
        if self.force_change and _hash(pin) == self._hash:
            raise Refused(Status.PIN_POLICY_VIOLATION)
        self._hash, self.tries, self.force_change = _hash(pin), PIN_TRIES, False
        self.end_token()

    # ----------------------------------------------------------------------------------------------------- the token

    def end_token(self) -> None:
        """Nobody has one any more."""
        self._token, self._permissions = secrets.token_bytes(32), Permission(0)
        self._rp_id: str | None = None

    def _give_token(self, protocol: Protocol1, key: bytes, permissions: int, rp_id: str | None) -> dict[int, Any]:
        self.end_token()
        self._permissions, self._rp_id = Permission(permissions), rp_id
        return {2: protocol.encrypt(key, self._token)}

    def check_token(self, protocol: Protocol1, message: bytes, proof: bytes, need: Permission, rp_id: str) -> None:
        """Whether `proof` shows a token that is good for `need` and `rp_id`. Raises Refused."""
        self._check(protocol, self._token, message, proof)
        if not self._permissions & need or self._rp_id not in (None, rp_id):
            raise Refused(Status.PIN_AUTH_INVALID)
        self._rp_id = rp_id

    def spend_token(self) -> None:
        """A touch was given: what the token permitted is over (section 6.2.2, step "clear permissions")."""
        self._permissions = Permission(0)


def _hash(pin: bytes) -> bytes:
    return hashlib.sha256(pin).digest()[:16]


def _permissions(request: dict[int, Any]) -> int:
    permissions = request.get(9)
    if not isinstance(permissions, int):
        raise Refused(Status.MISSING_PARAMETER)
    if not permissions or permissions & ~(Permission.MC | Permission.GA):
        raise Refused(Status.UNAUTHORIZED_PERMISSION if permissions else Status.INVALID_PARAMETER)
    if request.get(10) is None:
        raise Refused(Status.MISSING_PARAMETER)
    return permissions
