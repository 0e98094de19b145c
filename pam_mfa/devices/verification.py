"""The user proves who they are to the authenticator: by finger, or by PIN where that fails (CTAP 2.1 section 6.5)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from fido2.ctap import CtapError

from .base import TOUCH_SECONDS, Choose, Chosen, Failure, Pin, PinReason, PinWanted, Verification
from .ctap import ERR, Authenticator, Command
from .line import QUIET_SECONDS, Left, Out

if TYPE_CHECKING:
    from fido2.ctap2.pin import ClientPin, PinProtocol

MAX_PIN = 63  # bytes, section 6.5.1
LAST_TRIES = 2  # the user's own
MAX_FINGERS = 5
TOUCHED = (ERR.PIN_INVALID, ERR.PIN_NOT_SET, ERR.PIN_AUTH_INVALID)
GET_PIN_RETRIES = 0x01  # section 6.5.5.2
PIN_RETRIES, POWER_CYCLE_STATE = 0x03, 0x04


class Permission(IntFlag):
    """Of a token (section 6.5.5.7)."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02


@dataclass(frozen=True, slots=True)
class Permit:
    """What a command is sent with: a token that authenticates it, or the wish to be verified on the way (CTAP 2.0)."""

    protocol: PinProtocol | None = None
    token: bytes = b""
    on_the_way: bool = False


NOT_VERIFIED = Permit()


def client_pin(it: Authenticator) -> ClientPin:
    """python-fido2's, which asks getInfo once more. Imported here: most logins want no PIN. Raises as CTAP may."""
    from fido2.ctap2.base import Ctap2
    from fido2.ctap2.pin import ClientPin

    with it.line.within(QUIET_SECONDS):
        return ClientPin(Ctap2(it.device))


def protocol_number(it: Authenticator) -> int:
    """Of the PIN protocol that python-fido2 takes."""
    return 2 if 2 in it.info.protocols else 1


def tries_left(it: Authenticator) -> tuple[int, bool]:
    """How many PINs may be wrong, and whether it takes none until it was unplugged. Raises CtapError and anything."""
    answer = it.call(Command.CLIENT_PIN, protocol_number(it), GET_PIN_RETRIES)
    tries = answer[PIN_RETRIES]
    if not isinstance(tries, int):
        raise TypeError("no number of tries")
    return tries, answer.get(POWER_CYCLE_STATE) is True


class UserVerification:
    """Of one authenticator, for one command.

    Args:
        authenticator: in question.
        permission, rp_id: what a token is to be good for.
        patient: whether a wrong PIN may be followed by another one.
    """

    def __init__(self, authenticator: Authenticator, permission: Permission, rp_id: str, patient: bool) -> None:
        self._it = authenticator
        self._line = authenticator.line
        self._permission = permission
        self._rp_id = rp_id
        self._patient = patient

    @property
    def possible(self) -> bool:
        """Whether it has a finger or a PIN to go by."""
        return self._it.can("uv") or self._it.can("clientPin")

    def permit(self, verification: Verification, needed: bool) -> Permit:
        """As the request wants it, and the authenticator.

        Args:
            needed: the authenticator does not do it otherwise.

        Raises Out, CtapError.
        """
        wanted = needed or verification is not Verification.DISCOURAGED
        if wanted and self.possible:
            return self.prove()
        if verification is Verification.REQUIRED:
            known = self._it.info.options.keys() & {"uv", "clientPin"}
            raise Out(Failure.PIN_UNSET if known else Failure.UNSUPPORTED)
        return NOT_VERIFIED

    def prove(self) -> Permit:
        """By whatever there is. Raises Out, CtapError."""
        if not self._it.can("uv"):
            return self.by_pin(PinReason.FIRST)
        if not self._it.can("pinUvAuthToken"):
            return Permit(on_the_way=True)
        return self._by_finger() or self.by_pin(PinReason.VERIFICATION_BLOCKED)

    def _by_finger(self) -> Permit | None:
        """None where too many did not fit."""
        client = client_pin(self._it)
        for _ in range(min(self._it.info.fingers or MAX_FINGERS, MAX_FINGERS)):
            try:
                with self._line.within(TOUCH_SECONDS):
                    cue = self._it.cue(verifies=True)
                    token = client.get_uv_token(client.PERMISSION(self._permission), self._rp_id, None, cue)
                return Permit(client.protocol, token)
            except CtapError as error:
                if error.code == ERR.UV_BLOCKED:
                    return None
                if error.code != ERR.UV_INVALID:
                    raise
        return None

    def by_pin(self, reason: PinReason) -> Permit:
        """Raises Out, CtapError."""
        if not self._it.can("clientPin"):
            raise Out(Failure.VERIFICATION_BLOCKED if reason is PinReason.VERIFICATION_BLOCKED else Failure.PIN_UNSET)
        if self._it.info.pin_change:
            raise Out(Failure.PIN_CHANGE)
        while True:
            if permit := self._permit_for(self._ask(reason, self._tries())):
                return permit
            if not self._patient:
                raise Out(Failure.PIN_WRONG)
            reason = PinReason.WRONG

    def _tries(self) -> int:
        """How many are left, if there are more than the user's own."""
        tries, paused = tries_left(self._it)
        if tries == 0:
            raise Out(Failure.PIN_BLOCKED)
        if paused:
            raise Out(Failure.PIN_PAUSED)
        if tries <= LAST_TRIES:
            raise Out(Failure.PIN_LAST_TRIES)
        return tries

    def _ask(self, reason: PinReason, tries: int) -> str:
        self._line.say(PinWanted(self._line.device, reason, tries))
        while isinstance(followup := self._line.hear(), Choose):
            self._choose()
            self._line.say(Chosen(self._line.device))
        if not isinstance(followup, Pin):
            raise Left
        return followup.pin

    def _permit_for(self, pin: str) -> Permit | None:
        """None for a wrong PIN. One that cannot be right costs no try. Raises Out, CtapError."""
        pin = unicodedata.normalize("NFC", pin)
        if len(pin) < self._it.info.min_pin or len(pin.encode()) > MAX_PIN:
            return None
        client = client_pin(self._it)
        self._tries()  # somebody who takes no lock may have spent some while the user was typing
        try:
            with self._line.within(QUIET_SECONDS):
                token = client.get_pin_token(pin, client.PERMISSION(self._permission), self._rp_id)
            return Permit(client.protocol, token)
        except CtapError as error:
            if error.code != ERR.PIN_INVALID:
                raise
        return None

    def _choose(self) -> None:
        """Wait until it is touched (section 6.9). Keys older than that are told to make something that they cannot."""
        if "FIDO_2_1" in self._it.info.versions:
            self._it.touch(Command.SELECTION)
            return
        party, user = {"id": "example.com", "name": "example.com"}, {"id": b"\0", "name": "example"}
        kinds = [{"type": "public-key", "alg": -7}]
        nothing = b""
        try:
            proof = nothing, protocol_number(self._it)
            self._it.touch(Command.MAKE_CREDENTIAL, bytes(32), party, user, kinds, None, None, None, *proof)
        except CtapError as error:
            if error.code not in TOUCHED:
                raise
