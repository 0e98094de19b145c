"""Fixed structures as packets and back: what processes of ours say to each other.

One packet is one structure: type u8, then its fields in order. Integers are 32 bits, signed, big endian; text (UTF-8)
and bytes have their length u16 in front, a tuple the number of its items u16; a structure is its fields. There is one
way to write a structure: a packet is taken only if writing it again gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import Any, TypeVar, get_args, get_type_hints

from .errors import ProtocolError
from .structure import is_structure, names, values

_INTEGER = struct.Struct(">i")
_LENGTH = struct.Struct(">H")

T = TypeVar("T")


class Codec:
    """Writes and reads structures of some kinds.

    Args:
        kinds: structures, each with a TYPE of its own.
        limit: bytes of the longest packet.
    """

    def __init__(self, kinds: Collection[Any], limit: int) -> None:
        self.kinds: dict[int, Any] = {kind.TYPE: kind for kind in kinds}
        self._limit = limit
        self._hints: dict[Any, list[Any]] = {}
        for kind in kinds:
            self._learn(kind)

    def encode(self, structure: Any) -> bytes:
        """One packet. Raises ProtocolError where it does not fit."""
        try:
            packet = bytes([structure.TYPE]) + _write_fields(structure)
        except (struct.error, UnicodeEncodeError) as problem:
            raise ProtocolError(f"{type(structure).__name__}: {problem}") from None
        if len(packet) > self._limit:
            raise ProtocolError(f"{type(structure).__name__} with {len(packet)} bytes")
        return packet

    def decode(self, packet: bytes) -> Any:
        """The structure of one packet. Raises ProtocolError for anything that `encode` would not have written."""
        kind = self.kinds.get(packet[0]) if packet else None
        if kind is None or len(packet) > self._limit:
            raise ProtocolError(f"no structure in {len(packet)} bytes")
        try:
            structure = _Reading(packet, 1, self._hints).structure(kind)
        except (struct.error, ValueError) as problem:  # the latter: half characters, numbers outside of an enumeration
            raise ProtocolError(f"{kind.__name__}: {problem}") from None
        if self.encode(structure) != packet:
            raise ProtocolError(f"{kind.__name__} is not written as it must be")
        return structure

    def _learn(self, kind: Any) -> None:
        """What a kind's fields are, and those of the structures among them."""
        hints = get_type_hints(kind)
        self._hints[kind] = [hints[name] for name in names(kind)]
        for hint in self._hints[kind]:
            for part in (hint, *get_args(hint)):
                if is_structure(part) and part not in self._hints:
                    self._learn(part)


def _write_fields(structure: Any) -> bytes:
    return b"".join(map(_write, values(structure).values()))


def _write(value: object) -> bytes:
    match value:
        case int():
            return _INTEGER.pack(value)
        case str():
            return _write(value.encode())
        case bytes():
            return _LENGTH.pack(len(value)) + value
        case tuple():
            return _LENGTH.pack(len(value)) + b"".join(map(_write, value))
        case _:
            return _write_fields(value)


class _Reading:
    """One packet being read."""

    def __init__(self, packet: bytes, at: int, hints: dict[Any, list[Any]]) -> None:
        self.packet = packet
        self.at = at
        self.hints = hints

    def structure(self, kind: type[T]) -> T:
        return kind(*[self.value(hint) for hint in self.hints[kind]])

    def value(self, hint: Any) -> Any:
        if hint is bytes:
            return self.take(self.unpack(_LENGTH))
        if hint is str:
            return self.value(bytes).decode()
        if hint in self.hints:
            return self.structure(hint)
        if inner := get_args(hint):
            return tuple(self.value(inner[0]) for _ in range(self.unpack(_LENGTH)))
        return self.number(hint)

    def number(self, hint: Callable[[int], T]) -> T:
        value = hint(self.unpack(_INTEGER))  # int, bool, an enumeration
        return value

    def unpack(self, form: struct.Struct) -> int:
        (value,) = form.unpack(self.take(form.size))
        return int(value)

    def take(self, size: int) -> bytes:
        taken = self.packet[self.at : self.at + size]
        if len(taken) != size:
            raise ProtocolError("a packet ends within a field")
        self.at += size
        return taken
