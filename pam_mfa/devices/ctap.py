"""One authenticator as the rest sees it: commands that take no user, commands that wait for a touch, and why they fail.

CTAP 2.1 section 6, by python-fido2's Ctap2. Commands go out field by field (`send_cbor`): its answer classes parse more
of what a device says than anybody here wants to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.ctap2.base import Ctap2, Info, args
from fido2.hid import CAPABILITY

from .base import MAX_NAME, TOUCH_SECONDS, Failure, Touch, Transport
from .line import QUIET_SECONDS, Line, Out

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


def failure(error: CtapError, line: Line) -> Failure:
    """What a status code of the device means for the request. Raises Left where nobody waits for it any more."""
    if error.code == ERR.KEEPALIVE_CANCEL:
        try:
            line.give_up()
        except Out as out:
            return out.why
    return FAILURES.get(error.code, Failure.NONSENSE)


def printable(text: object) -> str:
    """A device's words as far as they may be shown. Raises TypeError."""
    if not isinstance(text, str):
        raise TypeError("no text")
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:MAX_NAME])
    return shown.strip()


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
        self.transport = transport
        self.name = printable(name)
        self.line = line
        with line.within(QUIET_SECONDS):
            self.ctap = Ctap2(device)
        self.info: Info = self.ctap.info

    def can(self, option: str) -> bool:
        """Whether it has this option, and it is on."""
        return self.info.options.get(option) is True

    def call(self, command: int, *parameters: Any) -> Mapping[int, Any]:
        """A command that takes no user. Raises CtapError and anything."""
        with self.line.within(QUIET_SECONDS):
            return self.ctap.send_cbor(command, args(*parameters))

    def touch(self, command: int, *parameters: Any, verifies: bool = False) -> Mapping[int, Any]:
        """A command that waits for the user, which is said once. Raises CtapError and anything."""
        with self.line.within(TOUCH_SECONDS):
            return self.ctap.send_cbor(command, args(*parameters) or None, on_keepalive=self.cue(verifies))

    def cue(self, verifies: bool) -> Any:
        """What python-fido2 is to call at a keepalive."""
        said = False

        def keepalive(status: int) -> None:
            nonlocal said
            if status == STATUS.UPNEEDED and not said:
                said = self.line.touching = True
                self.line.say(Touch(self.line.device, verifies))

        return keepalive
