"""Structures of base.py as packets and back, as packets.py has them."""

from __future__ import annotations

from ..packets import Codec
from .base import MAX_PACKET, Check, Checked

CODEC = Codec((Check, Checked), MAX_PACKET)
