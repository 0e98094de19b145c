"""Hostile files of keys: a report and nothing else, whatever the bytes, in time that grows with their number."""

from __future__ import annotations

import base64
from collections.abc import Callable

from ca import Authority, der, pem
from hypothesis import given, settings, strategies as st
from key_files import HANDLE, NEW, P256, PARTIES, PASSKEY, POINT, b64, spki_of, ssh_key, ssh_public, text
from ssh_keys import blob, certificate, shown

from pam_mfa.importers import authorized_keys, pam_p11, pam_pkcs11, pam_u2f, passkey, sshkey
from pam_mfa.importers.base import Entry, Imported
from pam_mfa.importers.certificate import BEGIN, END, certificates


def mapping(*lines: str) -> list[Entry]:
    return pam_u2f.parse("\n".join(lines).encode(), PARTIES)


LEAF = Authority.root().leaf("alice").certificate
PARSERS: list[Callable[[bytes], list[Entry]]] = [
    lambda data: pam_u2f.parse(data, PARTIES),
    lambda data: pam_u2f.parse(data, PARTIES, "alice"),
    lambda data: pam_p11.parse(data, "alice"),
    lambda data: pam_p11.parse(BEGIN + b64(data).encode() + END, "alice"),
    lambda data: pam_p11.parse(b"\x30" + data, "alice"),
    lambda data: authorized_keys.parse(data, "alice"),
    lambda data: authorized_keys.parse(b"no-touch-required " + data, "alice", allow_no_touch=True),
    lambda data: pam_pkcs11.parse(data, pam_pkcs11.issued(certificates(pem(LEAF)))),
    lambda data: passkey.parse(data, "rp"),
    lambda data: passkey.parse(data, "rp", "alice"),
    lambda data: pam_u2f.parse(sshkey.HEAD + data + sshkey.TAIL, PARTIES, "alice"),
    lambda data: pam_u2f.parse(sshkey.HEAD + b64(sshkey.MAGIC + data).encode() + sshkey.TAIL, PARTIES, "alice"),
]
PIECES = [
    b"alice", b":", b",", b"passkey:", b"ipaPassKey: ", b"ipaPassKey:: ", b"dn: uid=", b"\n ", b"\n", b"\r\n", b"*",
    b"=", b64(HANDLE).encode(), b64(POINT).encode(), b64(spki_of(P256)).encode(), POINT.hex().encode(), b"es256",
    b"+pin", b"#", NEW.encode(), PASSKEY.encode(), ssh_public(), text(HANDLE), b"\x00", b"\xff", "\u2028".encode(),
    sshkey.HEAD, BEGIN, END, pem(LEAF), der(LEAF)[0], b"ssh-rsa ", b"/O=Example/CN=alice", b" -> alice", b"SHA1:",
    shown(blob()).encode(), shown(certificate()).encode(), b'command="', b'"', b"\\", b"verify-required",
]  # fmt: skip
SOUP = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=30).map(b"".join)


@settings(max_examples=2000, deadline=None)
@given(SOUP | st.binary(max_size=2000))
def test_whatever_a_file_holds_it_is_a_report(data: bytes) -> None:
    for parse in PARSERS:
        for entry in parse(data):
            assert (entry.imported is None) == bool(entry.why)
            assert (entry.why + entry.note + entry.user).isprintable()
            assert 1 <= entry.line <= data.count(b"\n") + 1
            if entry.imported:
                assert entry.imported.user == entry.user
                assert not isinstance(entry.imported, Imported) or 1 <= len(entry.imported.credential_id) <= 1023
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
        if isinstance(entry.imported, Imported):
            assert (entry.imported.credential_id, entry.imported.verified) == (handle, pin)


def test_a_huge_file_takes_time_in_proportion() -> None:
    """Many continuation lines, many lines, many keys in a line: nothing here is quadratic."""
    big = b"passkey:" + b"\n A" * 100_000 + b"\nalice:" + b"x," * 20_000 + b"\n" + b":,\n" * 30_000
    for parse in PARSERS[:4]:
        assert parse(big)
