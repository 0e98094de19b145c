"""Structures of base.py as packets and back, as packets.py has them."""

from __future__ import annotations

from typing import cast, get_args

from ..packets import Codec
from . import base
from .base import MAX_PACKET, Structure

_CODEC = Codec((*get_args(base.Request), *get_args(base.Followup), *get_args(base.Reply)), MAX_PACKET)
KINDS: dict[int, type[Structure]] = _CODEC.kinds


def encode(structure: Structure) -> bytes:
    """One packet. Raises ProtocolError where it does not fit."""
    return _CODEC.encode(structure)


def decode(packet: bytes) -> Structure:
    """The structure of one packet. Raises ProtocolError for anything that `encode` would not have written."""
    return cast(Structure, _CODEC.decode(packet))
