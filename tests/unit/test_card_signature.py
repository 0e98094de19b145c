"""P09: a card's signature is checked by the scheme of its key alone; beside vectors of Project Wycheproof."""

from __future__ import annotations

from typing import Any

import pytest
from ca import new_key
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pam_mfa.devices.base import Scheme
from pam_mfa.factors.assertion import Unproven
from pam_mfa.factors.card_signature import key_name, verify

MESSAGE = bytes(range(32))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RSA = new_key("rsa-2048")


def spki(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def refused(key: Any, scheme: Scheme, signature: bytes, reason: str = "signature") -> None:
    with pytest.raises(Unproven) as caught:
        verify(spki(key) if not isinstance(key, bytes) else key, scheme, MESSAGE, signature)
    assert caught.value.reason == reason


def test_rsa_by_either_padding_as_it_is_said() -> None:
    pkcs1 = RSA.sign(MESSAGE, padding.PKCS1v15(), SHA256())
    pss = RSA.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    verify(spki(RSA), Scheme.PKCS1, MESSAGE, pkcs1)
    verify(spki(RSA), Scheme.PSS, MESSAGE, pss)
    refused(RSA, Scheme.PSS, pkcs1)
    refused(RSA, Scheme.PKCS1, pss)
    refused(RSA, Scheme.ECDSA, pkcs1, "scheme")


@pytest.mark.parametrize("salt", [0, 20, 31, 64])
def test_the_salt_has_the_length_of_the_hash(salt: int) -> None:
    refused(RSA, Scheme.PSS, RSA.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), salt), SHA256()))


@pytest.mark.parametrize("hashed", [SHA1(), SHA384(), SHA512()])
def test_rsa_with_another_hash(hashed: Any) -> None:
    refused(RSA, Scheme.PKCS1, RSA.sign(MESSAGE, padding.PKCS1v15(), hashed))
    refused(RSA, Scheme.PSS, RSA.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), 32), hashed))


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"\0" + s, lambda s: b""])
def test_rsa_of_another_length(change: Any) -> None:
    signature = RSA.sign(MESSAGE, padding.PKCS1v15(), SHA256())
    refused(RSA, Scheme.PKCS1, change(signature))


@pytest.mark.parametrize("kind", ["p-256", "p-384"])
def test_ecdsa_with_the_hash_of_its_curve(kind: str) -> None:
    key = new_key(kind)
    own, other = (SHA256(), SHA384()) if kind == "p-256" else (SHA384(), SHA256())
    good = key.sign(MESSAGE, ec.ECDSA(own))
    verify(spki(key), Scheme.ECDSA, MESSAGE, good)
    refused(key, Scheme.ECDSA, key.sign(MESSAGE, ec.ECDSA(other)))
    for scheme in (Scheme.PKCS1, Scheme.PSS):
        refused(key, scheme, good, "scheme")


def test_ecdsa_in_its_only_form() -> None:
    key = new_key()
    good = key.sign(MESSAGE, ec.ECDSA(SHA256()))
    r, s = decode_dss_signature(good)
    verify(
        spki(key), Scheme.ECDSA, MESSAGE, encode_dss_signature(r, P256_ORDER - s)
    )  # the other right answer of this curve
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    long = b"\x30" + bytes([len(good) - 1]) + b"\x02" + bytes([good[3] + 1]) + b"\0" + good[4:]
    for bad in (good + b"\0", good[:-1], raw, b"", b"\x30\x00", long, b"\x30\x81" + good[1:]):
        refused(key, Scheme.ECDSA, bad)
    for pair in ((r + P256_ORDER, s), (r, s + P256_ORDER), (0, s), (r, 0), (r, P256_ORDER)):
        refused(key, Scheme.ECDSA, encode_dss_signature(*pair))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 2056),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        new_key("ed25519"),
        dsa.generate_private_key(2048),
    ],
    ids=["rsa-1024", "rsa-2056", "p-521", "k-256", "ed25519", "dsa"],
)
def test_keys_that_do_not_count(key: Any) -> None:
    refused(key, Scheme.ECDSA, b"", "key")
    with pytest.raises(Unproven):
        key_name(spki(key))


@pytest.mark.parametrize("change", [lambda k: k + b"\0", lambda k: k[:-1], lambda k: b"", lambda k: bytes(2000)])
def test_a_key_has_one_encoding(change: Any) -> None:
    refused(change(spki(RSA)), Scheme.PKCS1, b"", "key")


def test_a_compressed_point_is_another_encoding() -> None:
    key = new_key().public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    whole = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = bytearray(whole[:26])
    head[1] -= 32
    head[24] -= 32
    refused(bytes(head) + point, Scheme.ECDSA, b"", "key")


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-3072", "p-256", "p-384"])
def test_a_keys_name(kind: str) -> None:
    assert key_name(spki(new_key(kind))) == kind
