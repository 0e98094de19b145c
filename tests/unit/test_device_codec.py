"""Structures between session and device service: what is written is read, and nothing else is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, strategies as st

from pam_mfa.devices.base import (
    MAX_CERTIFICATE,
    MAX_NAME,
    MAX_PACKET,
    Assert,
    Carries,
    Certified,
    Choose,
    Idle,
    List,
    Make,
    Pin,
    Slot,
    Structure,
    Touch,
    Verification,
    Wanted,
)
from pam_mfa.devices.codec import KINDS, decode, encode
from pam_mfa.errors import ProtocolError
from pam_mfa.structure import is_structure, names

PLAIN: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**31), 2**31 - 1),
    str: st.text(st.characters(codec="utf-8"), max_size=100),
    bytes: st.binary(max_size=1100),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Of one field."""
    if hint in PLAIN:
        return PLAIN[hint]
    if inner := get_args(hint):
        return st.lists(values(inner[0]), max_size=5).map(tuple)
    return structures(hint) if is_structure(hint) else st.from_type(hint)


def structures(kind: Any) -> st.SearchStrategy[Any]:
    """Of one kind."""
    hints = get_type_hints(kind)
    return st.builds(kind, *(values(hints[name]) for name in names(kind)))


STRUCTURES = st.one_of(*map(structures, KINDS.values()))


@given(STRUCTURES)
def test_what_is_written_is_read(structure: Structure) -> None:
    assert decode(encode(structure)) == structure


@given(STRUCTURES, st.integers(0), st.binary(min_size=1, max_size=3))
def test_a_damaged_packet_is_another_structure_or_none(structure: Structure, at: int, damage: bytes) -> None:
    packet = bytearray(encode(structure))
    at %= len(packet)
    packet[at : at + len(damage)] = damage
    with suppress(ProtocolError):
        assert encode(decode(bytes(packet))) == packet


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_worse(packet: bytes) -> None:
    with suppress(ProtocolError):
        assert encode(decode(packet)) == packet


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x00",
        encode(Choose()) + b"\x00",
        encode(List(5))[:-1],
        encode(Touch(1, True))[:-4] + b"\x00\x00\x00\x02",
        encode(Pin(1, "1"))[:-1] + b"\xff",
        encode(Assert(b"", (), Verification.REQUIRED, 1)).replace(b"\x00\x00\x00\x03", b"\x00\x00\x00\x04"),
        encode(Idle(1)) + bytes(MAX_PACKET),
    ],
    ids="empty,no_type,longer,shorter,a_truth_of_2,half_a_letter,no_such_verification,too_long".split(","),
)
def test_what_is_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(packet)


def test_a_card_full_of_certificates_has_room() -> None:
    """As long as terms.py lets them be, in every slot."""
    text = "x" * 256
    certified = [
        Certified(slot, bytes(MAX_CERTIFICATE), bytes(600), text, text, "f" * 64, *[text] * 3) for slot in Slot
    ]
    carries = Carries(1, "x" * MAX_NAME, bytes(16), 255, tuple(certified))
    assert decode(encode(carries)) == carries


@pytest.mark.parametrize(
    "structure",
    [
        Idle(2**31),
        Pin(1, "\ud800"),
        Pin(1, "x" * 70000),
        Make(b"", "", "", b"", "", (), (Wanted("", bytes(60000)),) * 2, False, Verification.REQUIRED, 1),
    ],
    ids=["number", "surrogate", "field", "packet"],
)
def test_what_no_packet_holds(structure: Structure) -> None:
    with pytest.raises(ProtocolError):
        encode(structure)
