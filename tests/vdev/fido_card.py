"""The FIDO applet of a key in a reader: CTAP2 over ISO 7816, contactless (CTAP 2.1 section 11.3)."""

from __future__ import annotations

import threading

from .authenticator import Authenticator
from .iso7816 import Answer, Applet, Command, Refused, Status

AID = bytes.fromhex("A0000006472F0001")
MESSAGE, GET_STATUS = 0x10, 0x11  # NFCCTAP_MSG, NFCCTAP_GETRESPONSE
POLLS = 0x80  # P1 of MESSAGE: the client asks again where it gets KEEPALIVE
CANCEL = 0x11  # P1 of GET_STATUS
KEEPALIVE = 0x9100


class FidoApplet(Applet):
    """One key. A request runs in a thread of its own, since the client may ask how far it is, or cancel it.

    Args:
        authenticator: the key behind it.
        version: what it says when it is selected; b"U2F_V2" for a key that speaks CTAP1 as well.
    """

    aid = AID

    def __init__(self, authenticator: Authenticator, version: bytes = b"FIDO_2_0") -> None:
        self.authenticator = authenticator
        self._version = version
        self._request: Request | None = None

    def select(self) -> bytes:
        """Say the version."""
        return self._version

    def process(self, command: Command) -> bytes | Answer:
        """One of the two commands. Raises Refused."""
        if command.cla != 0x80:
            raise Refused(Status.WRONG_CLASS)
        if command.ins == MESSAGE:
            self.leave()
            self._request = Request(self.authenticator, command.data)
            return self._result(wait=not command.p1 & POLLS)
        if command.ins != GET_STATUS:
            raise Refused(Status.WRONG_INSTRUCTION)
        if self._request is None:
            raise Refused(Status.CONDITIONS)
        if command.p1 == CANCEL:
            self._request.cancel()
        return self._result(wait=command.p1 == CANCEL)

    def leave(self) -> None:
        """Give up what runs."""
        if self._request:
            self._request.cancel()
            self._request.result(wait=True)
            self._request = None

    def power_off(self) -> None:
        """Three wrong PINs are forgiven."""
        self.authenticator.power_cycle()

    def interrupt(self) -> None:
        """Nobody waits any more."""
        if self._request:
            self._request.cancel()

    def _result(self, wait: bool) -> bytes | Answer:
        assert self._request
        result = self._request.result(wait)
        if isinstance(result, int):
            return Answer(bytes([result]), KEEPALIVE)
        self._request = None
        return result


class Request:
    """One request that runs."""

    def __init__(self, authenticator: Authenticator, message: bytes) -> None:
        self._authenticator = authenticator
        self._changed = threading.Condition()
        self._answer: bytes | None = None
        self._status: int | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, args=[message], daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """The client does not want it any more; twice is once, and too late is nothing."""
        with self._changed:
            if self._cancelled or self._answer is not None:
                return
            self._cancelled = True
        self._authenticator.trace.append({"cancel": True})
        self._authenticator.stir()

    def result(self, wait: bool) -> bytes | int:
        """The answer, or the keepalive status, as soon as there is one of them; with `wait` only the answer."""
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None or (self._status is not None and not wait))
            if self._answer is None:
                assert self._status is not None
                return self._status
        self._thread.join()
        return self._answer

    def _run(self, message: bytes) -> None:
        answer = b""
        try:
            answer = self._authenticator.process(message, self._waiting)
        finally:
            with self._changed:
                self._answer = answer
                self._changed.notify()

    def _waiting(self, status: int) -> bool:
        with self._changed:
            self._status = status
            self._changed.notify()
        return self._cancelled
