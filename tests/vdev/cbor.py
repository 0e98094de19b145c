"""CTAP2 canonical CBOR (CTAP 2.1 section 8), as much of it as an authenticator needs: no floats, no tags, no null."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 8  # more than the four levels that a message may have, fewer than would hurt
SIMPLE = {False: 0xF4, True: 0xF5}
_WORDS = {value: key for key, value in SIMPLE.items()}


class CborError(ValueError):
    """Bytes that are no canonical CBOR."""


def encode(value: object) -> bytes:
    """Canonical bytes of int, bytes, str, bool, list, tuple and dict. Raises TypeError for anything else."""
    match value:
        case bool():
            return bytes([SIMPLE[value]])
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list() | tuple():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case dict():
            pairs = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
    raise TypeError(f"no CBOR for {type(value).__name__}")


def decode(data: bytes) -> Any:
    """The one value that `data` is. Raises CborError where it is anything but canonical."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data) or encode(value) != data:
        raise CborError("not canonical")
    return value


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise TypeError("an integer of more than 64 bits")


class _Reader:
    """Bytes being read; canonical or not is seen afterwards, by writing the value again."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CborError("too deep")
        major, number = self.head()
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self.take(number)
            case 3:
                return self.text(number)
            case 4:
                return [self.value(depth + 1) for _ in range(number)]
            case 5:
                return self.mapping(number, depth)
        return self.simple(major, number)

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, number = first >> 5, first & 0x1F
        if number in range(24, 28):
            number = int.from_bytes(self.take(1 << number - 24), "big")
        elif number > 27:
            raise CborError("indefinite length")
        return major, number

    def mapping(self, pairs: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(pairs):
            key = self.value(depth + 1)
            if isinstance(key, list | dict) or key in found:
                raise CborError("a strange or doubled key")
            found[key] = self.value(depth + 1)
        return found

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise CborError("text that is no UTF-8") from None

    def simple(self, major: int, number: int) -> bool:
        try:
            return _WORDS[major << 5 | number]
        except KeyError:
            raise CborError(f"major type {major}, {number}") from None

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            raise CborError("it ends within a value")
        self.at += size
        return taken
