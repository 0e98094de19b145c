"""Hostile settings: good and strict, or refused with printable problems; nothing else, whatever the text."""

from __future__ import annotations

import os
import re
import tempfile
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import tomlkit
from hypothesis import given, settings, strategies as st

from pam_mfa import config, rules
from pam_mfa.config import Settings
from pam_mfa.errors import ConfigError
from pam_mfa.rules import FirstFactor, LocalKey, Rule, Session, Subject, Unenrolled, UserVerification

MANY = settings(max_examples=500, deadline=None)
FACTORS = ("fido2", "smartcard", "totp", "recovery")
GOOD = """\
first_enrolment = "self"
audit = "required"
fail_delay = 2.0
issuer = "Example"
[fido2]
rp_id = "example.org"
synced = "deny"
clone = "warn"
[policy]
methods = ["totp", "recovery"]
unenrolled = "deny"
exempt = false
subject = "user"
user_verification = "preferred"
local_key = "always"
[[rule]]
services = ["sshd", "gdm-*"]
users = ["alice", "!bob"]
methods = ["totp"]
unenrolled = "allow"
[[rule]]
name = "office"
groups = ["staff", "!guests"]
networks = ["192.0.2.0/24", "2001:db8::/32"]
session = "remote"
exempt = true
first_factor = "publickey"
"""

# Keys and values that nearly fit, so that most of a text is looked at and not refused by its first key.
KEYS = st.sampled_from(
    [*config.TOP_KEYS, *config.FIDO2_KEYS, "name", *rules.MATCH_KEYS, *rules.TERM_KEYS, "SSHD", "", "a b", "\n"]
) | st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(
    ["totp", "recovery", "TOTP", "", "wheel", "!wheel", "su*", "::/0", "10.0.0.0/8", "::%a/0", "\x7f"]
)
LEAVES = (
    st.sampled_from(
        ["password", "self", "required", "best-effort", "deny", "allow", "warn", "never", "a.org", "Deny", "local", ""]
    )
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-1, 11)
    | st.floats()
    | st.dates()
    | st.text(st.characters(codec="utf-8"), max_size=80)
    | st.lists(NAMES, max_size=4)
)
TABLES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: (
            st.dictionaries(KEYS, inner, max_size=4) | st.lists(st.dictionaries(KEYS, inner, max_size=4), max_size=2)
        ),
    ),
    max_size=6,
)


def refused_or_sound(text: str) -> None:
    problems: list[str] = []
    try:
        sound(config.parse(text, FACTORS))
    except ConfigError as error:
        problems = error.problems or ["refused without a reason\n"]
    for problem in problems:
        assert re.fullmatch(r"[ -~]{1,600}", problem), problem


def sound(found: Settings) -> None:
    assert type(found.audit_required) is bool
    assert type(found.first_enrolment) is config.FirstEnrolment
    assert type(found.fail_delay_ms) is int
    assert 0 <= found.fail_delay_ms <= 10_000
    assert found.issuer is None or re.fullmatch(r"[^:\x00-\x1f\x7f]{1,64}", found.issuer)
    assert found.fido2.rp_id is None or re.fullmatch(r"[a-z0-9.-]{1,253}", found.fido2.rp_id)
    assert (type(found.fido2.synced), type(found.fido2.clone)) == (config.Synced, config.Clone)
    assert len({rule.name for rule in (found.policy, *found.rules)}) == len(found.rules) + 1
    for rule in (found.policy, *found.rules):
        assert re.fullmatch(r"[A-Za-z0-9 _.@+-]{1,64}", rule.name)
        match = rule.match
        assert all(re.fullmatch(r"[a-z0-9_.@*?-]{1,64}", service) for service in match.services)
        assert all(isinstance(network, IPv4Network | IPv6Network) for network in match.networks)
        for names in (match.users, match.groups):
            assert not names or any(not name.startswith("!") for name in names)
            assert all(name not in ("", "!") for name in names)
        assert match.session is None or type(match.session) is Session
        assert type(rule.exempt) is bool
        assert (type(rule.subject), type(rule.first_factor)) == (Subject, FirstFactor)
        assert rule.methods
        assert set(rule.methods) <= set(FACTORS)
        assert len(set(rule.methods)) == len(rule.methods)
        assert type(rule.unenrolled) is Unenrolled
        assert (type(rule.user_verification), type(rule.local_key)) == (UserVerification, LocalKey)


@MANY
@given(st.text())
def test_any_text(text: str) -> None:
    refused_or_sound(text)


@MANY
@given(st.lists(st.sampled_from([*GOOD.splitlines(), *GOOD.split(), '"', "[", "]", "{", "}", "=", "\n", ".", "'''"])))
def test_parts_of_good_settings_in_any_order(parts: list[str]) -> None:
    refused_or_sound("\n".join(parts))
    refused_or_sound(" ".join(parts))


@MANY
@given(st.data())
def test_good_settings_with_characters_changed(data: st.DataObject) -> None:
    text = list(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from('"[]{}=.,#\n\0 x9-_') | st.characters())
    refused_or_sound("".join(text))


@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_any_tables(tables: dict[str, object]) -> None:
    refused_or_sound(tomlkit.dumps(tables))


@MANY
@given(st.lists(st.sampled_from(FACTORS), min_size=1, unique=True), st.sampled_from(Unenrolled), st.booleans())
def test_a_rule_is_read_as_it_was_written(methods: list[str], unenrolled: Unenrolled, of_rule: bool) -> None:
    table = {"methods": methods, "unenrolled": str(unenrolled), "exempt": True}
    found = config.parse(tomlkit.dumps({"rule": [table]} if of_rule else {"policy": table}), FACTORS)
    written = Rule(tuple(methods), unenrolled, exempt=True, name="1" if of_rule else "policy")
    assert (found.policy, *found.rules) == ((Rule(), written) if of_rule else (written,))


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_any_bytes_in_the_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_bytes(data)
        path.chmod(0o600)
        try:
            text, found = config.load(str(path), FACTORS, os.getuid())
        except ConfigError:
            return
    assert text.encode() == data
    sound(found)
