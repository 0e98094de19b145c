"""Where cards are: in readers, which a process of its own lists. That and helpers talk to pcscd, nobody else does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from fido2.ctap import CtapDevice

from .base import Transport
from .helper import Child, fork
from .line import Line

PCSCD = "/run/pcscd/pcscd.comm"
FIRST_LOOK_SECONDS = 1.0  # for pcscd to say which readers there are; no longer is anybody kept waiting for it
LISTER_SECONDS = 3600
AGAIN_SECONDS = 1.0  # from one start of a lister to the next, whatever ends them
NEVER = float("inf")
MAX_READERS = 16
NO_CARDS = b"\n"

Adopt = Callable[[Child, Callable[[bytes], None], Callable[[int], None]], None]


@dataclass(frozen=True, slots=True)
class CardPort:
    """A card in a reader. The next card in the same reader has another count."""

    reader: str
    count: int
    transport = Transport.NFC

    def opened(self, line: Line) -> AbstractContextManager[tuple[CtapDevice, str]]:
        """The device and its name."""
        from .pcsc import opened

        return opened(self.reader, line)


def watch_readers(line: Line) -> None:
    """Work of the lister."""
    from .pcsc import tell_readers

    tell_readers(line)


class CardReaders:
    """Where cards may be: the readers with one, as a process of its own tells. When it ends another one is started."""

    def __init__(self) -> None:
        self._adopt: Adopt | None = None
        self._lister: Child | None = None
        self._next_start = 0.0
        self._silent_since = NEVER
        self._found: frozenset[CardPort] | None = None

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

    def ports(self) -> frozenset[CardPort] | None:
        """The cards that are there now, None while that is not known."""
        now = time.monotonic()
        if self._adopt and not self._lister:
            self._list(self._adopt, now)
        if now - self._silent_since > FIRST_LOOK_SECONDS:
            self._found = frozenset()
        return self._found

    def _list(self, adopt: Adopt, now: float) -> None:
        if not os.path.exists(PCSCD):  # where there is none a login pays for no process
            self._heard(NO_CARDS)
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
        found = set()
        for line in packet.decode(errors="replace").split("\n")[:MAX_READERS]:
            count, _, name = line.partition(" ")
            if count.isdecimal() and name:
                found.add(CardPort(name, int(count)))
        self._found = frozenset(found)
        self._silent_since = NEVER
