"""Keys derived from the seal key, and the one mechanism that both hides and authenticates a row.

AES-GCM with the row's fixed columns as associated data (SP 800-38D); keys by HKDF-SHA-256 (RFC 5869).
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import StoreCorrupt, StoreSealed

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


def bind(columns: tuple[str | int, ...]) -> bytes:
    """One byte string for a row's columns: different columns never give the same bytes.

    Each column is preceded by its length, so that moving a character from one to the next changes the result.
    """
    parts = [str(column).encode() for column in columns]
    return b"".join(len(part).to_bytes(4) + part for part in parts)


class Sealer:
    """What can be done with the seal key; the key itself is not kept.

    Args:
        key: the 32 bytes of /etc/pam-mfa/seal.key.

    Raises:
        StoreSealed: the key is not 32 bytes long.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise StoreSealed(f"the seal key must be {KEY_BYTES} bytes long, this one has {len(key)}")
        self._rows = AESGCM(_derive(key, "row seal"))
        self._macs = _derive(key, "macs")
        self.check = _derive(key, "key check")
        """Tells this key from another without revealing either; kept in the store."""

    def seal(self, secret: bytes, *columns: str | int) -> bytes:
        """Hide `secret` and bind it to the row's fixed columns (the table's name first)."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._rows.encrypt(nonce, secret, bind(columns))

    def unseal(self, sealed: object, *columns: str | int) -> bytes:
        """The secret of a row, once it is certain that all of the row is as it was written.

        Raises:
            StoreCorrupt: the sealed bytes or one of the columns changed.
        """
        if not isinstance(sealed, bytes) or len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise StoreCorrupt("a row has lost its seal")
        try:
            return self._rows.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bind(columns))
        except InvalidTag:
            raise StoreCorrupt("a row fails its seal") from None

    def mac(self, purpose: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of `data` under a key that serves this purpose alone; 32 bytes."""
        key = hmac.digest(self._macs, purpose.encode(), "sha256")
        return hmac.digest(key, data, "sha256")


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"pam-mfa v1 " + purpose.encode()).derive(key)
