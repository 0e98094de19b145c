"""What pam_u2f, OpenSSH, SSSD and FreeIPA keep of keys, and what is made of it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings, strategies as st

from pam_mfa.importers import base, pam_u2f, passkey, publickey, sshkey
from pam_mfa.importers.base import Entry, Unusable, without_doubles
from pam_mfa.importers.pam_u2f import RelyingParties

PARTIES = RelyingParties("pam://host", "pam://app")
P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
POINT = P256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
ED = ed25519.Ed25519PrivateKey.generate().public_key()
RSA = rsa.generate_private_key(65537, 2048).public_key()
RSA_RAW = RSA.public_numbers().n.to_bytes(256, "big") + b"\x01\x00\x01"
HANDLE = bytes(range(64))
OTHER = bytes(range(64, 128))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def websafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


NEW = f"{b64(HANDLE)},{b64(POINT[1:])},es256,+presence"
OLD = f"{websafe(b'?>' + HANDLE)},{POINT.hex()}"


def mapping(*text: str, user: str | None = None) -> list[Entry]:
    return pam_u2f.parse("\n".join(text).encode(), PARTIES, user)


def one(text: str) -> base.Imported:
    (entry,) = mapping(text)
    assert entry.why == ""
    assert entry.imported is not None
    return entry.imported


def why(text: str) -> str:
    (entry,) = mapping(text)
    assert entry.imported is None
    assert entry.why.isprintable()
    return entry.why


def kind(value: object) -> str:
    """Names a parameter by what it is: its bytes are other ones in every process."""
    return value if isinstance(value, str) and len(value) < 30 else getattr(value, "__name__", type(value).__name__)


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


def spki_of(key: object) -> bytes:
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return der


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
    assert entry.imported is not None
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


# ---------------------------------------------------------------------------------------------------- SSH


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def ssh_public(kind: bytes = sshkey.ES256) -> bytes:
    rest = text(ED.public_bytes_raw()) if kind == sshkey.EDDSA else text(b"nistp256") + text(POINT)
    return text(kind) + rest


def ssh_key(
    public: bytes = b"",
    flags: int = sshkey.PRESENCE,
    application: bytes = b"ssh:",
    cipher: bytes = b"none",
    count: int = 1,
    check: bytes = b"abcdabcd",
) -> bytes:
    """What ssh-keygen -t ecdsa-sk writes (PROTOCOL.key)."""
    public = public or ssh_public()
    inner = check + public + text(application) + bytes([flags]) + text(HANDLE) + text(b"") + text(b"me@host")
    inner += bytes(range(1, 8))[: -len(inner) % 8]
    body = (
        sshkey.MAGIC + text(cipher) + text(b"none") + text(b"") + struct.pack(">I", count) + text(public) + text(inner)
    )
    coded = b64(body)
    wrapped = "\n".join(coded[at : at + 70] for at in range(0, len(coded), 70))
    return sshkey.HEAD + b"\n" + wrapped.encode() + b"\n" + sshkey.TAIL + b"\n"


@pytest.mark.parametrize(
    ("kind", "cose"),
    [(sshkey.ES256, publickey.es256(POINT)), (sshkey.EDDSA, publickey.eddsa(ED.public_bytes_raw()))],
    ids=kind,
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_ssh_key(kind: bytes, cose: bytes, end: bytes) -> None:
    data = ssh_key(ssh_public(kind), sshkey.PRESENCE | sshkey.VERIFICATION | sshkey.RESIDENT).replace(b"\n", end)
    (entry,) = pam_u2f.parse(data, PARTIES, "alice")
    assert entry.imported == base.Imported(
        "alice", "ssh:", HANDLE, cose, "eddsa" if kind == sshkey.EDDSA else "es256", verified=True, discoverable=True
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ssh_key(cipher=b"aes256-ctr"), "passphrase"),
        (ssh_key(count=2), "more than one"),
        (ssh_key(check=b"abcdabce"), "damaged"),
        (ssh_key(text(b"ssh-ed25519") + text(b"x" * 32)), "not an SSH key of a security key"),
        (ssh_key(text(sshkey.ES256) + text(b"nistp384") + text(POINT)), "another curve"),
        (ssh_key(text(sshkey.ES256) + text(b"nistp256") + text(POINT[:-1])), "twice 32"),
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

PASSKEY = f"passkey:{b64(HANDLE)},{b64(spki_of(P256))}"
LDIF = f"""version: 1

# alice, users, accounts, ipa.example
dn: uid=alice,cn=users,cn=accounts,dc=ipa,dc=example
objectClass: top
cn:: w4lsaXNl
uid: alice
ipaPassKey: {PASSKEY[:70]}
 {PASSKEY[70:130]}
 {PASSKEY[130:]}
ipaPassKey:: {b64(f"passkey:{b64(OTHER)},{b64(spki_of(ED))},{b64(b'handle')}".encode())}

dn: CN=Bob,DC=ad,DC=example
altSecurityIdentities: X509:<I>CN=ca<S>CN=bob
altSecurityIdentities: {PASSKEY}
sAMAccountName: bob
"""


def passkeys(data: str, user: str | None = None) -> list[Entry]:
    return passkey.parse(data.encode(), "ipa.example", user)


def test_a_passkey_mapping() -> None:
    (entry,) = passkeys(PASSKEY, "alice")
    assert entry.imported == base.Imported("alice", "ipa.example", HANDLE, publickey.es256(POINT), "es256")


def test_a_discoverable_passkey_mapping() -> None:
    (entry,) = passkeys(f"{PASSKEY},{b64(b'who')}", "alice")
    assert entry.imported is not None
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


# -------------------------------------------------------------------------------------------- hostile bytes

PARSERS: list[Callable[[bytes], list[Entry]]] = [
    lambda data: pam_u2f.parse(data, PARTIES),
    lambda data: pam_u2f.parse(data, PARTIES, "alice"),
    lambda data: passkey.parse(data, "rp"),
    lambda data: passkey.parse(data, "rp", "alice"),
    lambda data: pam_u2f.parse(sshkey.HEAD + data + sshkey.TAIL, PARTIES, "alice"),
    lambda data: pam_u2f.parse(sshkey.HEAD + b64(sshkey.MAGIC + data).encode() + sshkey.TAIL, PARTIES, "alice"),
]
PIECES = [
    b"alice", b":", b",", b"passkey:", b"ipaPassKey: ", b"ipaPassKey:: ", b"dn: uid=", b"\n ", b"\n", b"\r\n", b"*",
    b"=", b64(HANDLE).encode(), b64(POINT).encode(), b64(spki_of(P256)).encode(), POINT.hex().encode(), b"es256",
    b"+pin", b"#", NEW.encode(), PASSKEY.encode(), ssh_public(), text(HANDLE), b"\x00", b"\xff", "\u2028".encode(),
    sshkey.HEAD,
]  # fmt: skip
SOUP = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=30).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(SOUP | st.binary(max_size=2000))
def test_whatever_a_file_holds_it_is_a_report(data: bytes) -> None:
    for parse in PARSERS:
        for entry in parse(data):
            assert (entry.imported is None) == bool(entry.why)
            assert (entry.why + entry.note + entry.user).isprintable()
            assert 1 <= entry.line <= data.count(b"\n") + 1
            if entry.imported:
                assert entry.imported.user == entry.user
                assert 1 <= len(entry.imported.credential_id) <= 1023
                assert len(entry.imported.public_key) < 600


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5000), st.integers(1, 255))
def test_an_ssh_key_with_a_byte_changed_is_refused_or_another_key(at: int, by: int) -> None:
    raw = bytearray(base64.b64decode(b"".join(ssh_key().splitlines()[1:-1])))
    raw[at % len(raw)] ^= by
    (entry,) = pam_u2f.parse(sshkey.HEAD + b64(bytes(raw)).encode() + sshkey.TAIL, PARTIES, "alice")
    if entry.imported:
        assert len(entry.imported.public_key) == 77


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["alice", "bob", "eve"]), st.binary(min_size=1, max_size=1023), st.booleans()),
        max_size=6,
    )
)
def test_what_was_written_is_read(rows: list[tuple[str, bytes, bool]]) -> None:
    written = [f"{user}:{b64(handle)},{b64(POINT[1:])},es256,{'+pin' * pin}" for user, handle, pin in rows]
    entries = mapping(*written)
    last = {user: number for number, (user, _, _) in enumerate(rows, 1)}
    assert [(e.line, e.imported is not None) for e in entries] == [
        (number, last[user] == number) for number, (user, _, _) in enumerate(rows, 1)
    ]
    for entry in entries:
        _, handle, pin = rows[entry.line - 1]
        if entry.imported:
            assert (entry.imported.credential_id, entry.imported.verified) == (handle, pin)


def test_a_huge_file_takes_time_in_proportion() -> None:
    """Many continuation lines, many lines, many keys in a line: nothing here is quadratic."""
    big = b"passkey:" + b"\n A" * 100_000 + b"\nalice:" + b"x," * 20_000 + b"\n" + b":,\n" * 30_000
    for parse in PARSERS[:4]:
        assert parse(big)
