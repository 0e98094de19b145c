"""`pam-mfa policy check`: rules that no login reaches, and rules that contradict themselves."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings as tried, strategies as st

from pam_mfa.cli.exits import Exit
from pam_mfa.cli.main import main
from pam_mfa.cli.review import WITHIN, implies, review
from pam_mfa.config import parse
from pam_mfa.origin import Origin
from pam_mfa.policy import Facts, conditions
from pam_mfa.rules import MATCH_KEYS, Match, RuleFields, Session

FACTORS = ("fido2", "totp", "recovery")
SHIPPED = Path(__file__).resolve().parents[3] / "packaging/config.toml"


def odd(text: str) -> list[tuple[str, str]]:
    found = review(parse(text, FACTORS), tomllib.loads(text).get("rule", []))
    return [(each.state, each.found) for each in found]


def match(text: str) -> Match:
    (rule,) = parse(f"[[rule]]\n{text}", FACTORS).rules
    return rule.match


# ------------------------------------------------------------------------------------------ unreachable


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("", ""),
        ("services = ['sudo']", ""),
        ("services = ['sudo']", "services = ['su', 'sudo']"),
        ("services = ['sudo']", "services = ['su*']"),
        ("services = ['su?o', 'su*']", "services = ['s*', 'x']"),
        ("services = ['sudo']", "services = ['*']"),
        ("users = ['alice']", "users = ['alice', 'bob', '!carol']"),
        ("users = ['alice', 'bob', '!bob']", "users = ['alice']"),
        ("groups = ['a', '!c']", "groups = ['a', 'b', '!c']"),
        ("networks = ['10.1.0.0/16']", "networks = ['10.0.0.0/8', '::/0']"),
        ("networks = ['10.0.0.0/8']", "networks = ['10.0.0.0/9', '10.128.0.0/9']"),
        ("session = 'local'\nusers = ['alice']", "session = 'local'"),
    ],
)
def test_a_rule_that_another_one_hides(narrow: str, wide: str) -> None:
    assert implies(match(narrow), match(wide))
    state, found = odd(f"[[rule]]\nname = 'wide'\n{wide}\n[[rule]]\nname = 'narrow'\n{narrow}")[0]
    assert state == "unreachable"
    assert 'rule "wide"' in found


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("", "services = ['sudo']"),
        ("services = ['su*']", "services = ['sudo']"),
        ("services = ['sudo*']", "services = ['sudo']"),
        ("services = ['*']", "services = ['?*']"),
        ("services = ['?']", "services = ['a']"),
        ("services = ['sudo', 'sshd']", "services = ['su*']"),
        ("users = ['alice']", "groups = ['alice']"),
        ("users = ['alice', 'bob']", "users = ['alice']"),
        ("users = ['alice', 'bob']", "users = ['alice', 'bob', '!bob']"),
        ("groups = ['a']", "groups = ['a', '!b']"),
        ("groups = ['a', 'b']", "groups = ['a']"),
        ("networks = ['10.0.0.0/8']", "networks = ['10.1.0.0/16']"),
        ("networks = ['10.0.0.0/8']", "networks = ['::/0']"),
        ("session = 'local'", "session = 'remote'"),
    ],
)
def test_a_rule_that_is_reached(narrow: str, wide: str) -> None:
    assert not implies(match(narrow), match(wide))


names = st.lists(st.sampled_from(["a", "b", "!a", "!b", "c"]), max_size=3, unique=True).map(tuple)
matches = st.builds(
    Match,
    services=st.lists(st.text("ab*?", min_size=1, max_size=4), max_size=2).map(tuple),
    users=names,
    groups=names,
    networks=st.lists(
        st.sampled_from(["10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "::/0"]), max_size=2, unique=True
    ).map(lambda texts: RuleFields(FACTORS)._networks("", texts, ())),
    session=st.sampled_from([None, *Session]),
)
facts = st.builds(
    Facts,
    service=st.text("ab", max_size=5),
    user=st.sampled_from(["a", "b", "c", "d"]),
    rhost=st.sampled_from(["10.0.0.0", "10.0.0.3", "::1", ""]),
    believed=st.just(True),
    groups=st.frozensets(st.sampled_from(["a", "b", "c", "d"])),
    where=st.sampled_from(Origin),
)


@tried(max_examples=2000, deadline=None)
@given(matches, matches, facts)
def test_nothing_that_is_hidden_is_ever_reached(narrow: Match, wide: Match, one: Facts) -> None:
    if implies(narrow, wide) and all(each.holds for each in conditions(narrow, one)):
        assert all(each.holds for each in conditions(wide, one))


# ---------------------------------------------------------------------------------------- contradictory

CREDIT = "sshd_touch_required = true\n[[rule]]\ncredit_ssh_keys = true\n"
KEY = "services = ['sshd']\nfirst_factor = 'publickey'"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("exempt = true\nmethods = ['totp']", "methods has no effect"),
        ("exempt = true\nunenrolled = 'deny'", "unenrolled has no effect"),
        ("users = ['alice', '!alice']", 'users has both "alice" and "!alice"'),
        ("groups = ['a', 'b', '!b']", 'groups has both "b" and "!b"'),
        ("session = 'local'\nnetworks = ['::1']", "session is local: it is for nobody"),
        ("session = 'local'\nservices = ['sshd']", "sshd is always remote"),
        ("services = ['sudo']\nfirst_factor = 'publickey'", "only sshd tells of keys"),
        ("session = 'local'\nfirst_factor = 'publickey'", "it refuses everybody"),
        ("exempt = true\nfirst_factor = 'none'", "nothing proven"),
        ("unenrolled = 'allow'\nfirst_factor = 'none'", "open to everybody"),
        ("enrol_by = 2030-12-31\nfirst_factor = 'none'", "until then"),
        ("enrol_by = 2030-12-31\nunenrolled = 'allow'", "has no end"),
        ("logins_left = 3\nfirst_factor = 'none'", "as often accounts"),
        ("logins_left = 3\nunenrolled = 'allow'", "so logins_left has no effect"),
        ("enrol_at_login = true\nunenrolled = 'allow'", "so enrol_at_login has no effect"),
        ("help = 'Call us'\nunenrolled = 'allow'", "so help has no effect"),
        ("help = 'Call us'\nfirst_factor = 'none'", "help is told nobody"),
        ("enrol_at_login = true\nfirst_factor = 'none'", "nothing was proven before"),
        ("enrol_at_login = true\nmethods = ['fido2', 'recovery']", 'methods has no "totp"'),
        (f"enrol_at_login = true\n{KEY}", 'first_enrolment = "password" and first_factor = "publickey"'),
        ("subject = 'caller'\nnetworks = ['::1']", "was called by nobody here"),
        ("user_verification = 'required'\nmethods = ['totp']", "methods has none"),
        ("methods = ['totp', 'fido2']", "fido2 stands behind a code"),
        ("lease = '10m'\nfirst_factor = 'none'", "lease needs something that was proven before"),
        ("lease = '10m'\nmethods = ['recovery']", "recovery give no lease"),
        ("lease = '10m'\nservices = ['sshd']", "networks is not given"),
        ("lease = '10m'\nservices = ['polkit-1']", "polkit-1 asks where there is none"),
        ("lease = '10m'\nservices = ['gdm-*', 'sddm', 'lightdm-greeter']", "gdm-* asks where there is none"),
        ("lease = '10m'\nexempt = true", "lease has no effect"),
        ("credit_ssh_keys = true", "while sshd_touch_required is false"),
        ("services = ['sudo', 's?']\ncredit_ssh_keys = true", "only sshd tells of keys"),
        ("session = 'local'\ncredit_ssh_keys = true", "session is local"),
    ],
)
def test_a_rule_that_contradicts_itself(rule: str, words: str) -> None:
    ((state, found),) = odd(f"[[rule]]\n{rule}")
    assert state == "contradictory"
    assert words in found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[policy]\nmethods = ['totp']\n[[rule]]\nexempt = true",  # what is inherited is not written
        "[policy]\nuser_verification = 'required'\n[[rule]]\nmethods = ['totp']",
        "[[rule]]\nexempt = true\nservices = ['sshd']\nfirst_factor = 'publickey'",
        f"[[rule]]\n{KEY}\n[[rule]]\nservices = ['ss*']\nfirst_factor = 'publickey'",
        "[[rule]]\nsession = 'local'\nservices = ['sshd', 'login']",
        "[[rule]]\nmethods = ['fido2', 'totp', 'recovery']",
        "[[rule]]\nlease = '10m'\nmethods = ['totp', 'recovery']",
        "[[rule]]\nlease = '10m'\nservices = ['sshd', 'sudo']",
        "[[rule]]\nlease = '10m'\nservices = ['polkit-1', 'sudo']",
        "[[rule]]\nlease = '10m'\nservices = ['g*']",
        "[[rule]]\nlease = '10m'\nservices = ['login']",
        "[policy]\nsubject = 'caller'\nenrol_at_login = true",
        "[[rule]]\nlease = '10m'\nservices = ['sshd']\nnetworks = ['192.0.2.0/24']",
        "[policy]\nlease = '10m'",
        "[policy]\nenrol_by = 2030-12-31\nlogins_left = 3\nenrol_at_login = true\nhelp = 'Call us'\n"
        "[[rule]]\nunenrolled = 'allow'",
        "[policy]\nenrol_at_login = true\nhelp = 'Call us'\n[[rule]]\nfirst_factor = 'none'",
        "[policy]\nenrol_at_login = true\n[[rule]]\nlogins_left = 0\nenrol_at_login = false\nmethods = ['fido2']",
        f"first_enrolment = 'self'\n[[rule]]\nenrol_at_login = true\n{KEY}",
        "sshd_touch_required = true\n[policy]\ncredit_ssh_keys = true\n[[rule]]\nservices = ['sudo']",
        f"{CREDIT}services = ['s*']",
        "[[rule]]\nservices = ['sudo']\ncredit_ssh_keys = false",
        f"{CREDIT}methods = ['totp']\nuser_verification = 'required'",
    ],
)
def test_a_rule_that_does_not(text: str) -> None:
    assert odd(text) == []


def test_the_policy_gives_credit_that_nobody_gets() -> None:
    ((state, found),) = odd("[policy]\ncredit_ssh_keys = true\n[[rule]]\nservices = ['sudo']")
    assert (state, "sshd_touch_required is false" in found) == ("contradictory", True)


def test_the_policy_contradicts_itself_too() -> None:
    ((state, found),) = odd("[policy]\nunenrolled = 'allow'\nfirst_factor = 'none'")
    assert (state, "open to everybody" in found) == ("contradictory", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[policy]\nenrol_at_login = true\nmethods = ['fido2']", 'no "totp"'),
        ("[policy]\nlogins_left = 2\nunenrolled = 'allow'", "so logins_left"),
    ],
)
def test_the_policy_rolls_nothing_out(text: str, words: str) -> None:
    ((state, found),) = odd(text)
    assert (state, words in found) == ("contradictory", True)


# ---------------------------------------------------------------------------------------------- command


def test_the_shipped_settings_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(SHIPPED)]) == Exit.DONE
    assert capsys.readouterr().out == "Nothing odd in 2 rules.\n"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[[rule]]\n[[rule]]\nname = 'second'\n")
    assert main(["policy", "check", str(file)]) == Exit.WARNINGS
    assert capsys.readouterr().out.startswith('unreachable: rule "second": rule "1" comes first')
    assert main(["policy", "check", "--json", str(file)]) == Exit.WARNINGS
    record = json.loads(capsys.readouterr().out)
    assert (record["kind"], record["rule"], record["state"]) == ("odd", "second", "unreachable")


def test_settings_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    assert main(["policy", "check", str(file)]) == Exit.NOT_FOUND
    file.write_text("[[rule]]\nuser = 'a'\n[policy]\nmethods = 3\n")
    assert main(["policy", "check", str(file)]) == Exit.USAGE
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["policy.methods", "rule[0].user"]


def test_every_condition_has_its_implication() -> None:
    assert tuple(WITHIN) == MATCH_KEYS
