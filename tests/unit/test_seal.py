"""The seal hides what is in a row and notices any change of it."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, strategies as st

from pam_mfa.errors import StoreCorrupt, StoreSealed
from pam_mfa.store.seal import Sealer, bind

KEY = bytes(range(32))
SEALER = Sealer(KEY)
columns = st.lists(st.text(max_size=5) | st.integers(0, 2**32), max_size=4).map(tuple)


@given(st.binary(max_size=300), columns)
def test_what_was_sealed_comes_back(secret: bytes, row: tuple[str | int, ...]) -> None:
    assert SEALER.unseal(SEALER.seal(secret, *row), *row) == secret


@given(columns, columns)
def test_different_columns_never_look_alike(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert (bind(one) == bind(other)) == (list(map(str, one)) == list(map(str, other)))


@pytest.mark.parametrize(
    "row",
    [
        ("credential", 1001, "alice", "totp"),
        ("credential", 1000, "alic", "etotp"),
        ("credential", 1000, "alice", "recovery"),
        ("credential", 1000, "alice"),
        ("credential", 1000, "alice", "totp", ""),
        ("account", 1000, "alice", "totp"),
        (),
    ],
)
def test_a_row_moved_to_another_place_fails(row: tuple[str | int, ...]) -> None:
    sealed = SEALER.seal(b"secret", "credential", 1000, "alice", "totp")
    with pytest.raises(StoreCorrupt):
        SEALER.unseal(sealed, *row)


def test_every_changed_bit_fails() -> None:
    sealed = SEALER.seal(b"secret", "credential", 1000)
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(StoreCorrupt):
            SEALER.unseal(bytes(changed), "credential", 1000)


def test_every_shortened_row_fails() -> None:
    sealed = SEALER.seal(b"secret", "credential", 1000)
    for size in range(len(sealed)):
        with pytest.raises(StoreCorrupt):
            SEALER.unseal(sealed[:size], "credential", 1000)


@pytest.mark.parametrize("sealed", [None, 5, 1.5, "text of thirty and a few characters"])
def test_what_is_not_bytes_fails(sealed: object) -> None:
    with pytest.raises(StoreCorrupt):
        SEALER.unseal(sealed, "credential", 1000)


def test_another_key_opens_nothing_and_is_told_apart() -> None:
    other = Sealer(bytes(32))
    with pytest.raises(StoreCorrupt):
        other.unseal(SEALER.seal(b"secret", "credential", 1000), "credential", 1000)
    assert other.check != SEALER.check
    assert other.mac("purpose", b"data") != SEALER.mac("purpose", b"data")


def test_the_same_secret_never_looks_the_same() -> None:
    assert SEALER.seal(b"secret") != SEALER.seal(b"secret")
    assert b"secret" not in SEALER.seal(b"secret")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(StoreSealed):
        Sealer(bytes(size))


def test_macs_of_different_purposes_have_nothing_in_common() -> None:
    assert SEALER.mac("recovery code", b"data") == Sealer(KEY).mac("recovery code", b"data")
    assert len(SEALER.mac("recovery code", b"data")) == 32
    assert SEALER.mac("recovery code", b"data") != SEALER.mac("recovery cod", b"edata")


def test_keys_are_derived_as_the_readme_says() -> None:
    """What is in stores depends on it: a change needs a migration."""
    derived = {
        purpose: HKDF(SHA256(), 32, None, b"pam-mfa v1 " + purpose.encode()).derive(KEY)
        for purpose in ("macs", "key check")
    }
    purpose_key = hmac.digest(derived["macs"], b"recovery code", "sha256")
    assert SEALER.mac("recovery code", b"data") == hmac.digest(purpose_key, b"data", "sha256")
    assert SEALER.check == derived["key check"]
    assert KEY not in derived.values()
