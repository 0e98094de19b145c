"""The texts of a credential's material, each with its length in two bytes in front."""

from __future__ import annotations

from collections.abc import Iterable


def packed(texts: Iterable[bytes]) -> bytes:
    """All of them, in order; each shorter than 64 KiB."""
    return b"".join(len(text).to_bytes(2) + text for text in texts)


def unpacked(material: bytes, at: int) -> list[bytes]:
    """The other way round, from a place on. Material was sealed by us, so its form is not checked again."""
    texts = []
    while at < len(material):
        end = at + 2 + int.from_bytes(material[at : at + 2])
        texts.append(material[at + 2 : end])
        at = end
    return texts
