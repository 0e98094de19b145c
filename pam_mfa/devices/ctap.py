"""One authenticator as the rest sees it: commands that take no user, commands that wait for a touch, and why they fail.

CTAP 2.1 section 6, on python-fido2's transports and CBOR. Its Ctap2 is left to PINs (verification.py): importing it
costs a login more than all else here, and its classes parse more of what a device says than anybody wants to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from fido2 import cbor
from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.hid import CAPABILITY, CTAPHID

from .base import MAX_CREDENTIAL_ID, TOUCH_SECONDS, Failure, Touch, Transport
from .line import QUIET_SECONDS, Left, Line, Out
from .terms import printable

FIRST_MESSAGE = 1024  # bytes, section 6.4: what every authenticator takes
SHORTEST_PIN = 4

ERR = CtapError.ERR
FAILURES = {
    ERR.CHANNEL_BUSY: Failure.BUSY,
    ERR.OPERATION_DENIED: Failure.DECLINED,
    ERR.NOT_ALLOWED: Failure.DECLINED,
    ERR.USER_ACTION_TIMEOUT: Failure.NOT_TOUCHED,
    ERR.ACTION_TIMEOUT: Failure.NOT_TOUCHED,
    ERR.PIN_BLOCKED: Failure.PIN_BLOCKED,
    ERR.PIN_AUTH_BLOCKED: Failure.PIN_PAUSED,
    ERR.PIN_NOT_SET: Failure.PIN_UNSET,
    ERR.PIN_POLICY_VIOLATION: Failure.PIN_CHANGE,
    ERR.PIN_INVALID: Failure.PIN_WRONG,
    ERR.UV_BLOCKED: Failure.VERIFICATION_BLOCKED,
    ERR.UV_INVALID: Failure.VERIFICATION_BLOCKED,
    ERR.CREDENTIAL_EXCLUDED: Failure.EXCLUDED,
    ERR.KEY_STORE_FULL: Failure.FULL,
    ERR.UNSUPPORTED_ALGORITHM: Failure.UNSUPPORTED,
    ERR.UNSUPPORTED_OPTION: Failure.UNSUPPORTED,
    ERR.INVALID_OPTION: Failure.UNSUPPORTED,
    ERR.INVALID_COMMAND: Failure.UNSUPPORTED,
    ERR.REQUEST_TOO_LARGE: Failure.UNSUPPORTED,
    ERR.LIMIT_EXCEEDED: Failure.UNSUPPORTED,
}

T = TypeVar("T")


class Command(IntEnum):
    """Section 6."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    GET_INFO = 0x04
    CLIENT_PIN = 0x06
    SELECTION = 0x0B


@dataclass(frozen=True, slots=True)
class Info:
    """What it says of itself, as far as anybody wants to know (section 6.4). Nothing in lists and mappings is checked.

    Args:
        aaguid: 16 bytes.
        most_in_list, longest_id: of credential ids; 1 and 1,023 where it does not say.
        fingers: fingerprints to try before the PIN; 0 where it does not say.
    """

    versions: list[Any]
    extensions: list[Any]
    aaguid: bytes
    options: dict[Any, Any]
    longest_message: int
    protocols: list[Any]
    most_in_list: int
    longest_id: int
    algorithms: list[Any]
    pin_change: bool
    min_pin: int
    firmware: int
    fingers: int

    @classmethod
    def read(cls, answer: Mapping[int, Any]) -> Info:
        """Raises TypeError, ValueError."""
        field = partial(_field, answer)
        aaguid = field(0x03, bytes, b"")
        if len(aaguid) != 16:
            raise ValueError("an AAGUID of another length")
        return cls(
            versions=field(0x01, list, []),
            extensions=field(0x02, list, []),
            aaguid=aaguid,
            options=field(0x04, dict, {}),
            longest_message=field(0x05, int, FIRST_MESSAGE),
            protocols=field(0x06, list, []),
            most_in_list=max(1, field(0x07, int, 1)),
            longest_id=field(0x08, int, 0) or MAX_CREDENTIAL_ID,
            algorithms=field(0x0A, list, []),
            pin_change=field(0x0C, bool, False),
            min_pin=field(0x0D, int, SHORTEST_PIN),
            firmware=field(0x0E, int, 0),
            fingers=field(0x11, int, 0),
        )


def _field(answer: Mapping[int, Any], label: int, kind: type[T], default: T) -> T:
    value = answer.get(label, default)
    if not isinstance(value, kind):
        raise TypeError(f"field {label}")
    return value


def failure(error: CtapError, line: Line) -> Failure:
    """What a status code of the device means for the request. Raises Left where nobody waits for it any more."""
    if error.code == ERR.KEEPALIVE_CANCEL:
        try:
            line.give_up()
        except Out as out:
            return out.why
    return FAILURES.get(error.code, Failure.NONSENSE)


class Authenticator:
    """A device that speaks CTAP2.

    Args:
        device: opened.
        transport, name: of it.
        line: to the broker.

    Raises Out(UNSUPPORTED) for one that does not.
    """

    def __init__(self, device: CtapDevice, transport: Transport, name: str, line: Line) -> None:
        if not device.capabilities & CAPABILITY.CBOR:
            raise Out(Failure.UNSUPPORTED)
        self.device = device
        self.transport = transport
        self.name = printable(name)
        self.line = line
        self._longest = FIRST_MESSAGE
        self.info = Info.read(self.call(Command.GET_INFO))
        self._longest = self.info.longest_message

    def can(self, option: str) -> bool:
        """Whether it has this option, and it is on."""
        return self.info.options.get(option) is True

    def call(self, command: Command, *parameters: Any) -> Mapping[int, Any]:
        """A command that takes no user; parameters from number 1 on, None for none. Raises CtapError and anything."""
        with self.line.within(QUIET_SECONDS):
            return self._send(command, parameters, None)

    def touch(self, command: Command, *parameters: Any, verifies: bool = False) -> Mapping[int, Any]:
        """A command that waits for the user, which is said once. Raises CtapError and anything."""
        with self.line.within(TOUCH_SECONDS):
            return self._send(command, parameters, self.cue(verifies))

    def cue(self, verifies: bool) -> Callable[[int], None]:
        """What python-fido2 is to call at a keepalive."""
        said = False

        def keepalive(status: int) -> None:
            nonlocal said
            if status == STATUS.UPNEEDED and not said:
                said = self.line.touching = True
                with suppress(Left):  # it is cancelled by whoever waits for its answer, and blinks no more
                    self.line.say(Touch(self.line.device, verifies))

        return keepalive

    def _send(
        self, command: Command, parameters: tuple[Any, ...], cue: Callable[[int], None] | None
    ) -> Mapping[int, Any]:
        fields = {label: value for label, value in enumerate(parameters, 1) if value is not None}
        request = bytes([command]) + (cbor.encode(fields) if fields else b"")
        if len(request) > self._longest:
            raise CtapError(ERR.REQUEST_TOO_LARGE)
        answer = self.device.call(CTAPHID.CBOR, request, None, cue)
        if answer[0]:
            raise CtapError(answer[0])
        return decoded(answer[1:]) if answer[1:] else {}


def decoded(answer: bytes) -> Mapping[int, Any]:
    """CBOR, and written in the one way that CTAP allows: python-fido2 alone would take halves of it."""
    found = cbor.decode(answer)
    if not isinstance(found, dict) or cbor.encode(found) != answer:
        raise ValueError("no canonical CBOR")
    return found
