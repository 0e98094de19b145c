"""Key paths, and texts that keep their comments."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pam_mfa.cli import settings_path
from pam_mfa.errors import RefusedError

SHIPPED = (Path(__file__).resolve().parents[3] / "packaging/config.toml").read_text()
TEXT = """# top
fail_delay = 2.0 # seconds

[policy]
# the preferred one first
#methods = ["fido2"]

# who else
#unenrolled = "deny"

[[rule]]
name = "office"
services = ["ssh*"] # theirs
[[rule]]
services = ["sudo", "su"]
name = "web servers"
"""


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", []), ("policy", ["policy"]), ("policy.methods[1]", ["policy", "methods", "1"]),
        ("rule[web servers].users", ["rule", "web servers", "users"]), ("rule.0.users", ["rule", "0", "users"]),
        ('rule."a.b".c', ["rule", "a.b", "c"]), ("rule[a.b]", ["rule", "a.b"]), ('x.""', ["x", ""]),
    ],
)  # fmt: skip
def test_split(path: str, steps: list[str]) -> None:
    assert settings_path.split(path) == steps


@pytest.mark.parametrize("path", [".", "a.", "a..b", "a b", "a[", "a[]", "a]", '"a', "a[0]b", "\u0661", "a=1"])
def test_no_path(path: str) -> None:
    with pytest.raises(RefusedError, match="is no key"):
        settings_path.split(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fail_delay", 2.0), ("rule[0].services", ["ssh*"]), ("rule[office].services[0]", "ssh*"),
        ("rule[web servers].services[1]", "su"), ('rule."web servers".services.1', "su"),
        ("rule.1.name", "web servers"),
    ],
)  # fmt: skip
def test_get(path: str, value: Any) -> None:
    assert settings_path.get(tomllib.loads(TEXT), path) == value


@pytest.mark.parametrize(
    "path",
    ["no", "policy.methods", "rule[2]", "rule[-1]", "rule[no]", "rule[0].users", "fail_delay.x", "rule[0].name[0]"],
)
def test_nothing_there(path: str) -> None:
    with pytest.raises(RefusedError, match=r"there is no") as caught:
        settings_path.get(tomllib.loads(TEXT), path)
    assert caught.value.code == "not_found"


def test_a_name_that_two_have_is_nobodys() -> None:
    with pytest.raises(RefusedError, match="there is no x"):
        settings_path.get({"rule": [{"name": "x"}, {"name": "x"}]}, "rule[x].name")


@pytest.mark.parametrize(
    ("path", "value", "old", "new"),
    [
        ("fail_delay", 3.5, "fail_delay = 2.0 # seconds", "fail_delay = 3.5 # seconds"),
        ("policy.methods", ["totp"], '#methods = ["fido2"]\n', '#methods = ["fido2"]\nmethods = ["totp"]\n'),
        ("policy.unenrolled", "allow", '#unenrolled = "deny"\n', '#unenrolled = "deny"\nunenrolled = "allow"\n'),
        ("rule[office].services", ["sshd"], '["ssh*"] # theirs', '["sshd"] # theirs'),
        ("rule[1].services[0]", "sudo-i", '["sudo", "su"]', '["sudo-i", "su"]'),
        ("rule[1].services[2]", "login", '["sudo", "su"]', '["sudo", "su", "login"]'),
        ("issuer", "us", "fail_delay = 2.0 # seconds\n", 'fail_delay = 2.0 # seconds\nissuer = "us"\n'),
    ],
)
def test_comments_and_order_stay(path: str, value: Any, old: str, new: str) -> None:
    assert settings_path.with_value(TEXT, path, value) == TEXT.replace(old, new)


def test_tables_are_made_where_they_are_missing() -> None:
    new = settings_path.with_value("a = 1\n", "fido2.rp_id", "example.org")
    assert tomllib.loads(new) == {"a": 1, "fido2": {"rp_id": "example.org"}}


@pytest.mark.parametrize(
    "path", ["rule[2].methods", "rule[no].methods", "rule[5]", "fail_delay.x", "rule[0].services[2]"]
)
def test_no_place_to_set(path: str) -> None:
    with pytest.raises(RefusedError, match="there is no"):
        settings_path.with_value(TEXT, path, "x")


@pytest.mark.parametrize(("path", "value"), [("", "x"), ("policy", {"methods": []})])
def test_one_value_at_a_time(path: str, value: Any) -> None:
    with pytest.raises(RefusedError, match="one value at a time"):
        settings_path.with_value(TEXT, path, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("2.5", 2.5), ('["a", "b"]', ["a", "b"]), ('"10"', "10"), (" 10 ", 10), ("allow", "allow"),
        ("", ""), ("a b", "a b"), ("1\nb = 2", "1\nb = 2"), ('"a" # c', '"a" # c'), ("[1", "[1"), ("'a'", "a"),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    assert settings_path.parse_value(text) == value


KEYS = st.sampled_from(
    ["fail_delay", "issuer", "audit", "policy.methods", "policy.unenrolled", "policy.local_key", "fido2.rp_id",
     "fido2.clone", "smartcard.slots", "new.table.key"]
)  # fmt: skip
VALUES = st.one_of(
    st.booleans(), st.integers(-5, 5), st.text(max_size=8), st.lists(st.sampled_from(["a", "b", '"', "#"]), max_size=3)
)


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4), st.sampled_from([TEXT, SHIPPED, "", "# only this"]))
def test_only_what_is_set_changes(changes: list[tuple[str, Any]], text: str) -> None:
    expected = tomllib.loads(text)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for path, value in changes:
        text = settings_path.with_value(text, path, value)
        inner = expected
        *tables, key = path.split(".")
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[key] = value
    assert tomllib.loads(text) == expected
    assert [line for line in text.splitlines() if line in comments] == comments
