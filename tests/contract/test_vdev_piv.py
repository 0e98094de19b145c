"""The virtual PIV card: by itself, and as OpenSC, who knows nothing of us, sees it through the real pcscd."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from pathlib import Path

import pytest
from cards import Client, transmit
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from smartcards import DIGEST, KINDS, certificate, piv, private
from vdev.iso7816 import YUBIKEY_ATR, Card
from vdev.pcscd import Reader
from vdev.piv import (
    AUTHENTICATION,
    CARD_AUTHENTICATION,
    CERTIFICATES,
    CHUID,
    GENERAL_AUTHENTICATE,
    KEY_MANAGEMENT,
    SIGNATURE,
    VERIFY,
    PivApplet,
    algorithm_of,
    certificate_object,
    tlv,
)

SELECT = bytes.fromhex("00A4040005A00000030800")
QUERY = bytes.fromhex("00200080")
RIGHT, WRONG = b"123456\xff\xff", b"654321\xff\xff"


def selected(applet: PivApplet) -> Card:
    card = Card(applet)
    assert card.exchange(SELECT)[-2:] == b"\x90\x00"
    return card


def verify(card: Card, pin: bytes = RIGHT) -> str:
    return card.exchange(b"\x00\x20\x00\x80\x08" + pin).hex()


def challenge(kind: str, message: bytes) -> bytes:
    """What a client sends: a digest, or a whole PKCS#1 v1.5 block of its SHA-256."""
    digest = hashlib.sha384(message).digest() if kind == "p384" else hashlib.sha256(message).digest()
    if not kind.startswith("rsa"):
        return digest
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    return b"\x00\x01" + b"\xff" * (int(kind[3:]) // 8 - len(info) - 3) + b"\x00" + info


def sign(card: Card, kind: str, slot: int = AUTHENTICATION, data: bytes | None = None, chained: bool = False) -> bytes:
    """The answer to GENERAL AUTHENTICATE, status word included; by one extended APDU, or by short ones."""
    body = tlv(0x7C, tlv(0x82), tlv(0x81, challenge(kind, b"message") if data is None else data))
    header = bytes([GENERAL_AUTHENTICATE, algorithm_of(private(kind)), slot])
    if not chained:
        return card.exchange(b"\x00" + header + b"\x00" + len(body).to_bytes(2, "big") + body + b"\x00\x00")
    while len(body) > 255:
        assert card.exchange(b"\x10" + header + b"\xff" + body[:255]) == b"\x90\x00"
        body = body[255:]
    answer = card.exchange(b"\x00" + header + bytes([len(body)]) + body + b"\x00")
    while answer[-2] == 0x61:
        answer = answer[:-2] + card.exchange(b"\x00\xc0\x00\x00" + answer[-1:])
    return answer


def check(kind: str, answer: bytes, message: bytes = b"message") -> None:
    """Raises InvalidSignature."""
    assert answer[-2:] == b"\x90\x00"
    public = private(kind).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(answer[-2 - public.key_size // 8 : -2], message, padding.PKCS1v15(), hashes.SHA256())
    else:
        public.verify(answer[4:-2], message, ec.ECDSA(DIGEST[kind]))


# ----------------------------------------------------------------------------------------------------------- by itself


@pytest.mark.parametrize("chained", [False, True], ids=["extended", "chained"])
@pytest.mark.parametrize("kind", KINDS)
def test_signatures(kind: str, chained: bool) -> None:
    card = selected(piv(kind))
    assert verify(card) == "9000"
    answer = sign(card, kind, chained=chained)
    check(kind, answer)
    with pytest.raises(InvalidSignature):
        check(kind, answer, b"another message")
    assert sign(card, kind, data=b"\x01").hex() == "6a80"


def test_pin_tries() -> None:
    card = selected(piv(tries=3))
    assert card.exchange(QUERY).hex() == "63c3"
    assert sign(card, "p256").hex() == "6982"
    assert [verify(card, WRONG), verify(card, WRONG)] == ["63c2", "63c1"]
    assert card.exchange(QUERY).hex() == "63c1"
    assert verify(card, RIGHT) == card.exchange(QUERY).hex() == "9000"
    assert verify(card, WRONG) == "63c2"
    assert sign(card, "p256").hex() == "6982"  # a wrong one takes back what a right one gave
    assert [verify(card, WRONG), verify(card, WRONG)] == ["63c1", "6983"]
    assert [verify(card, RIGHT), card.exchange(QUERY).hex()] == ["6983", "6983"]
    assert sign(card, "p256").hex() == "6982"


@pytest.mark.parametrize(
    "pin", [b"123456", b"12345\xff\xff\xff", b"12345a\xff\xff", b"123456\xff\xff\xff", b"\xff" * 8]
)
def test_a_pin_of_another_form_costs_no_try(pin: bytes) -> None:
    card = selected(piv())
    assert card.exchange(bytes([0, VERIFY, 0, 0x80, len(pin)]) + pin).hex() == "6a80"
    assert card.exchange(QUERY).hex() == "63c3"


def test_the_pin_counts_until_the_card_is_reset_or_another_applet_is_selected() -> None:
    applet = piv()
    card = selected(applet)
    for forget in (card.reset, card.power_off, lambda: None):
        assert verify(card) == "9000"
        forget()
        card.exchange(SELECT)
        assert card.exchange(QUERY).hex() == "63c3"
    verify(card)
    assert card.exchange(b"\x00\x20\xff\x80").hex() == "9000"
    assert card.exchange(QUERY).hex() == "63c3"


def test_slots_want_what_they_want() -> None:
    card = selected(piv(slots=(AUTHENTICATION, SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION)))
    check("p256", sign(card, "p256", CARD_AUTHENTICATION))  # no PIN
    assert sign(card, "p256", SIGNATURE).hex() == "6982"
    verify(card)
    check("p256", sign(card, "p256", SIGNATURE))
    assert sign(card, "p256", SIGNATURE).hex() == "6982"  # the PIN each time
    check("p256", sign(card, "p256", AUTHENTICATION))
    check("p256", sign(card, "p256", KEY_MANAGEMENT))
    assert sign(card, "p256", 0x82).hex() == "6a88"
    assert sign(card, "rsa2048").hex() == "6a86"  # not the key's algorithm


@pytest.mark.parametrize(
    "body", ["", "7C00", "7C028200", "7C0482008101", "7D068200810201FF", "7C068200810201FF00", "7C", "7C84FFFFFFFF"]
)
def test_templates_that_are_none(body: str) -> None:
    card = selected(piv())
    verify(card)
    data = bytes.fromhex(body)
    body_of = bytes([len(data)]) + data if data else b""
    answer = card.exchange(bytes([0, GENERAL_AUTHENTICATE, 0x11, AUTHENTICATION]) + body_of)
    assert answer.hex() == "6a80"


def read(card: Card, tag: bytes) -> bytes:
    asked = tlv(0x5C, tag)
    return card.exchange(b"\x00\xcb\x3f\xff\x00" + len(asked).to_bytes(2, "big") + asked + b"\x00\x00")


def test_objects() -> None:
    card = selected(piv(serial=7))
    assert read(card, CERTIFICATES[AUTHENTICATION])[-2:] == b"\x90\x00"
    assert read(card, CERTIFICATES[SIGNATURE]).hex() == "6a82"
    assert b"pam-mfa PIV card" in read(card, CHUID)
    assert read(card, b"\x7e")[:1] == b"\x7e"
    assert card.exchange(b"\x00\xcb\x3f\xff\x02\x5c\x01").hex() == "6a80"
    assert card.exchange(b"\x00\xf8\x00\x00").hex() == "000000079000"
    assert selected(piv()).exchange(b"\x00\xf8\x00\x00").hex() == "6d00"


def test_what_a_test_may_have_a_card_say() -> None:
    applet = piv(compressed=True, objects={CHUID: b"", CERTIFICATES[SIGNATURE]: b"\x70\x84\xff"})
    card = selected(applet)
    compressed = read(card, CERTIFICATES[AUTHENTICATION])
    start = compressed.index(b"\x1f\x8b")
    assert gzip.decompress(compressed[start : -2 - 5]) == applet.certificates[AUTHENTICATION]
    assert read(card, CHUID).hex() == "53009000"
    assert read(card, CERTIFICATES[SIGNATURE]).hex() == "53037084ff9000"
    verify(card)
    applet.faults.sign = lambda slot, data: b"not a signature"
    assert sign(card, "p256") == tlv(0x7C, tlv(0x82, b"not a signature")) + b"\x90\x00"
    applet.faults.any_pin = True
    assert verify(card, WRONG) == "9000"
    applet.tries_left = 0
    assert verify(card) == "6983"


def test_a_certificate_need_not_fit_its_key() -> None:
    key, other = private("p256"), ec.generate_private_key(ec.SECP256R1())
    card = selected(PivApplet({AUTHENTICATION: other}, {AUTHENTICATION: certificate(key)}))
    verify(card)
    with pytest.raises(InvalidSignature):
        check("p256", sign(card, "p256"))


# ---------------------------------------------------------------------------------------------------------- in a reader


def test_the_pin_counts_until_the_card_is_out(readers: list[Reader], client: Client) -> None:
    applet, other = piv(), piv()
    readers[0].insert(Card(applet))
    card = client.connect()
    for apdu in (SELECT, b"\x00\x20\x00\x80\x08" + RIGHT):
        assert transmit(card, apdu)[1] == 0x9000
    readers[0].swap(Card(other), unseen=True)
    assert not applet.verified
    for apdu in (SELECT, b"\x00\x20\x00\x80\x08" + RIGHT):
        assert transmit(card, apdu)[1] == 0x9000
    readers[0].remove()
    assert not other.verified


# ------------------------------------------------------------------------------------------------------------ by OpenSC


@pytest.fixture(autouse=True)
def cache_of_opensc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards of several tests have the same number."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def run(*argv: str, status: int = 0) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    return done.stdout + done.stderr


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_opensc_reads_the_certificate(readers: list[Reader], tmp_path: Path, compressed: bool) -> None:
    applet = piv("rsa2048", compressed=compressed)
    readers[0].insert(Card(applet))
    assert "Personal Identity Verification Card" in run("opensc-tool", "--name")
    assert "PIN [PIN]" in run("pkcs15-tool", "--dump")
    file = tmp_path / "certificate"
    run("pkcs11-tool", "--read-object", "--type", "cert", "--id", "01", "--output-file", str(file))
    assert file.read_bytes() == applet.certificates[AUTHENTICATION]


@pytest.mark.parametrize("mechanism", ["SHA256-RSA-PKCS", "SHA256-RSA-PKCS-PSS"])
def test_opensc_signs_by_rsa(readers: list[Reader], tmp_path: Path, mechanism: str) -> None:
    readers[0].insert(Card(piv("rsa2048")))
    signature = opensc_signature(tmp_path, mechanism)
    public = private("rsa2048").public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    padded = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if "PSS" in mechanism else padding.PKCS1v15()
    public.verify(signature, b"message", padded, hashes.SHA256())


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_opensc_signs_by_elliptic_curves(readers: list[Reader], tmp_path: Path, kind: str) -> None:
    readers[0].insert(Card(piv(kind), atr=YUBIKEY_ATR))
    digest = challenge(kind, b"message")
    signature = opensc_signature(tmp_path, "ECDSA", digest)
    half = len(signature) // 2
    der = utils.encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    public = private(kind).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(der, digest, ec.ECDSA(utils.Prehashed(DIGEST[kind])))


def opensc_signature(folder: Path, mechanism: str, data: bytes = b"message") -> bytes:
    said, signed = folder / "message", folder / "signature"
    said.write_bytes(data)
    files = ("--input-file", str(said), "--output-file", str(signed))
    run("pkcs11-tool", "--login", "--pin", "123456", "--id", "01", "--sign", "--mechanism", mechanism, *files)
    return signed.read_bytes()


def test_opensc_counts_the_tries(readers: list[Reader]) -> None:
    applet = piv()
    readers[0].insert(Card(applet, atr=YUBIKEY_ATR))
    for left in (2, 1, 0):
        said = run("pkcs11-tool", "--login", "--pin", "654321", "--list-objects", status=1)
        assert ("CKR_PIN_INCORRECT" if left else "CKR_PIN_LOCKED") in said
        assert applet.tries_left == left
    assert "CKR_PIN_LOCKED" in run("pkcs11-tool", "--login", "--pin", "123456", "--list-objects", status=1)


def test_opensc_finds_the_cards_in_their_readers(readers: list[Reader]) -> None:
    readers[1].insert(Card())
    readers[2].insert(Card(piv()))
    assert readers[2].name in run("pkcs11-tool", "--list-token-slots")
    readers[2].remove()
    assert "No slots" in run("pkcs11-tool", "--list-token-slots", status=1)


def test_a_card_leaves_between_pin_and_signature(readers: list[Reader], tmp_path: Path) -> None:
    card, another = Card(piv("rsa2048")), Card(piv("rsa2048"))
    card.faults.before[GENERAL_AUTHENTICATE] = lambda command: readers[0].remove(wait=False)
    readers[0].insert(card)
    with pytest.raises(AssertionError, match="CKR_"):
        opensc_signature(tmp_path, "SHA256-RSA-PKCS")
    assert len(card.commands(VERIFY)) >= 1

    def swap(command: object) -> None:
        readers[0].swap(another, unseen=True)

    card.faults.before[GENERAL_AUTHENTICATE] = swap
    readers[0].insert(card)
    with pytest.raises(AssertionError, match="CKR_"):
        opensc_signature(tmp_path, "SHA256-RSA-PKCS")
    assert another.commands(GENERAL_AUTHENTICATE)[0].answer.hex() == "6d00"


def test_the_certificate_object_is_what_the_standard_says() -> None:
    assert certificate_object(b"DER").hex() == "7003444552" + "710100" + "fe00"
    assert tlv(0x5F2F, bytes(0x80))[:4].hex() == "5f2f8180"
    assert tlv(0x53, bytes(0x1234))[:4].hex() == "53821234"
