"""NFC keys and keys in contact readers: PC/SC, and python-fido2's CTAP over ISO 7816 (CTAP 2.1 section 11.3).

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
LOCK_SECONDS = 3
MAX_READERS = 16
MAX_READER_NAME = 128
MAX_ANSWER = 7609 + 2  # a status word behind what a HID message may hold
MAX_ROUNDS = 128  # of 61xx within one answer
MORE_DATA = 0x61
VERIFY = 0x20
PROTOCOLS = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1

Reader = tuple[str, int]


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
        if apdu[1] == VERIFY:
            self._leave = scard.SCARD_RESET_CARD  # or whoever comes next finds it verified
        result, answer = scard.SCardTransmit(self._card, self._header, apdu)
        _check(result)
        if len(answer) < 2:
            raise Out(Failure.NONSENSE)
        *data, first, second = (byte & 0xFF for byte in answer)
        self._bound(len(answer), first == MORE_DATA)
        return data, first, second

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
    """Tell which readers have a card, and again whenever that changes. Ends with the broker."""
    told = None
    context = None
    while not line.wait(0 if told is None else LOOK_SECONDS):
        if context is None:
            result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
            context = context if result == scard.SCARD_S_SUCCESS else None
        found = cards(context) if context is not None else None
        if found is None and context is not None:
            scard.SCardReleaseContext(context)
            context = None
        text = "\n".join(f"{count} {name}" for name, count in found or ())
        if text != told:
            told = text
            line.tell(text.encode() or b"\n")


def cards(context: Any) -> list[Reader] | None:
    """Readers with a card, each with the number of times that one came or went. None: pcscd has gone."""
    result, names = scard.SCardListReaders(context, [])
    if result == scard.SCARD_E_NO_READERS_AVAILABLE:
        return []
    if result != scard.SCARD_S_SUCCESS:
        return None
    asked = [(name, scard.SCARD_STATE_UNAWARE) for name in names[:MAX_READERS] if len(name) <= MAX_READER_NAME]
    result, states = scard.SCardGetStatusChange(context, 0, asked)
    if result != scard.SCARD_S_SUCCESS:
        return None
    return [
        (name, state >> 16 & 0xFFFF)
        for name, state, _ in states
        if state & scard.SCARD_STATE_PRESENT and not state & scard.SCARD_STATE_MUTE and "\n" not in name
    ]
