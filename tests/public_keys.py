"""Public keys of every kind that an authenticator may have, and why something of it is not believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pam_mfa.factors.assertion import Es256, Unproven

X = bytes.fromhex("afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df61")
Y = bytes.fromhex("930a56b87a2fca66334b03458abf879717c12cc68ed73290af2e2664796b9220")
KEY = Es256(X, Y)
POINT = bytes.fromhex("44e06ddd331c36a8dc667bab52bcae63486c916aa5e339e6acebaa84934bf832")  # of Ed25519
MODULUS = b"\x80" + bytes(254) + b"\x01"


def refused(call: Callable[[], object]) -> str:
    """The reason for which it is refused."""
    with pytest.raises(Unproven) as caught:
        call()
    return caught.value.reason
