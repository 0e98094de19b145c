"""What OpenSSH, SSSD and FreeIPA keep of keys, and what is made of it."""

from __future__ import annotations

import pytest
from key_files import ED, HANDLE, LDIF, P256, PARTIES, PASSKEY, POINT, b64, kind, spki_of, ssh_key, ssh_public, text

from pam_mfa.factors import ssh_public as sk
from pam_mfa.importers import base, pam_u2f, passkey, publickey, sshkey
from pam_mfa.importers.base import Entry

# ---------------------------------------------------------------------------------------------------- SSH


@pytest.mark.parametrize(
    ("kind", "cose"),
    [(sk.ECDSA, publickey.es256(POINT)), (sk.ED25519, publickey.eddsa(ED.public_bytes_raw()))],
    ids=kind,
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_ssh_key(kind: bytes, cose: bytes, end: bytes) -> None:
    data = ssh_key(ssh_public(kind), sshkey.PRESENCE | sshkey.VERIFICATION | sshkey.RESIDENT).replace(b"\n", end)
    (entry,) = pam_u2f.parse(data, PARTIES, "alice")
    assert entry.imported == base.Imported(
        "alice", "ssh:", HANDLE, cose, "eddsa" if kind == sk.ED25519 else "es256", verified=True, discoverable=True
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ssh_key(cipher=b"aes256-ctr"), "passphrase"),
        (ssh_key(count=2), "more than one"),
        (ssh_key(check=b"abcdabce"), "damaged"),
        (ssh_key(text(b"ssh-ed25519") + text(b"x" * 32)), "not an SSH key of a security key"),
        (ssh_key(text(sk.ECDSA) + text(b"nistp384") + text(POINT)), "another curve"),
        (ssh_key(text(sk.ECDSA) + text(b"nistp256") + text(POINT[:-1])), "twice 32"),
        (ssh_key(application=b""), "relying party"),
        (ssh_key(application=b"ssh:\n"), "relying party"),
        (ssh_key()[:-20], "whole"),
        (ssh_key() + b"alice:x", "whole"),
        (sshkey.HEAD + b"\n====\n" + sshkey.TAIL, "base64"),
        (sshkey.HEAD + b"\nAAAA\n" + sshkey.TAIL, "version"),
        (sshkey.HEAD + b64(sshkey.MAGIC + b"\xff" * 9).encode() + sshkey.TAIL, "damaged"),
        (sshkey.HEAD + b"A" * 20000 + sshkey.TAIL, "whole"),
    ],
    ids=kind,
)
def test_an_ssh_key_that_cannot_be_taken_over(data: bytes, said: str) -> None:
    (entry,) = pam_u2f.parse(data, PARTIES, "alice")
    assert said in entry.why


def test_an_ssh_key_does_not_say_whose_it_is() -> None:
    (entry,) = pam_u2f.parse(ssh_key(), PARTIES)
    assert "--user" in entry.why


# --------------------------------------------------------------------------------------------------- passkeys


def passkeys(data: str, user: str | None = None) -> list[Entry]:
    return passkey.parse(data.encode(), "ipa.example", user)


def test_a_passkey_mapping() -> None:
    (entry,) = passkeys(PASSKEY, "alice")
    assert entry.imported == base.Imported("alice", "ipa.example", HANDLE, publickey.es256(POINT), "es256")


def test_a_discoverable_passkey_mapping() -> None:
    (entry,) = passkeys(f"{PASSKEY},{b64(b'who')}", "alice")
    assert isinstance(entry.imported, base.Imported)
    assert entry.imported.discoverable
    assert entry.imported.user_handle == b"who"


def test_a_passkey_mapping_with_a_pem_around_its_key() -> None:
    key = f"-----BEGIN PUBLIC KEY-----\\n{b64(spki_of(P256))}\\n-----END PUBLIC KEY-----\\n"
    (entry,) = passkeys(f"passkey:{b64(HANDLE)},{key}", "alice")
    assert entry.imported is not None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ldif(end: str) -> None:
    entries = passkeys(LDIF.replace("\n", end))
    assert [(e.line, e.user, e.why) for e in entries] == [
        (8, "alice", ""),
        (11, "alice", ""),
        (14, "bob", "not a passkey mapping: passkey:CREDENTIAL,KEY"),
        (15, "bob", ""),
    ]
    assert [e.imported.algorithm for e in entries if e.imported] == ["es256", "eddsa", "es256"]
    assert [e.imported is None for e in passkeys(LDIF, "bob")] == [True, True, True, False]


def test_the_owner_may_stand_in_the_dn_alone() -> None:
    (entry,) = passkeys(f"dn: UID=carol,dc=ipa\nipapasskey;x-opt: {PASSKEY}")
    assert (entry.user, entry.why) == ("carol", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("passkey:", "CREDENTIAL"),
        (f"passkey:{b64(HANDLE)}", "CREDENTIAL"),
        (f"{PASSKEY},,", "CREDENTIAL"),
        ("passkey:!,!", "not base64"),
        (f"passkey:,{b64(spki_of(P256))}", "1 to 1023"),
        (f"passkey:{b64(HANDLE)},{b64(POINT[1:])}", "old mapping"),
        (f"passkey:{b64(HANDLE)},{b64(spki_of(P256) + b'x')}", "public key"),
        (f"{PASSKEY},{b64(b'x' * 65)}", "at most 64"),
        ("ipaPassKey: x", "not a passkey"),
        ("hello", "neither"),
        ("passkey:" + "A" * 70000, "longer"),
        ("passkey:" + "\n AAAA" * 20000, "longer"),
        ("passkey:\x00", "printable"),
    ],
    ids=kind,
)
def test_why_not_a_passkey(data: str, said: str) -> None:
    (entry,) = passkeys(data, "alice")
    assert said in entry.why


def test_a_mapping_that_does_not_say_whose_it_is() -> None:
    (entry,) = passkeys(PASSKEY)
    assert "--user" in entry.why
