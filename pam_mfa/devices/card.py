"""Commands to a card and what it answers (ISO 7816-4 sections 5.2 to 5.6), whatever its application. All is bounded.

Short APDUs alone, chained where there is more to say: every card and every reader takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .base import Failure
from .line import Out

SELECT, GET_RESPONSE = 0xA4, 0xC0
CHAINED = 0x10  # bit of the class: more pieces follow
PIECE = 255
MAX_EXCHANGES = 64  # for one command
MORE, OTHER_LENGTH = 0x61, 0x6C
OK, WRONG_DATA, NOT_FOUND = 0x9000, 0x6A80, 0x6A82


class Refused(Exception):
    """A command ends with a status word other than 9000."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status word {status:04X}")
        self.status = status


class Connection(Protocol):
    """A card that is had alone (pcsc.py)."""

    def transmit(self, apdu: list[int], /) -> tuple[list[int], int, int]:
        """One exchange: data, and the two bytes of the status word. Raises Out, Left, OSError."""


class Commands:
    """What a card is told.

    Args:
        connection: to it.

    Each raises Refused, Out for an answer without end, and what the connection raises.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def select(self, application: bytes) -> None:
        """Choose an application by the beginning of its name."""
        self.send(SELECT, 0x04, 0x00, application)

    def send(self, ins: int, p1: int, p2: int, data: bytes = b"", answers: bool = True) -> bytes:
        """One command; with `answers` it may be answered with data, which are returned."""
        *pieces, last = [data[at : at + PIECE] for at in range(0, len(data), PIECE)] or [b""]
        for piece in pieces:
            self._answer([CHAINED, ins, p1, p2, len(piece), *piece])
        command = [0x00, ins, p1, p2, *([len(last)] if last else []), *last]
        return self._answer([*command, 0x00], command) if answers else self._answer(command)

    def _answer(self, apdu: list[int], again: list[int] | None = None) -> bytes:
        """Of all its pieces. A card that names another length for them is asked for that once, by `again` and it."""
        found, first, second = self._connection.transmit(apdu)
        if first == OTHER_LENGTH and again:
            found, first, second = self._connection.transmit([*again, second])
        data = bytes(found)
        for _ in range(MAX_EXCHANGES - 1):
            if first != MORE:
                break
            found, first, second = self._connection.transmit([0x00, GET_RESPONSE, 0x00, 0x00, second])
            data += bytes(found)
        status = first << 8 | second
        if first == MORE:
            raise Out(Failure.NONSENSE)
        if status != OK:
            raise Refused(status)
        return data


def tlv(tag: int, *parts: bytes) -> bytes:
    """One BER-TLV data object (ISO 7816-4 section 6.3) around `parts`."""
    value = b"".join(parts)
    length = _length(len(value)) if len(value) > 0x7F else bytes([len(value)])
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length + value


def _length(size: int) -> bytes:
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def objects(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and values of BER-TLV data objects one behind the other. Raises ValueError."""
    while data:
        tag, data = _tag(data)
        size, data = _size(data)
        if size > len(data):
            raise ValueError("a data object ends within its value")
        yield tag, data[:size]
        data = data[size:]


def value(data: bytes, tag: int) -> bytes | None:
    """Of the only data object with that tag, None where there is none. Raises ValueError."""
    found = [content for each, content in objects(data) if each == tag]
    if len(found) > 1:
        raise ValueError("a data object is there twice")
    return found[0] if found else None


def _tag(data: bytes) -> tuple[int, bytes]:
    """Of one or two bytes: nothing here has a longer one."""
    if data[0] & 0x1F != 0x1F:
        return data[0], data[1:]
    if len(data) < 2 or data[1] & 0x80:
        raise ValueError("a tag of three bytes, or half a tag")
    return data[0] << 8 | data[1], data[2:]


def _size(data: bytes) -> tuple[int, bytes]:
    """Definite, of at most two bytes behind the first."""
    if not data:
        raise ValueError("a data object without a length")
    if data[0] < 0x80:
        return data[0], data[1:]
    octets = data[0] & 0x7F
    if octets not in (1, 2) or len(data) <= octets:
        raise ValueError("a length that is indefinite, too long, or cut off")
    return int.from_bytes(data[1 : 1 + octets], "big"), data[1 + octets :]
