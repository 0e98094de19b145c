"""Where cards are: in readers, which a process of its own lists. That and helpers talk to pcscd, nobody else does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .authenticator import serve
from .base import Failure, List, Reader, Request, Sign, Transport
from .ctap import Authenticator
from .helper import Child, fork
from .line import Line, Out, Stranger
from .terms import printable

PCSCD = "/run/pcscd/pcscd.comm"
FIRST_LOOK_SECONDS = 1.0  # for pcscd to say which readers there are; no longer is anybody kept waiting for it
LISTER_SECONDS = 3600
AGAIN_SECONDS = 1.0  # from one start of a lister to the next, whatever ends them
NEVER = float("inf")
MAX_READERS = 16
NO_READERS = b"\n"
NO_CARD = "-"  # instead of a count

Adopt = Callable[[Child, Callable[[bytes], None], Callable[[int], None]], None]


@dataclass(frozen=True, slots=True)
class CardPort:
    """A card in a reader. The next card in the same reader has another count."""

    reader: str
    count: int
    transport = Transport.NFC

    def takes(self, request: Request) -> bool:
        """It may be a key, a smartcard or both."""
        return True

    def serve(self, request: Request, line: Line) -> None:
        """As Port has it. To List both answer, the smartcard first."""
        try:
            if isinstance(request, Sign | List):
                self._serve_card(request, line)
        except Stranger:
            if isinstance(request, Sign):  # its user is told which card it is that does not count
                raise Out(Failure.UNSUPPORTED) from None
        if not isinstance(request, Sign):
            self._serve_key(request, line)

    def _serve_card(self, request: Sign | List, line: Line) -> None:
        from . import pcsc, signing

        with pcsc.alone(self.reader, line) as card:
            signing.serve(card, self.reader, request, line)

    def _serve_key(self, request: Request, line: Line) -> None:
        from . import pcsc

        with pcsc.opened(self.reader, line) as (device, name):
            serve(Authenticator(device, self.transport, name, line), request)


@dataclass(frozen=True, slots=True)
class ReaderPort:
    """A reader without a card that answers."""

    reader: str
    transport = Transport.NFC

    def takes(self, request: Request) -> bool:
        """It is there to be shown."""
        return isinstance(request, List)

    def serve(self, request: Request, line: Line) -> None:
        """Say that it is there. Raises Left."""
        line.say(Reader(line.device, printable(self.reader)))


def watch_readers(line: Line) -> None:
    """Work of the lister."""
    from .pcsc import tell_readers

    tell_readers(line)


class CardReaders:
    """Where cards may be: in readers, as a process of its own tells. When it ends another one is started."""

    def __init__(self) -> None:
        self._adopt: Adopt | None = None
        self._lister: Child | None = None
        self._next_start = 0.0
        self._silent_since = NEVER
        self._found: frozenset[CardPort | ReaderPort] | None = None

    def start(self, adopt: Adopt) -> None:
        """Begin to look; `adopt` watches over a child and hands on what it says, and its end."""
        self._adopt = adopt
        self._silent_since = now = time.monotonic()
        self._next_start = now
        self._list(adopt, now)

    def stop(self) -> None:
        """Nobody asks any more."""
        if self._lister:
            self._lister.hang_up()
        self._adopt, self._lister, self._found, self._silent_since = None, None, None, NEVER

    def ports(self) -> frozenset[CardPort | ReaderPort] | None:
        """The cards and empty readers that are there now, None while that is not known."""
        now = time.monotonic()
        if self._adopt and not self._lister:
            self._list(self._adopt, now)
        if now - self._silent_since > FIRST_LOOK_SECONDS:
            self._found = frozenset()
        return self._found

    def _list(self, adopt: Adopt, now: float) -> None:
        if not os.path.exists(PCSCD):  # where there is none a login pays for no process
            self._heard(NO_READERS)
            return
        if now < self._next_start:
            return
        self._next_start = now + AGAIN_SECONDS
        try:
            lister = self._lister = fork(watch_readers, LISTER_SECONDS)
        except OSError:  # no more processes: another time
            return
        adopt(lister, self._heard, partial(self._ended, lister))

    def _ended(self, lister: Child, status: int) -> None:
        if lister is self._lister:
            self._lister = None
            self._silent_since = min(self._silent_since, time.monotonic())

    def _heard(self, packet: bytes) -> None:
        found: set[CardPort | ReaderPort] = set()
        for line in packet.decode(errors="replace").split("\n")[:MAX_READERS]:
            count, _, name = line.partition(" ")
            if count.isdecimal() and name:
                found.add(CardPort(name, int(count)))
            elif count == NO_CARD and name:
                found.add(ReaderPort(name))
        self._found = frozenset(found)
        self._silent_since = NEVER
