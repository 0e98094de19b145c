"""Rules as they stand in the settings: what they inherit, and each refusal of what stands there."""

from __future__ import annotations

import pytest

from pam_mfa import config
from pam_mfa.errors import ConfigError
from pam_mfa.rules import LocalKey, Rule, Subject, Unenrolled

FACTORS = ("fido2", "totp", "recovery")
SERVICE = "is not a PAM service name: 1 to 64 of a-z 0-9 _ . @ - (PAM has them in lower case), * or ?"
NETWORK = "is not a network, for example 192.0.2.0/24 or 2001:db8::/32"
NOBODY = "empty: a rule for nobody; leave the key out for everybody"
WHO = "is not the name of a user or group"
ONLY_NOT = "only says whom the rule is not for: name at least one whom it is for"
TITLE = "must be a text of 1 to 64 of A-Z a-z 0-9 space _ . @ + -, and no number, nor policy"


def test_a_rule_overrides_the_policy_key_by_key() -> None:
    settings = config.parse(
        """
        [policy]
        unenrolled = "allow"
        subject = "caller"
        exempt = true
        [[rule]]
        methods = ["recovery", "totp"]
        subject = "user"
        [[rule]]
        name = "second"
        unenrolled = "deny"
        local_key = "always"
        [[rule]]
        """,
        FACTORS,
    )
    first, second, third = settings.rules
    assert first == Rule(("recovery", "totp"), Unenrolled.ALLOW, name="1")
    assert second == Rule(subject=Subject.CALLER, local_key=LocalKey.ALWAYS, name="second")
    assert third == Rule(unenrolled=Unenrolled.ALLOW, subject=Subject.CALLER, name="3")


def test_no_rule_inherits_that_nothing_is_asked() -> None:
    settings = config.parse("policy.exempt = true\nrule = [{}, {exempt = true}, {exempt = false}]", FACTORS)
    assert [settings.policy.exempt, *(rule.exempt for rule in settings.rules)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # what a rule is
        ("rule = ['sshd']", "rule[0]: a text; must be a table"),
        ("rule = 1", "rule: must be at most 256 tables: [[rule]]"),
        ("[rule]", "rule: must be at most 256 tables: [[rule]]"),
        ("rule = [" + "{}," * 257 + "]", "rule: must be at most 256 tables: [[rule]]"),
        ("rule = [{unenrolled = 'ALLOW'}]", 'rule[0].unenrolled: "ALLOW"; one of: deny, allow'),
        ("rule = [{}, {methods = ['totp', 'otp']}]", 'rule[1].methods[1]: unknown method "otp"; one of: '
         "fido2, totp, recovery"),
        # whom a rule is for
        ("rule = [{services = 'sshd'}]", "rule[0].services: a text; must be a list of texts"),
        ("rule = [{services = ['']}]", f'rule[0].services[0]: "" {SERVICE}'),
        ("rule = [{services = ['SSHD']}]", f'rule[0].services[0]: "SSHD" {SERVICE}'),
        ("rule = [{services = ['a', '../sshd']}]", f'rule[0].services[1]: "../sshd" {SERVICE}'),
        ("rule = [{services = ['[s]shd']}]", f'rule[0].services[0]: "[s]shd" {SERVICE}'),
        ("rule = [{services = ['sshd ']}]", f'rule[0].services[0]: "sshd " {SERVICE}'),
        ("rule = [{services = ['ſshd']}]", f'rule[0].services[0]: "\\u017fshd" {SERVICE}'),
        (f"rule = [{{services = ['{'a' * 65}']}}]", f'rule[0].services[0]: "{"a" * 64}..." {SERVICE}'),
        *((f"rule = [{{{key} = []}}]", f"rule[0].{key}: {NOBODY}") for key in (
            "services", "users", "groups", "networks")),
        ("rule = [{groups = ['']}]", f'rule[0].groups[0]: "" {WHO}'),
        ("rule = [{groups = ['!', 'a']}]", f'rule[0].groups[0]: "!" {WHO}'),
        ("rule = [{groups = ['a', ' ']}]", f'rule[0].groups[1]: " " {WHO}'),
        ("rule = [{groups = ['wheel ']}]", f'rule[0].groups[0]: "wheel " {WHO}'),
        ("rule = [{groups = ['a:b']}]", f'rule[0].groups[0]: "a:b" {WHO}'),
        ('rule = [{users = ["a\\nb"]}]', f'rule[0].users[0]: "a\\nb" {WHO}'),
        ("rule = [{users = ['a', 'a']}]", 'rule[0].users[1]: "a" is named twice'),
        ("rule = [{users = ['!a']}]", f"rule[0].users: {ONLY_NOT}"),
        ("rule = [{groups = ['!a', '!b']}]", f"rule[0].groups: {ONLY_NOT}"),
        ("rule = [{networks = ['192.0.2.1/24']}]", f'rule[0].networks[0]: "192.0.2.1/24" {NETWORK}'),
        ("rule = [{networks = ['example.org']}]", f'rule[0].networks[0]: "example.org" {NETWORK}'),
        ("rule = [{networks = ['::1', 'localhost']}]", f'rule[0].networks[1]: "localhost" {NETWORK}'),
        ("rule = [{networks = ['10']}]", f'rule[0].networks[0]: "10" {NETWORK}'),
        ("rule = [{networks = ['::ffff:192.0.2.0/120']}]", f'rule[0].networks[0]: "::ffff:192.0.2.0/120" {NETWORK}'),
        ("rule = [{networks = ['fe80::%eth0/64']}]", f'rule[0].networks[0]: "fe80::%eth0/64" {NETWORK}'),
        ("rule = [{networks = [10]}]", "rule[0].networks[0]: a number; must be a text"),
        ("rule = [{session = 'ssh'}]", 'rule[0].session: "ssh"; one of: local, remote'),
        ("rule = [{session = true}]", "rule[0].session: a boolean; one of: local, remote"),
        # what a rule is called
        ("rule = [{name = ''}]", f"rule[0].name: {TITLE}"),
        ("rule = [{name = '2'}]", f"rule[0].name: {TITLE}"),
        ("rule = [{name = 'policy'}]", f"rule[0].name: {TITLE}"),
        ("rule = [{name = 3}]", f"rule[0].name: {TITLE}"),
        ('rule = [{name = "a\\nb"}]', f"rule[0].name: {TITLE}"),
        ("rule = [{name = 'a'}, {name = 'a'}]", 'rule[1].name: "a" is the name of another rule'),
    ],
)  # fmt: skip
def test_refused_by_key_path(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, FACTORS)
    assert caught.value.problems == [problem]
