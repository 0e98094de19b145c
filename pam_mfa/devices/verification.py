"""The user proves who they are to the authenticator: by finger, or by PIN where that fails (CTAP 2.1 section 6.5)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from fido2.ctap import CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin

from .base import TOUCH_SECONDS, Choose, Chosen, Failure, PinReason, PinWanted, Verification
from .ctap import ERR, Authenticator
from .line import QUIET_SECONDS, Out

MAX_PIN = 63  # bytes, section 6.5.1
LAST_TRIES = 2  # the user's own
MAX_FINGERS = 5
TOUCHED = (ERR.PIN_INVALID, ERR.PIN_NOT_SET, ERR.PIN_AUTH_INVALID)

Permission = ClientPin.PERMISSION


@dataclass(frozen=True, slots=True)
class Permit:
    """What a command is sent with: a token that authenticates it, or the wish to be verified on the way (CTAP 2.0)."""

    protocol: int | None = None
    token: bytes | None = None
    on_the_way: bool = False


NOT_VERIFIED = Permit()


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
        client = ClientPin(self._it.ctap)
        for _ in range(min(self._it.info.preferred_platform_uv_attempts or MAX_FINGERS, MAX_FINGERS)):
            try:
                with self._line.within(TOUCH_SECONDS):
                    cue = self._it.cue(verifies=True)
                    token = client.get_uv_token(self._permission, self._rp_id, None, cue)
                return Permit(client.protocol.VERSION, token)
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
        if self._it.info.force_pin_change:
            raise Out(Failure.PIN_CHANGE)
        client = ClientPin(self._it.ctap)
        while True:
            pin = self._ask(reason, self._tries(client))
            if token := self._token(client, pin):
                return Permit(client.protocol.VERSION, token)
            if not self._patient:
                raise Out(Failure.PIN_WRONG)
            reason = PinReason.WRONG

    def _tries(self, client: ClientPin) -> int:
        """How many are left, if there are more than the user's own."""
        with self._line.within(QUIET_SECONDS):
            tries, paused = client.get_pin_retries()
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
        return followup.pin

    def _token(self, client: ClientPin, pin: str) -> bytes | None:
        """None for a wrong PIN. One that cannot be right costs no try."""
        pin = unicodedata.normalize("NFC", pin)
        if len(pin) < self._it.info.min_pin_length or len(pin.encode()) > MAX_PIN:
            return None
        try:
            with self._line.within(QUIET_SECONDS):
                return client.get_pin_token(pin, self._permission, self._rp_id)
        except CtapError as error:
            if error.code != ERR.PIN_INVALID:
                raise
        return None

    def _choose(self) -> None:
        """Wait until it is touched (section 6.9). Keys older than that are told to make something that they cannot."""
        if "FIDO_2_1" in self._it.info.versions:
            self._it.touch(Ctap2.CMD.SELECTION)
            return
        protocol = ClientPin(self._it.ctap).protocol.VERSION
        party, user = {"id": "example.com", "name": "example.com"}, {"id": b"\0", "name": "example"}
        kinds = [{"type": "public-key", "alg": -7}]
        nothing = b""
        try:
            self._it.touch(
                Ctap2.CMD.MAKE_CREDENTIAL, bytes(32), party, user, kinds, None, None, None, nothing, protocol
            )
        except CtapError as error:
            if error.code not in TOUCHED:
                raise
