"""authorized_keys, read for its security keys: what is taken over, and what a line says of touch and verification."""

from __future__ import annotations

import pytest
from ssh_keys import KINDS, blob, certificate, shown

from pam_mfa.factors.ssh_public import ECDSA
from pam_mfa.importers.authorized_keys import PLAIN, TOUCHED, UNTOUCHED, parse
from pam_mfa.importers.base import Entry, Presented, without_doubles

KEY = shown(blob())


def one(line: str, allow: bool = False, user: str | None = "alice") -> Entry:
    (entry,) = parse(line.encode(), user, allow)
    return entry


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form",
    [
        "{}", "{} me@host", "{}\tme and more", "  {}", "\t{}\r", "no-pty {}", 'command="echo \\"a b\\"" {}',
        'from="10.0.0.1,*.example.org",no-pty {} x', 'command="ssh-rsa AAAA no-touch-required" {}',
        'environment="A=,no-touch-required,",no-pty {}', "restrict,touch-required {}", 'principals="a\\"b" {}',
    ],
)  # fmt: skip
def test_a_line_with_a_key(kind: bytes, form: str) -> None:
    (entry,) = parse(f"# c\n\n   # d\n{form.format(shown(blob(kind)))}\n".encode(), "alice")
    assert entry == Entry(4, "alice", Presented("alice", blob(kind)))


def test_what_is_shown() -> None:
    entry = one(shown(blob(ECDSA, b"ssh:work")))
    assert entry.imported
    shows = entry.imported.shown()
    assert (shows["algorithm"], shows["application"]) == ("ecdsa-sk", "ssh:work")
    assert shows["fingerprint"].startswith("SHA256:")
    assert entry.imported.kind == ECDSA.decode()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "verified"),
    [
        ("verify-required", True),
        ("no-pty,Verify-Required", True),
        ('command="x",verify-required', True),
        ("verify-required,no-verify-required", False),
        ("no-verify-required,verify-required", True),
        ('command="a,verify-required,b"', False),
        ("verify-required-not", False),
    ],
)
def test_verify_required_is_kept(options: str, verified: bool) -> None:
    entry = one(f"{options} {KEY}")
    assert entry.imported == Presented("alice", blob(), verified)


@pytest.mark.parametrize(
    "options",
    [
        "no-touch-required",
        "NO-TOUCH-REQUIRED,no-pty",
        'command="a b",no-touch-required',
        "touch-required,no-touch-required",
    ],
)
def test_no_touch_required_is_refused_unless_told(options: str) -> None:
    assert one(f"{options} {KEY}") == Entry(1, "alice", why=UNTOUCHED)
    assert one(f"{options} {KEY}", allow=True) == Entry(1, "alice", Presented("alice", blob()), note=TOUCHED)


def test_the_last_word_on_touch_counts() -> None:
    assert one(f"no-touch-required,touch-required {KEY}").imported


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ssh-ed25519 AAAA", PLAIN),
        ("no-pty ecdsa-sha2-nistp256 AAAA x", PLAIN),
        ("webauthn-sk-ecdsa-sha2-nistp256@openssh.com AAAA", PLAIN),
        (shown(certificate()), "of a certificate"),
        (f"cert-authority {KEY}", "of a certificate"),
        (f'cert-authority,principals="a" {KEY}', "of a certificate"),
        (KEY[:-8], "damaged"),
        (KEY + "A===", "damaged"),
        (shown(blob() + b"x"), "damaged"),
        (shown(blob(point=bytes(32))), "damaged"),
        (KEY.partition(" ")[0], "not a line"),
        ("hello", "not a line"),
        ("hello world", "not a line"),
        (f'command="never ends {KEY}', "not a line"),
        (f"no-pty, {KEY} é", "printable"),
        (KEY + " " + "A" * 70000, "longer than"),
    ],
    ids=range(16),
)
def test_why_not(line: str, why: str) -> None:
    entry = one(line)
    assert entry.imported is None
    assert why in entry.why


def test_whose_it_is_has_to_be_said() -> None:
    assert "--user" in one(KEY, user=None).why
    assert "no user name" in one(KEY, user="-x").why


def test_a_key_twice_is_taken_once() -> None:
    first, again = without_doubles(parse(f"{KEY} a\nverify-required {KEY} b\n".encode(), "alice"))
    assert first.imported
    assert again.why == "the same key again, line 1"
