"""What pam_p11 and pam_pkcs11 keep of smartcards, and what is made of it."""

from __future__ import annotations

from typing import Any

import ca
import pytest
from ca import Authority, new_key, pem, spki
from cryptography import x509
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from pam_mfa.factors.piv import pinned
from pam_mfa.importers import pam_p11, pam_pkcs11
from pam_mfa.importers.base import Entry, Pinned, without_doubles
from pam_mfa.importers.certificate import certificates, one_line

ROOT = Authority.root()
ALICE, BOB = ROOT.leaf("alice"), ROOT.leaf("bob", key=ca.old_key("rsa-2048"))


def ssh(key: Any) -> str:
    line: str = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return line


def keys(entries: list[Entry]) -> list[bytes | None]:
    return [entry.imported.public_key if entry.imported else None for entry in entries]


# ---------------------------------------------------------------------------------------------------------- pam_p11


def test_authorized_certificates() -> None:
    data = b"# mine\n" + pem(ALICE.certificate) + b"\n" + pem(BOB.certificate).replace(b"\n", b"\r\n")
    one, two = pam_p11.parse(data, "alice")
    until = ALICE.certificate.not_valid_after_utc.date().isoformat()
    shown = ("CN=alice,O=Example", "CN=Root,O=Example", f"{ALICE.serial:x}", until)
    assert one == Entry(2, "alice", Pinned("alice", spki(ALICE.certificate), "p-256", *shown))
    assert one.imported
    assert one.imported.identity == pinned(spki(ALICE.certificate))
    assert (two.line, two.imported and two.imported.algorithm) == (3 + pem(ALICE.certificate).count(b"\n"), "rsa-2048")


def test_one_certificate_in_der() -> None:
    (entry,) = pam_p11.parse(ca.der(BOB.certificate)[0], "bob")
    assert keys([entry]) == [spki(BOB.certificate)]


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-4096", "p-256", "p-384"])
@pytest.mark.parametrize("form", ["{}", "{} alice@host", 'command="a b",no-pty {} x', "\t{}"])
def test_authorized_keys(kind: str, form: str) -> None:
    key = ca.old_key(kind)
    (entry,) = pam_p11.parse(("# c\n\n" + form.format(ssh(key)) + "\n").encode(), "alice")
    expected = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (entry.line, keys([entry])) == (3, [expected])
    assert entry.note == pam_p11.ON_CARD


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ssh(new_key("ed25519")).encode(), "not of a kind that PIV cards have"),
        (ssh(ca.old_key("rsa-1024")).encode(), "of a kind that pam-mfa does not take"),
        (b"sk-ssh-ed25519@openssh.com AAAA", "not of a kind that PIV cards have"),
        (b"ssh-rsa AAAA", "damaged"),
        (b"ssh-rsa A", "not base64"),
        (b"ssh-rsa AAAAB3NzaC1yc2E=", "damaged"),
        (b"hello", "neither"),
        (b"ssh-rsa " + b"A" * 70000, "longer than"),
        (pem(ALICE.certificate)[:-30], "whole"),
        (pem(ALICE.certificate).replace(b"M", b"!", 1), "base64"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        (b"-----BEGIN CERTIFICATE-----" + b"A" * 70000 + b"-----END CERTIFICATE-----\n", "too large"),
        (b"\x30" * 20000, "too large"),
        (b"\x30\x03abc", "not a certificate"),
        (pem(ROOT.leaf(key=ca.old_key("rsa-1024")).certificate), "of a kind that pam-mfa does not take"),
    ],
    ids=[str(number) for number in range(15)],
)
def test_what_cannot_be_taken(data: bytes, said: str) -> None:
    (entry,) = pam_p11.parse(data, "alice")
    assert entry.imported is None
    assert said in entry.why


def test_a_file_does_not_say_whose_it_is() -> None:
    for data in (pem(ALICE.certificate), ssh(ALICE.key).encode()):
        (entry,) = pam_p11.parse(data, None)
        assert entry.why == "the file does not say whose it is: add --user"


def test_the_same_key_by_two_certificates_is_one() -> None:
    renewed = ROOT.leaf("alice", key=ALICE.key)
    entries = without_doubles(pam_p11.parse(pem(ALICE.certificate, renewed.certificate), "alice"))
    assert [entry.why for entry in entries] == ["", "the same key again, line 1"]


# ------------------------------------------------------------------------------------------------------- pam_pkcs11


def known(*more: x509.Certificate) -> list[pam_pkcs11.Issued]:
    return pam_pkcs11.issued(certificates(pem(ALICE.certificate, BOB.certificate, *more)))


def colons(data: bytes) -> str:
    return data.hex(":").upper()


@pytest.mark.parametrize(
    ("hash_", "weak"), [(MD5(), True), (SHA1(), True), (SHA256(), False), (SHA384(), False), (SHA512(), False)]
)
@pytest.mark.parametrize("form", ["{hex}", "{name}:{hex}", "{name} {hex}"])
def test_a_digest(hash_: Any, weak: bool, form: str) -> None:
    digest = colons(ALICE.certificate.fingerprint(hash_))
    text = form.format(hex=digest, name=hash_.name.upper()) + " -> alice"
    (entry,) = pam_pkcs11.parse(text.encode(), known())
    assert keys([entry]) == [spki(ALICE.certificate)]
    assert entry.user == "alice"
    assert ("weak" in entry.note) is weak


@pytest.mark.parametrize(
    "subject", ["/O=Example/CN=alice", "CN=alice,O=Example", "O=Example,CN=alice", "CN=alice, O=Example"]
)
def test_a_subject(subject: str) -> None:
    (entry,) = pam_pkcs11.parse(f"{subject} -> alice\n".encode(), known())
    assert keys([entry]) == [spki(ALICE.certificate)]
    assert entry.note.startswith("its key counts")


def test_a_subject_as_openssl_writes_it() -> None:
    parts = [(NameOID.COUNTRY_NAME, "NL"), (NameOID.COMMON_NAME, "a/b"), (NameOID.EMAIL_ADDRESS, "a@example.org")]
    parts += [(NameOID.SERIAL_NUMBER, "7"), (NameOID.USER_ID, "alice"), (NameOID.GIVEN_NAME, "Al")]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    assert one_line(name) == "/C=NL/CN=a/b/emailAddress=a@example.org/serialNumber=7/UID=alice/GN=Al"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{'00:' * 19}00 -> alice", "no such certificate"),
        ("/O=Example/CN=mallory -> alice", "no such certificate"),
        ("/O=Example/CN=ALICE -> alice", "no such certificate"),
        (f"SHA256:{'00:' * 19}00 -> alice", "another length"),
        ("00:11:22 -> alice", "another length"),
        ("^CN=.*$ -> alice", "a pattern"),
        ("/O=Example/CN=alice", "not a line of a map file"),
        ("-> alice", "not a line of a map file"),
        ("/O=Example/CN=alice -> ../alice", "no user name"),
        ("/O=Example/CN=alice -> ", "no user name"),
        ("/O=Example/CN=al\x00ice -> alice", "printable"),
    ],
)
def test_lines_that_say_nothing(line: str, said: str) -> None:
    (entry,) = pam_pkcs11.parse(line.encode(), known())
    assert entry.imported is None
    assert said in entry.why


def test_several_certificates_of_one_subject() -> None:
    line = b"/O=Example/CN=alice -> alice"
    (entry,) = pam_pkcs11.parse(line, known(ROOT.leaf("alice", key=ALICE.key).certificate))
    assert keys([entry]) == [spki(ALICE.certificate)]
    (entry,) = pam_pkcs11.parse(line, known(ROOT.leaf("alice").certificate))
    assert "several of the certificates" in entry.why


def test_a_file_of_one_user() -> None:
    data = b"# map\n\n/O=Example/CN=alice -> alice\n/O=Example/CN=bob -> bob\n"
    entries = pam_pkcs11.parse(data, known(), "alice")
    assert [(entry.line, entry.user, entry.imported is not None) for entry in entries] == [
        (3, "alice", True),
        (4, "bob", False),
    ]


def test_what_is_no_certificate_is_left_out() -> None:
    assert pam_pkcs11.issued(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")) == []
    assert pam_pkcs11.issued(certificates(b"nothing at all")) == []
