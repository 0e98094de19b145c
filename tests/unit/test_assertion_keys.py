"""Keys and signatures of authenticators: published vectors, and every other form refused (K10, K12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from public_keys import KEY, MODULUS, POINT, X, Y, refused

from pam_mfa.factors import assertion
from pam_mfa.factors.assertion import (
    ED25519_D,
    ED25519_SMALL,
    P256,
    P256_ORDER,
    P25519,
    EdDsa,
    Es256,
    PublicKey,
    Rs256,
    Unproven,
    demand,
    public_key,
)

DATA = Path(__file__).resolve().parents[1] / "data"


# ---------------------------------------------------------------------------------------------- published vectors


def wycheproof(name: str, key: Callable[..., PublicKey]) -> Iterator[tuple[int, str, str]]:
    """Number, expected and actual result of each test of a file."""
    with (DATA / "wycheproof" / f"{name}.txt").open() as lines:
        for line in lines:
            words = line.split()
            if words[0] == "key":
                numbers = [bytes.fromhex(word) for word in words[1:]]
                continue
            signed, signature = (bytes.fromhex(word.replace("-", "")) for word in words[2:])
            try:
                key(*numbers).verify(signed, signature)
            except Unproven as why:
                yield int(words[0]), words[1], why.reason
            else:
                yield int(words[0]), words[1], "valid"


def differing(results: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    return [r for r in results if r[1] != "acceptable" and (r[1] == "valid") is not (r[2] == "valid")]


def test_wycheproof_ecdsa_p256() -> None:
    results = list(
        wycheproof(
            "ecdsa_secp256r1_sha256_test", lambda x, y: Es256(x[-32:].rjust(32, b"\0"), y[-32:].rjust(32, b"\0"))
        )
    )
    assert len(results) == 484
    assert differing(results) == []


def test_wycheproof_ed25519() -> None:
    results = list(wycheproof("ed25519_test", EdDsa))
    assert len(results) == 210
    assert differing(results) == []
    small = [actual for number, _, actual in results if 152 <= number <= 159]
    assert small == ["key"] * 8


def test_wycheproof_rsa_pkcs1() -> None:
    results = list(wycheproof("rsa_signature_2048_sha256_test", lambda n, e: Rs256(n.lstrip(b"\0"), e.lstrip(b"\0"))))
    assert len(results) == 259
    assert differing(results) == []
    assert [actual for _, expected, actual in results if expected == "acceptable"] == ["signature"]  # a missing NULL


# ------------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("key", [KEY, EdDsa(POINT), Rs256(MODULUS, b"\x01\x00\x01"), Rs256(MODULUS, b"\x03")])
def test_a_key_is_read_as_it_is_written_and_no_further(key: PublicKey) -> None:
    assert public_key(key.encoded).encoded == key.encoded
    assert public_key(key.encoded + b"more").encoded == key.encoded
    assert public_key(key.encoded).algorithm == key.algorithm
    for size in range(len(key.encoded)):
        refused(lambda size=size: public_key(key.encoded[:size]))  # type: ignore[misc]


CANONICAL = KEY.encoded
NOT_CANONICAL = {
    "kty 3": CANONICAL.replace(b"\x01\x02\x03\x26", b"\x01\x03\x03\x26"),
    "ES384": CANONICAL.replace(b"\x03\x26", b"\x03\x38\x22"),
    "ES256K": CANONICAL.replace(b"\x03\x26", b"\x03\x38\x2e"),
    "RS1": Rs256(MODULUS, b"\x03").encoded.replace(b"\x39\x01\x00", b"\x39\xff\xfe"),
    "PS256": Rs256(MODULUS, b"\x03").encoded.replace(b"\x39\x01\x00", b"\x38\x24"),
    "P-384": CANONICAL.replace(b"\x20\x01", b"\x20\x02"),
    "EdDSA on P-256": CANONICAL.replace(b"\x03\x26", b"\x03\x27"),
    "Ed448": EdDsa(POINT).encoded.replace(b"\x20\x06", b"\x20\x07"),
    "no algorithm": b"\xa4" + CANONICAL[1:3] + CANONICAL[5:],
    "another order": b"\xa5" + CANONICAL[3:5] + CANONICAL[1:3] + CANONICAL[5:],
    "a doubled key": b"\xa6" + CANONICAL[1:3] + CANONICAL[1:],
    "a long form of 2": CANONICAL.replace(b"\xa5\x01\x02", b"\xa5\x01\x18\x02"),
    "endless": b"\xbf" + CANONICAL[1:] + b"\xff",
    "a compressed point": CANONICAL[:42] + b"\x22\xf5",
    "a long length": CANONICAL.replace(b"\x21\x58\x20", b"\x21\x59\x00\x20"),
    "nothing": b"\xa0",
    "null": b"\xf6",
    "one level deep for ever": b"\x81" * 500,
}


@pytest.mark.parametrize("bad", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_a_key_in_any_other_form_is_refused(bad: bytes) -> None:
    assert refused(lambda: public_key(bad)) == "algorithm"


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (bytes(32), bytes(32)),
        (X, X),
        (X, (int.from_bytes(Y) ^ 1).to_bytes(32)),
        (b"\xff" * 32, Y),
        (P256.to_bytes(32), Y),
        (X, (int.from_bytes(Y) + 2**256 - P256).to_bytes(33)[-32:]),
        (X[1:], Y),
    ],
)
def test_a_point_off_the_curve_is_refused(x: bytes, y: bytes) -> None:
    assert refused(lambda: Es256(x, y)) == "key"


def test_a_point_of_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256K1()).public_key().public_numbers()
    assert refused(lambda: Es256(other.x.to_bytes(32), other.y.to_bytes(32))) == "key"


def double(x: int, y: int) -> tuple[int, int]:
    k = ED25519_D * x * x * y * y
    return 2 * x * y * pow(1 + k, -1, P25519) % P25519, (y * y + x * x) * pow(1 - k, -1, P25519) % P25519


def test_the_points_of_small_order_are_these() -> None:
    """Three doublings of each end at the neutral element; there are eight, of five heights."""
    for y in ED25519_SMALL:
        square = (y * y - 1) * pow(ED25519_D * y * y + 1, -1, P25519) % P25519
        x = pow(square, (P25519 + 3) // 8, P25519)
        x = x if x * x % P25519 == square else x * pow(2, (P25519 - 1) // 4, P25519) % P25519
        assert x * x % P25519 == square
        point = (x, y)
        for _ in range(3):
            point = double(*point)
        assert point == (0, 1)
    assert len(ED25519_SMALL) == 5


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("y", [*ED25519_SMALL, P25519, P25519 + 1, 2**255 - 1, 2])
def test_a_small_or_strange_point_is_refused(y: int, sign: int) -> None:
    point = bytearray(y.to_bytes(32, "little"))
    point[31] |= sign
    assert refused(lambda: EdDsa(bytes(point))) == "key"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_point_of_another_length_is_refused(length: int) -> None:
    assert refused(lambda: EdDsa(bytes(length))) == "key"


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        (b"", b"\x03"),
        (b"\x7f" + b"\xff" * 255, b"\x03"),
        (b"\0" + MODULUS, b"\x03"),
        (b"\x80" + bytes(255), b"\x03"),
        (b"\x01" + bytes(511) + b"\x01", b"\x03"),
        (MODULUS, b""),
        (MODULUS, b"\x01"),
        (MODULUS, b"\x02"),
        (MODULUS, b"\x01\x00\x00"),
        (MODULUS, b"\x00\x03"),
        (MODULUS, b"\x01" * 9),
    ],
)
def test_a_weak_or_padded_rsa_key_is_refused(modulus: bytes, exponent: bytes) -> None:
    assert refused(lambda: Rs256(modulus, exponent)) == "key"


def test_an_rsa_exponent_of_no_bytes_is_refused() -> None:
    encoded = Rs256(MODULUS, b"\x03").encoded
    for bad in (encoded[:-2] + b"\x40", encoded[:-2] + b"\x49" + b"\x01" * 9, encoded[:-2] + b"\x42\x03", encoded[:-1]):
        assert refused(lambda bad=bad: public_key(bad)) == "key"  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------ signatures


def der(*numbers: bytes) -> bytes:
    body = b"".join(b"\x02" + bytes([len(n)]) + n for n in numbers)
    return b"\x30" + bytes([len(body)]) + body


ORDER = P256_ORDER.to_bytes(33)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        der(b"\x01"),
        der(b"\x01", b"\x01", b"\x01"),
        der(b"\x01", b"\x01") + b"\0",
        der(b"\x00", b"\x01"),
        der(b"\x01", b"\x00"),
        der(b"\x81", b"\x01"),
        der(b"\x00\x01", b"\x01"),
        der(b"\x01", ORDER),
        der(ORDER, b"\x01"),
        der(b"\x01", b"\x01").replace(b"\x30\x06", b"\x30\x81\x06"),
        der(b"\x01", b"\x01").replace(b"\x30", b"\x31"),
        der(b"", b"\x01"),
        der(b"\x01" * 34, b"\x01"),
        b"\xff" * 72,
        bytes(5000),
    ],
)
def test_a_signature_in_any_other_form_is_refused_before_any_crypto(
    bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assertion, "_call", lambda verify: pytest.fail("it got that far"))
    assert refused(lambda: KEY.verify(b"signed", bad)) == "signature"


def test_our_own_keys_sign_what_we_accept() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    from cryptography.hazmat.primitives.hashes import SHA256

    key = Es256(numbers.x.to_bytes(32), numbers.y.to_bytes(32))
    for message in (b"", b"x" * 5000):
        key.verify(message, private.sign(message, ec.ECDSA(SHA256())))
    assert refused(lambda: key.verify(b"another", private.sign(b"one", ec.ECDSA(SHA256())))) == "signature"
    edwards = ed25519.Ed25519PrivateKey.generate()
    EdDsa(edwards.public_key().public_bytes_raw()).verify(b"one", edwards.sign(b"one"))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_an_eddsa_signature_of_another_length_is_refused(size: int) -> None:
    assert refused(lambda: EdDsa(POINT).verify(b"", bytes(size))) == "signature"


@pytest.mark.parametrize("size", [0, 255, 257])
def test_an_rsa_signature_of_another_length_is_refused(size: int) -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    key = Rs256(numbers.n.to_bytes(256), b"\x01\x00\x01")
    assert refused(lambda: key.verify(b"", bytes(size))) == "signature"


@pytest.mark.parametrize("odd", [1, None, "yes", False])
def test_only_true_holds(odd: object) -> None:
    assert refused(lambda: demand(odd, "why")) == "why"  # type: ignore[arg-type]
