"""Hostile settings: good and strict, or refused with printable problems; nothing else, whatever the text."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import tomlkit
from hypothesis import given, settings, strategies as st

from pam_mfa import config
from pam_mfa.config import Rule, Settings, Unenrolled
from pam_mfa.errors import ConfigError

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
exempt_groups = ["backup"]
user_verification = "preferred"
local_key = "always"
[service.sshd]
methods = ["totp"]
unenrolled = "allow"
exempt_groups = []
[service."polkit-1"]
"""

# Keys and values that nearly fit, so that most of a text is looked at and not refused by its first key.
KEYS = st.sampled_from(
    [*config.TOP_KEYS, *config.FIDO2_KEYS, *config.RULE_KEYS, "sshd", "polkit-1", "SSHD", "", "a b", "\n"]
) | st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(["totp", "recovery", "TOTP", "", "wheel", "\x7f"])
LEAVES = (
    st.sampled_from(
        ["password", "self", "required", "best-effort", "deny", "allow", "warn", "never", "a.org", "Deny", ""]
    )
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-1, 11)
    | st.floats()
    | st.dates()
    | st.text(st.characters(codec="utf-8"), max_size=80)
    | st.lists(NAMES, max_size=4)
)
TABLES = st.dictionaries(KEYS, st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=4)), max_size=6)


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
    for name, rule in [("other", found.policy), *found.services.items()]:
        assert re.fullmatch(r"[a-z0-9_.@-]{1,64}", name)
        assert rule.methods
        assert set(rule.methods) <= set(FACTORS)
        assert len(set(rule.methods)) == len(rule.methods)
        assert type(rule.unenrolled) is Unenrolled
        assert (type(rule.user_verification), type(rule.local_key)) == (config.UserVerification, config.LocalKey)
        assert all(rule.exempt_groups)
        assert found.rule(name) == rule


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
def test_a_rule_is_read_as_it_was_written(methods: list[str], unenrolled: Unenrolled, of_service: bool) -> None:
    table = {"methods": methods, "unenrolled": str(unenrolled), "exempt_groups": ["backup"]}
    text = tomlkit.dumps({"service": {"sudo": table}} if of_service else {"policy": table})
    found = config.parse(text, FACTORS)
    assert found.rule("sudo") == Rule(tuple(methods), unenrolled, frozenset({"backup"}))
    assert found.rule("sshd") == (Rule() if of_service else found.rule("sudo"))


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
