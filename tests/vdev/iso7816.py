"""ISO 7816-4: APDUs in both lengths, command chaining, 61xx, and the choice of an applet by its name.

A `Card` has applets; `Card.exchange` takes a command APDU and returns what the card answers, whatever the transport.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

SELECT, GET_RESPONSE = 0xA4, 0xC0
CHAINED = 0x10  # bit of the class: more pieces follow
SHORT, EXTENDED = 256, 65536  # longest data that a response APDU of each kind carries
MAX_COMMAND = 65535
MAX_ANSWER = 65535  # of the reader's driver, status word included

PLAIN_ATR = bytes.fromhex("3B80800101")
# OpenSC signs by elliptic curves with cards alone that it knows.
YUBIKEY_ATR = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")

ANSWERS = {
    "empty": b"",
    "one": b"\x90",
    "6F00": b"\x6f\x00",
    "long": bytes(60_000) + b"\x90\x00",
    "endless": bytes(16) + b"\x61\xff",
    "wrong length": b"\x6c\x10",
}


class Status(IntEnum):
    """Status words (ISO 7816-4 section 5.6)."""

    OK = 0x9000
    MORE = 0x6100  # and the number of bytes left
    TRIES = 0x63C0  # and the number of tries left
    WRONG_LENGTH = 0x6700
    UNVERIFIED = 0x6982
    BLOCKED = 0x6983
    CONDITIONS = 0x6985
    WRONG_DATA = 0x6A80
    NOT_FOUND = 0x6A82
    WRONG_PARAMETERS = 0x6A86
    NO_REFERENCE = 0x6A88
    WRONG_INSTRUCTION = 0x6D00
    WRONG_CLASS = 0x6E00


class Refused(Exception):
    """A command ends with a status word other than 9000."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status word {status:04X}")
        self.status = status


@dataclass(frozen=True)
class Command:
    """A command APDU (ISO 7816-3 section 12.1).

    Args:
        cla, ins, p1, p2: its header.
        data: of all pieces, where it was chained.
        length: most data that the answer may carry.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    length: int = SHORT

    @classmethod
    def parse(cls, apdu: bytes) -> Command:
        """Raises Refused for one whose lengths do not fit."""
        if len(apdu) < 4:
            raise Refused(Status.WRONG_LENGTH)
        header, body = apdu[:4], apdu[4:]
        extended = len(body) >= 3 and body[0] == 0
        wide = 2 if extended else 1
        body = body[1:] if extended else body
        data = b""
        if len(body) > wide:
            end = wide + int.from_bytes(body[:wide], "big")
            data, body = body[wide:end], body[end:]
            if len(data) != end - wide or not data:
                raise Refused(Status.WRONG_LENGTH)
        if len(body) not in (0, wide):
            raise Refused(Status.WRONG_LENGTH)
        longest = EXTENDED if extended else SHORT
        cla, ins, p1, p2 = header
        return cls(cla, ins, p1, p2, data, int.from_bytes(body, "big") or longest)


@dataclass(frozen=True)
class Answer:
    """Data that does not end with 9000."""

    data: bytes
    status: int


class Applet(Protocol):
    """An application on the card."""

    aid: bytes

    def select(self) -> bytes:
        """It was chosen; what it says of itself."""

    def process(self, command: Command) -> bytes | Answer:
        """One command, unchained. Raises Refused."""

    def leave(self) -> None:
        """Another applet was chosen, or the card was reset: nothing of this session counts any more."""

    def power_off(self) -> None:
        """The card was taken out of the reader or cut off, after `leave`."""

    def interrupt(self) -> None:
        """The command that runs in another thread, if any, is to end: nobody waits for its answer."""


@dataclass(frozen=True)
class Exchange:
    """One APDU each way."""

    command: bytes
    answer: bytes


Hook = Callable[[Command], bytes | None]


@dataclass
class CardFaults:
    """What a card does wrong, by the instruction byte of an unchained command; may be changed while it runs.

    Args:
        answer: whole answer, status word included: a name of ANSWERS, or bytes.
        late: seconds before the answer comes; removal ends the wait.
        before: called first; what it returns, unless None, is the answer. To pull the card, to swap it.
        power: called before the card tells its ATR. To hang the reader.
    """

    answer: dict[int, str | bytes] = field(default_factory=dict)
    late: dict[int, float] = field(default_factory=dict)
    before: dict[int, Hook] = field(default_factory=dict)
    power: Callable[[], object] = lambda: None


class Card:
    """One card, or a key in a reader.

    Args:
        applets: that it has; none makes it a foreign card.
        atr: answer to reset.
    """

    def __init__(self, *applets: Applet, atr: bytes = PLAIN_ATR) -> None:
        self.applets = applets
        self.atr = atr
        self.faults = CardFaults()
        self.trace: list[Exchange] = []
        self._removed = threading.Event()
        self._selected: Applet | None = None
        self._pieces: Command | None = None
        self._rest = b""

    def insert(self) -> None:
        """It is in a reader now."""
        self._removed.clear()

    def remove(self) -> None:
        """It is out: whatever waits in it ends. From any thread."""
        self._removed.set()
        for applet in self.applets:
            applet.interrupt()

    def reset(self) -> None:
        """Warm reset: no applet is selected, nothing is verified, nothing is left over."""
        self._pieces, self._rest = None, b""
        if self._selected:
            self._selected.leave()
        self._selected = None

    def power_off(self) -> None:
        """No power any more."""
        self.reset()
        for applet in self.applets:
            applet.power_off()

    def exchange(self, apdu: bytes) -> bytes:
        """The answer to one command APDU."""
        try:
            answer = self._answer(Command.parse(apdu))
        except Refused as refused:
            answer = refused.status.to_bytes(2, "big")
        self.trace.append(Exchange(apdu, answer))
        return answer

    def commands(self, ins: int) -> list[Exchange]:
        """The exchanges so far whose instruction byte is `ins`."""
        return [exchange for exchange in self.trace if exchange.command[1:2] == bytes([ins])]

    def _answer(self, command: Command) -> bytes:
        whole = self._unchain(command)
        if whole is None:
            return Status.OK.to_bytes(2, "big")
        faulty = self._faulty(whole)
        if faulty is not None:
            return faulty
        if whole.ins == GET_RESPONSE:
            return self._send(self._rest, Status.OK, whole.length)
        result = self._run(whole)
        if isinstance(result, Answer):
            return self._send(result.data, result.status, whole.length)
        return self._send(result, Status.OK, whole.length)

    def _unchain(self, command: Command) -> Command | None:
        """The command with the data of the pieces before it; None where more pieces follow. Raises Refused."""
        last = replace(command, cla=command.cla & ~CHAINED)
        before, self._pieces = self._pieces, None
        if before and replace(before, data=last.data, length=last.length) == last:
            last = replace(last, data=before.data + last.data)
        if len(last.data) > MAX_COMMAND:
            raise Refused(Status.WRONG_LENGTH)
        if command.cla & CHAINED:
            self._pieces = last
            return None
        return last

    def _faulty(self, command: Command) -> bytes | None:
        hook = self.faults.before.get(command.ins)
        hooked = hook(command) if hook else None
        self._removed.wait(self.faults.late.get(command.ins, 0))
        canned = self.faults.answer.get(command.ins) if hooked is None else hooked
        return ANSWERS[canned] if isinstance(canned, str) else canned

    def _send(self, data: bytes, status: int, length: int) -> bytes:
        length = min(length, MAX_ANSWER - 2)
        now, self._rest = data[:length], data[length:]
        if self._rest:
            status = Status.MORE | min(len(self._rest), 255)
        return now + status.to_bytes(2, "big")

    def _run(self, command: Command) -> bytes | Answer:
        self._rest = b""
        if command.ins == SELECT and command.p1 == 0x04:
            return self._select(command.data)
        if self._selected is None:
            raise Refused(Status.NOT_FOUND if command.ins == SELECT else Status.WRONG_INSTRUCTION)
        return self._selected.process(command)

    def _select(self, aid: bytes) -> bytes:
        found = next((applet for applet in self.applets if aid and applet.aid.startswith(aid)), None)
        if found is None:
            raise Refused(Status.NOT_FOUND)
        if self._selected:
            self._selected.leave()
        self._selected = found
        return found.select()
