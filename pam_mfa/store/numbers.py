"""Numbers as the store keeps them: always eight bytes long, so that counting never lengthens a row."""

from __future__ import annotations

from ..errors import StoreCorrupt, StoreError

WIDE = 1 << 62


def wide(number: int) -> int:
    """The number as it is stored. Raises StoreError where it does not fit."""
    if not 0 <= number < WIDE:
        raise StoreError("a number is outside of what the store can hold")
    return WIDE + number


def narrow(stored: object) -> int:
    """The number that was stored. Raises StoreCorrupt for anything `wide` does not make."""
    if type(stored) is not int or stored < WIDE:
        raise StoreCorrupt("a number in the store is damaged")
    return stored - WIDE
