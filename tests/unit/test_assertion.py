"""Authenticator data: a published vector, and every byte that may be wrong (K01-K03, K11, K12, K14)."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from public_keys import KEY, refused

from pam_mfa.factors.assertion import ALGORITHMS, MAX_BYTES, Unproven, read_assertion, read_attested

DATA = Path(__file__).resolve().parents[1] / "data"
VECTORS = json.loads((DATA / "webauthn.json").read_text())
RP = "example.org"
HASH = sha256(RP.encode()).digest()
NEW = bytes(16) + b"\x00\x02id" + KEY.encoded


def data(flags: int, rest: bytes = b"", count: int = 0, rp: bytes = HASH) -> bytes:
    return rp + bytes([flags]) + count.to_bytes(4) + rest


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_webauthn_level_3(vector: dict[str, str]) -> None:
    """Section 16, as far as its algorithms are ours."""
    made, asserted = bytes.fromhex(vector["made"]), bytes.fromhex(vector["asserted"])
    head, attested = read_attested(made, RP)
    later = read_assertion(asserted, RP)
    assert later.synced is head.synced
    assert attested.credential_id in made
    assert attested.key.algorithm in ALGORITHMS
    signed = asserted + sha256(vector["client"].encode()).digest()
    signature = bytes.fromhex(vector["signature"])
    attested.key.verify(signed, signature)
    for wrong in (signed[:-1], asserted + sha256(b"another challenge").digest(), b""):
        assert refused(lambda wrong=wrong: attested.key.verify(wrong, signature)) == "signature"  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------------ head


def test_a_plain_assertion() -> None:
    head = read_assertion(data(0x05, count=7), RP)
    assert (head.verified, head.synced, head.sign_count) == (True, False, 7)
    assert not read_assertion(data(0x01), RP).verified


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "malformed"),
        (data(0x01)[:-1], "malformed"),
        (data(0x81, bytes(MAX_BYTES)), "malformed"),
        (data(0x01, rp=sha256(b"example.com").digest()), "rp_id"),
        (data(0x00), "up_missing"),
        (data(0x04), "up_missing"),
        (data(0x11), "backup_state"),
        (data(0x41, NEW), "malformed"),
        (data(0x41), "malformed"),
        (data(0x01, b"\xa0"), "malformed"),
        (data(0x81), "malformed"),
    ],
)
def test_an_assertion_that_is_none(bad: bytes, reason: str) -> None:
    assert refused(lambda: read_assertion(bad, RP)) == reason


def test_extension_data_stands_only_where_its_flag_does() -> None:
    read_assertion(data(0x81, b"\xa0"), RP)
    read_attested(data(0xC1, NEW + b"\xa0"), RP)
    assert refused(lambda: read_attested(data(0xC1, NEW), RP)) == "malformed"
    assert refused(lambda: read_attested(data(0x41, NEW + b"\xa0"), RP)) == "malformed"


def test_synced_is_what_may_be_synced() -> None:
    assert read_assertion(data(0x09), RP).synced
    assert read_assertion(data(0x19), RP).synced


# -------------------------------------------------------------------------------------------------- new credentials


def test_a_new_credential() -> None:
    head, attested = read_attested(data(0x45, bytes(range(16)) + b"\x00\x02id" + KEY.encoded, 9), RP)
    assert (head.verified, head.sign_count) == (True, 9)
    assert (attested.aaguid, attested.credential_id, attested.key.encoded) == (bytes(range(16)), b"id", KEY.encoded)


@pytest.mark.parametrize("size", [1, 1023])
def test_credential_ids_of_every_length(size: int) -> None:
    _, attested = read_attested(data(0x41, bytes(16) + size.to_bytes(2) + bytes(size) + KEY.encoded), RP)
    assert len(attested.credential_id) == size


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b"", "malformed"),
        (NEW[:17], "malformed"),
        (bytes(16) + b"\x00\x00" + KEY.encoded, "credential_id"),
        (bytes(16) + b"\x04\x00" + bytes(1024) + KEY.encoded, "credential_id"),
        (bytes(16) + b"\x00\x02i", "algorithm"),
        (NEW[:-1], "algorithm"),
        (NEW + b"\0", "malformed"),
    ],
)
def test_a_new_credential_that_is_none(rest: bytes, reason: str) -> None:
    assert refused(lambda: read_attested(data(0x41, rest), RP)) == reason


def test_a_new_credential_needs_its_flag() -> None:
    assert refused(lambda: read_attested(data(0x01, NEW), RP)) == "malformed"


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_else(drawn: st.DataObject) -> None:
    good = data(0x41, NEW)
    at = drawn.draw(st.integers(0, len(good)))
    bad = good[:at] + drawn.draw(st.binary(max_size=80)) + good[at + drawn.draw(st.integers(0, 8)) :]
    for read in (read_attested, read_assertion):
        try:
            read(bad, RP)
        except Unproven:
            continue


def test_reading_imports_no_cryptography() -> None:
    """A login by code pays nothing for it."""
    program = "import sys, pam_mfa.factors.assertion; assert not [m for m in sys.modules if 'cryptography' in m]"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
