"""What pam_u2f keeps of keys, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from key_files import ED, HANDLE, NEW, OLD, OTHER, P256, PARTIES, POINT, RSA, RSA_RAW, b64, kind, spki_of, websafe

from pam_mfa.importers import base, pam_u2f, publickey
from pam_mfa.importers.base import Entry, Unusable, without_doubles


def mapping(*text: str, user: str | None = None) -> list[Entry]:
    return pam_u2f.parse("\n".join(text).encode(), PARTIES, user)


def one(text: str) -> base.Imported:
    (entry,) = mapping(text)
    assert entry.why == ""
    assert isinstance(entry.imported, base.Imported)
    return entry.imported


def why(text: str) -> str:
    (entry,) = mapping(text)
    assert entry.imported is None
    assert entry.why.isprintable()
    return entry.why


# ------------------------------------------------------------------------------------------------ public keys


def test_cose_is_what_cryptography_knows() -> None:
    """RFC 9053 and RFC 8230 by hand: kty, alg, curve, coordinates, in CTAP's order."""
    assert publickey.es256(POINT) == publickey.es256(POINT[1:])
    assert publickey.es256(POINT) == bytes.fromhex("a5010203262001215820") + POINT[1:33] + b"\x22\x58\x20" + POINT[33:]
    raw = ED.public_bytes_raw()
    assert publickey.eddsa(raw) == bytes.fromhex("a401010327200621 5820".replace(" ", "")) + raw
    modulus = RSA_RAW[:256]
    assert publickey.rs256(RSA_RAW) == bytes.fromhex("a401030339010020590100") + modulus + bytes.fromhex("2143010001")


@pytest.mark.parametrize(
    ("encode", "raw"),
    [
        (publickey.es256, b""),
        (publickey.es256, POINT[:-1]),
        (publickey.es256, POINT[1:-1] + bytes([POINT[-1] ^ 1])),  # off the curve
        (publickey.es256, b"\x00" * 64),
        (publickey.es256, b"\x02" + POINT[1:]),
        (publickey.eddsa, b"x" * 31),
        (publickey.eddsa, b"\x01" + b"\x00" * 31),  # of small order
        (publickey.eddsa, b"\x02" + b"\x00" * 31),  # no point
        (publickey.rs256, RSA_RAW[:-1]),
        (publickey.rs256, RSA_RAW[:-3] + b"\x00\x00\x01"),  # K10: e = 1
        (publickey.rs256, RSA_RAW[:-3] + b"\x00\x00\x04"),
        (publickey.rs256, b"\x00" * 128 + RSA_RAW[128:]),  # 1,024 bits
        (publickey.rs256, RSA_RAW[:255] + b"\x02" + RSA_RAW[256:]),  # even
    ],
    ids=kind,
)
def test_a_key_that_is_none_is_refused(encode: Callable[[bytes], bytes], raw: bytes) -> None:
    with pytest.raises(Unusable):
        encode(raw)


def test_a_certificate_s_form_of_a_key_is_read() -> None:
    for key, algorithm, cose in (
        (P256, "es256", publickey.es256(POINT)),
        (ED, "eddsa", publickey.eddsa(ED.public_bytes_raw())),
        (RSA, "rs256", publickey.rs256(RSA_RAW)),
    ):
        assert publickey.spki(spki_of(key)) == (algorithm, cose)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"0",
        POINT,
        spki_of(P256) + b"\x00",
        spki_of(P256)[:-1],
        spki_of(ec.generate_private_key(ec.SECP384R1()).public_key()),
        spki_of(rsa.generate_private_key(65537, 1024).public_key()),
        b"\x30\x84" + b"\xff" * 90,
    ],
    ids=kind,
)
def test_another_certificate_s_form_is_refused(der: bytes) -> None:
    with pytest.raises(Unusable):
        publickey.spki(der)


# -------------------------------------------------------------------------------------------------- pam_u2f


@pytest.mark.parametrize(
    ("algorithm", "raw", "cose"),
    [
        ("es256", POINT[1:], publickey.es256(POINT)),
        ("ES256", POINT, publickey.es256(POINT)),
        ("eddsa", ED.public_bytes_raw(), publickey.eddsa(ED.public_bytes_raw())),
        ("rs256", RSA_RAW, publickey.rs256(RSA_RAW)),
    ],
    ids=kind,
)
def test_the_new_form_in_every_algorithm(algorithm: str, raw: bytes, cose: bytes) -> None:
    found = one(f"alice:{b64(HANDLE)},{b64(raw)},{algorithm},+presence")
    assert (found.user, found.rp_id, found.credential_id) == ("alice", "pam://host", HANDLE)
    assert (found.public_key, found.algorithm) == (cose, algorithm.lower())
    assert (found.verified, found.discoverable) == (False, False)


@pytest.mark.parametrize(
    ("options", "verified", "noted"),
    [
        (",+presence", False, ""),
        ("", False, "touched"),
        (",", False, "touched"),
        (",+presence+verification", True, "user_verification"),
        (",+pin", True, "user_verification"),
        (",+presence+verification+pin", True, "user_verification"),
    ],
)
def test_options(options: str, verified: bool, noted: str) -> None:
    (entry,) = mapping(f"alice:{b64(HANDLE)},{b64(POINT[1:])},es256{options}")
    assert isinstance(entry.imported, base.Imported)
    assert entry.imported.verified is verified
    assert noted in entry.note
    assert bool(noted) == bool(entry.note)


def test_the_old_form_belongs_to_the_appid() -> None:
    found = one(f"alice:{OLD}")
    assert (found.rp_id, found.credential_id) == ("pam://app", b"?>" + HANDLE)
    assert found.public_key == publickey.es256(POINT)


def test_several_keys_in_a_line() -> None:
    entries = mapping(f"alice:{NEW}:{OLD}::{b64(OTHER)},{b64(ED.public_bytes_raw())},eddsa,")
    assert [(e.line, e.user, e.imported and e.imported.algorithm) for e in entries] == [
        (1, "alice", "es256"), (1, "alice", "es256"), (1, "alice", "eddsa"),
    ]  # fmt: skip


def test_lines_that_say_nothing_and_line_ends() -> None:
    entries = mapping("# a comment", "# caf\u00e9", "", "  \r", f"alice:{NEW}\r", f"bob:{OLD} \r", "")
    assert [(e.line, e.user, e.why) for e in entries] == [(5, "alice", ""), (6, "bob", "")]


def test_the_last_line_of_a_user_counts() -> None:
    entries = mapping(f"alice:{NEW}", f"bob:{NEW}", "alice:broken")
    assert [(e.line, e.imported is None) for e in entries] == [(1, True), (2, False), (3, True)]
    assert "last line, 3" in entries[0].why


def test_a_users_own_file() -> None:
    entries = mapping(f"root:{NEW}", f"alice:{NEW}", user="alice")
    assert [(e.user, e.imported is None) for e in entries] == [("root", True), ("alice", False)]
    assert mapping(f":{NEW}", user="alice")[0].imported
    assert "no user name" in why(f":{NEW}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"alice:*,{b64(POINT[1:])},es256,+presence", "resident"),
        ("alice", "no key"),
        ("alice:::", "no key"),
        (NEW, "no user name"),
        (f"-x:{NEW}", "no user name"),
        (f"al ice:{NEW}", "no user name"),
        ("alice:x", "separated by commas"),
        (f"alice:{NEW},more", "separated by commas"),
        (f"alice:?,{b64(POINT)},es256,", "not base64"),
        (f"alice:{b64(HANDLE)},!,es256,", "not base64"),
        (f"alice:{b64(HANDLE)},{b64(POINT[2:])},es256,", "twice 32"),
        (f"alice:{b64(HANDLE)},{b64(b'x' * 64)},es256,", "on its curve"),
        (f"alice:{b64(HANDLE)},{b64(POINT)},es384,", "algorithm"),
        (f"alice:{b64(HANDLE)},{b64(POINT)},es256,+tap", "options"),
        (f"alice:{b64(b'h' * 1024)},{b64(POINT)},es256,", "1023"),
        (f"alice:{websafe(HANDLE)},{b64(POINT)}", "hex"),
        (f"alice:{websafe(HANDLE)},{POINT.hex()[:-1]}", "hex"),
        (f"alice:{'a' * 70000}", "longer"),
        (f"alice\x00:{NEW}", "printable"),
        (f"al\u00efce:{NEW}", "printable"),
        (f"\x1b[2Jalice:{NEW}", "printable"),
    ],
    ids=kind,
)
def test_why_not(text: str, said: str) -> None:
    assert said in why(text)


@pytest.mark.parametrize("shared", [False, True])
def test_a_shared_key_goes_to_whoever_stands_first_unless_that_is_wanted(shared: bool) -> None:
    """K07."""
    entries = without_doubles(mapping(f"alice:{NEW}", f"root:{NEW}", f"bob:{OLD}:{OLD}"), shared)
    assert [e.imported is not None for e in entries] == [True, shared, True, False]
    assert entries[1].why == ("" if shared else "the key of alice, line 1; --shared gives it to both")
    assert entries[3].why == "the same key again, line 3"
