"""What a device signs for one question."""

from __future__ import annotations

import secrets
from hashlib import sha256

from .base import Place

NONCE_BYTES = 32


def challenge(place: Place, session: str) -> bytes:
    """A nonce, and where it is asked: 32 bytes, never the same twice, and of no use to anybody elsewhere."""
    context = (place.host, place.service, place.user, place.rhost, session)
    parts = [text.encode(errors="surrogateescape") for text in context]
    framed = b"".join(len(part).to_bytes(4) + part for part in parts)
    return sha256(secrets.token_bytes(NONCE_BYTES) + framed).digest()
