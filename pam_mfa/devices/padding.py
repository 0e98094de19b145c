"""Blocks for RSA keys: a card computes m^d mod n and nothing more, so what it signs is made here (RFC 8017, 9)."""

from __future__ import annotations

import hashlib
import os

SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # DER around a hash, section 9.2 note 1
SALT = 32
HASH = 32


def pkcs1(message: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 of a message with SHA-256 (section 9.2).

    Args:
        size: of the modulus in bytes.
    """
    info = SHA256_INFO + hashlib.sha256(message).digest()
    return b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info


def pss(message: bytes, size: int) -> bytes:
    """EMSA-PSS of a message with SHA-256, MGF1 and a salt of 32 bytes (section 9.1.1).

    Args:
        size: of the modulus in bytes; it has eight times as many bits.
    """
    salt = os.urandom(SALT)
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    room = size - HASH - 1
    block = bytes(room - SALT - 1) + b"\x01" + salt
    masked = bytes(one ^ other for one, other in zip(block, _mask(digest, room), strict=True))
    return bytes([masked[0] & 0x7F]) + masked[1:] + digest + b"\xbc"


def _mask(seed: bytes, size: int) -> bytes:
    """MGF1 (appendix B.2.1)."""
    rounds = range(-(-size // HASH))
    return b"".join(hashlib.sha256(seed + number.to_bytes(4, "big")).digest() for number in rounds)[:size]
