"""Cards, NFC keys and keys in contact readers: PC/SC, and python-fido2's CTAP over ISO 7816 (CTAP 2.1 section 11.3).

For helpers alone: pcscd may be absent, or hang while a card does. The broker's part is readers.py.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fido2.pcsc import CtapPcscDevice
from smartcard import scard

from .base import Failure
from .line import QUIET_SECONDS, Line, Out, Stranger

LOOK_SECONDS = 0.25
AGAIN_SECONDS = 0.02  # the shortest time between two looks
NEW_READERS = r"\\?PnP?\Notification"  # for pcscd: tell of readers that come or go as well
LOCK_SECONDS = 3
MAX_READERS = 16
MAX_READER_NAME = 128
MAX_ANSWER = 7609 + 2  # a status word behind what a HID message may hold
MAX_ROUNDS = 128  # of 61xx within one answer
MORE_DATA = 0x61
VERIFY = 0x20
EMPTY = 5  # bytes of a command without data: a VERIFY that only asks for the tries
PROTOCOLS = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1


@contextmanager
def opened(reader: str, line: Line) -> Iterator[tuple[CtapPcscDevice, str]]:
    """The key in a reader, and its name. Raises Stranger, Out, OSError and what python-fido2 makes of its answers."""
    card = Card(reader, line)
    try:
        try:
            with line.within(QUIET_SECONDS):
                device = Device(card, reader, line)
        except ValueError:  # no FIDO applet
            raise Stranger from None
        yield device, reader
    finally:
        card.disconnect()


@contextmanager
def alone(reader: str, line: Line) -> Iterator[Card]:
    """The card in a reader, in one transaction from beginning to end. Raises Stranger, Out, OSError."""
    card = Card(reader, line)
    try:
        card.connect()
        yield card
    finally:
        card.disconnect()


class Device(CtapPcscDevice):
    """Has the line as the event that cancels every call."""

    def __init__(self, card: Card, name: str, line: Line) -> None:
        self._line = line
        super().__init__(card, name)

    def call(self, cmd: int, data: bytes = b"", event: Any = None, on_keepalive: Any = None) -> bytes:
        """As python-fido2 has it."""
        return super().call(cmd, data, self._line, on_keepalive)  # type: ignore[arg-type]


class Card:
    """A connection to a card, in the form that python-fido2 uses; a transaction from beginning to end.

    pyscard's own connection takes none and cuts the power when it ends, which breaks into what others do there.
    """

    def __init__(self, reader: str, line: Line) -> None:
        self._reader = reader
        self._line = line
        self._card: Any = None
        self._leave = scard.SCARD_LEAVE_CARD
        self._rounds = self._size = 0
        result, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        _check(result)

    def connect(self) -> None:
        """Share the card, then have it alone. Raises Stranger, Out, OSError."""
        arguments = self._context, self._reader, scard.SCARD_SHARE_SHARED, PROTOCOLS
        with _no_longer_than(LOCK_SECONDS):
            result, card, protocol = scard.SCardConnect(*arguments)
            _check(result)
            self._card = card
            self._header = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
            result = scard.SCardBeginTransaction(card)
            if result == scard.SCARD_W_RESET_CARD:  # by whoever had it before us
                _check(scard.SCardReconnect(card, scard.SCARD_SHARE_SHARED, PROTOCOLS, scard.SCARD_LEAVE_CARD)[0])
                result = scard.SCardBeginTransaction(card)
            _check(result)

    def transmit(self, apdu: list[int], _: object = None) -> tuple[list[int], int, int]:
        """One command and its answer. Raises Out, Left, OSError."""
        self._line.check()
        if apdu[1] == VERIFY and len(apdu) > EMPTY:
            self._leave = scard.SCARD_RESET_CARD  # or whoever comes next finds it verified
        result, answer = scard.SCardTransmit(self._card, self._header, apdu)
        _check(result)
        if not answer:  # drivers say so of a card that was pulled out meanwhile
            raise OSError("no answer")
        if len(answer) < 2:
            raise Out(Failure.NONSENSE)
        *data, first, second = (byte & 0xFF for byte in answer)
        self._bound(len(answer), first == MORE_DATA)
        return data, first, second

    @property
    def atr(self) -> bytes:
        """What the card said of itself when it got power. Raises OSError."""
        result, *_, atr = scard.SCardStatus(self._card)
        _check(result)
        return bytes(byte & 0xFF for byte in atr)

    def disconnect(self) -> None:
        """Leave the card as it was, for the next one."""
        if self._card is not None:
            scard.SCardEndTransaction(self._card, self._leave)
            scard.SCardDisconnect(self._card, self._leave)
            self._card = None
        scard.SCardReleaseContext(self._context)

    def _bound(self, size: int, more: bool) -> None:
        self._rounds += 1
        self._size += size
        if self._rounds > MAX_ROUNDS or self._size > MAX_ANSWER + 2 * self._rounds:
            raise Out(Failure.NONSENSE)
        if not more:
            self._rounds = self._size = 0


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    """End this process by SIGALRM, which the broker takes for BUSY: neither call takes a limit."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _check(result: int) -> None:
    if result == scard.SCARD_S_SUCCESS:
        return
    if result == scard.SCARD_E_SHARING_VIOLATION:
        raise Out(Failure.BUSY)
    if result in (scard.SCARD_W_UNRESPONSIVE_CARD, scard.SCARD_W_UNPOWERED_CARD, scard.SCARD_E_PROTO_MISMATCH):
        raise Stranger
    raise OSError(scard.SCardGetErrorMessage(result))


def tell_readers(line: Line) -> None:
    """Tell which readers there are, and again whenever one of them changes. Ends with the broker."""
    told = None
    readers = Readers()
    while not line.is_set():
        text = "\n".join(readers.look())
        if text != told:
            told = text
            line.tell(text.encode() or b"\n")
        readers.wait(line)


class Readers:
    """The readers that pcscd knows. Without one, or where it lets nobody in, there are none."""

    def __init__(self) -> None:
        self._context: Any = None
        self._states: list[tuple[str, int]] = []

    def look(self) -> list[str]:
        """Each reader with a card, behind the number of times that one came or went, and each without, behind "-"."""
        self._states = self._ask()
        return [f"{state >> 16 & 0xFFFF if _has_card(state) else '-'} {name}" for name, state in self._states]

    def wait(self, line: Line) -> None:
        """Until pcscd tells of a change, but not for long; the broker's end is not seen meanwhile."""
        result = None
        if self._context is not None:
            known = [(name, state & ~scard.SCARD_STATE_CHANGED) for name, state in self._states]
            known.append((NEW_READERS, scard.SCARD_STATE_UNAWARE))
            result, _ = scard.SCardGetStatusChange(self._context, int(LOOK_SECONDS * 1000), known)
        told = result in (scard.SCARD_S_SUCCESS, scard.SCARD_E_TIMEOUT)
        line.wait(AGAIN_SECONDS if told else LOOK_SECONDS)

    def _ask(self) -> list[tuple[str, int]]:
        if self._context is None:
            result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
            if result != scard.SCARD_S_SUCCESS:
                return []
            self._context = context
        states = _states(self._context)
        if states is None:
            scard.SCardReleaseContext(self._context)
            self._context = None
        return states or []


def _has_card(state: int) -> bool:
    """One that answers: a mute one may be upside down."""
    return bool(state & scard.SCARD_STATE_PRESENT and not state & scard.SCARD_STATE_MUTE)


def _states(context: Any) -> list[tuple[str, int]] | None:
    """Of each reader. None: pcscd has gone."""
    result, names = scard.SCardListReaders(context, [])
    if result == scard.SCARD_E_NO_READERS_AVAILABLE:
        return []
    if result != scard.SCARD_S_SUCCESS:
        return None
    usable = [name for name in names[:MAX_READERS] if len(name) <= MAX_READER_NAME and "\n" not in name]
    result, states = scard.SCardGetStatusChange(context, 0, [(name, scard.SCARD_STATE_UNAWARE) for name in usable])
    if result != scard.SCARD_S_SUCCESS:
        return None
    return [(name, state) for name, state, _ in states]
