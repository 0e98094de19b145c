"""The text of the settings file: what each key means, and every refusal by its key path."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from ipaddress import ip_network

import pytest

from pam_mfa import config
from pam_mfa.config import Clone, EnrolFrom, Fido2, FirstEnrolment, Settings, Synced
from pam_mfa.errors import ConfigError
from pam_mfa.rules import FirstFactor, LocalKey, Match, Rule, Session, Subject, Unenrolled, UserVerification

FACTORS = ("fido2", "smartcard", "totp", "recovery")
METHODS = FACTORS


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, FACTORS)
    return caught.value.problems


# ------------------------------------------------------------------------------------------------ values


def test_an_empty_file_gives_the_strict_defaults() -> None:
    settings = config.parse("", FACTORS)
    assert settings == Settings()
    assert settings.policy == Rule(METHODS, Unenrolled.DENY)
    assert settings.rules == ()
    assert settings.first_enrolment is FirstEnrolment.PASSWORD
    assert (settings.policy.user_verification, settings.policy.local_key) == ("discouraged", "auto")
    assert (settings.policy.exempt, settings.policy.subject, settings.policy.first_factor) == (False, "user", "stack")
    assert (settings.audit_required, settings.fail_delay_ms, settings.issuer) == (False, 2000, None)
    assert settings.fido2 == Fido2(None, Synced.ALLOW, Clone.DENY)


def test_every_key_is_read() -> None:
    settings = config.parse(
        """
        first_enrolment = "self"
        audit = "required"
        fail_delay = 0.25
        issuer = "Exämple Ltd"
        sshd_touch_required = true
        fido2 = {rp_id = "example.org", synced = "deny", clone = "warn"}
        enrol_from = {networks = ["192.0.2.0/24"], services = ["gdm-*"]}
        [policy]
        user_verification = "required"
        local_key = "never"
        methods = ["recovery"]
        unenrolled = "allow"
        exempt = true
        subject = "caller"
        first_factor = "none"
        enrol_by = 2030-12-31
        logins_left = 5
        enrol_at_login = true
        help = "Call the help desk"
        credit_ssh_keys = true
        lease = "10m"
        [[rule]]
        name = "all of them"
        services = ["sshd", "gdm-*"]
        users = ["alice", "!bob"]
        groups = ["backup", "!EXAMPLE\\\\domain users"]
        networks = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.1"]
        session = "remote"
        methods = ["totp", "recovery"]
        unenrolled = "deny"
        exempt = true
        user_verification = "preferred"
        local_key = "always"
        subject = "user"
        first_factor = "publickey"
        enrol_by = 2000-01-01
        logins_left = 0
        enrol_at_login = false
        help = "Äsk"
        credit_ssh_keys = false
        lease = "12h"
        """,
        FACTORS,
    )
    assert settings.first_enrolment is FirstEnrolment.SELF
    assert settings.audit_required is True
    assert settings.fail_delay_ms == 250
    assert settings.issuer == "Exämple Ltd"
    assert settings.fido2 == Fido2("example.org", Synced.DENY, Clone.WARN)
    assert settings.policy == Rule(
        ("recovery",), Unenrolled.ALLOW, UserVerification.REQUIRED, LocalKey.NEVER, True, Subject.CALLER,
        FirstFactor.NONE, date(2030, 12, 31), 5, True, "Call the help desk", True, 600,
    )  # fmt: skip
    networks = tuple(map(ip_network, ("192.0.2.0/24", "2001:db8::/32", "198.51.100.1/32")))
    groups = ("backup", "!EXAMPLE\\domain users")
    match = Match(("sshd", "gdm-*"), ("alice", "!bob"), groups, networks, Session.REMOTE)
    terms = (Unenrolled.DENY, UserVerification.PREFERRED, LocalKey.ALWAYS, True, Subject.USER, FirstFactor.PUBLICKEY)
    rollout = (date(2000, 1, 1), 0, False, "Äsk", False, 12 * 3600)
    assert settings.rules == (Rule(("totp", "recovery"), *terms, *rollout, "all of them", match),)
    assert settings.enrol_from == EnrolFrom((networks[0],), ("gdm-*",))
    assert settings.sshd_touch_required is True


def test_a_rule_inherits_all_but_what_lets_somebody_by() -> None:
    text = """
    policy = {methods = ["totp"], exempt = true, lease = "1h", logins_left = 3, credit_ssh_keys = true, help = "Ask"}
    [[rule]]
    """
    (rule,) = config.parse(text, FACTORS).rules
    assert rule == Rule(("totp",), logins_left=3, help="Ask", credit_ssh_keys=True, name="1")


def test_settings_cannot_be_changed() -> None:
    settings = config.parse("[[rule]]", FACTORS)
    with pytest.raises(AttributeError):
        settings.policy.unenrolled = Unenrolled.ALLOW  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.rules[0].match.users = ("bob",)  # type: ignore[misc]


@pytest.mark.parametrize(("text", "ms"), [("0", 0), ("10", 10_000), ("10.0", 10_000), ("0.0005", 0), ("1.2344", 1234)])
def test_fail_delay_in_milliseconds(text: str, ms: int) -> None:
    assert config.parse(f"fail_delay = {text}", FACTORS).fail_delay_ms == ms


# ---------------------------------------------------------------------------------------------- refusals

DELAY = "fail_delay: must be a number of seconds from 0 to 10"
ISSUER = "issuer: must be a text of 1 to 64 printable characters without a colon"
TOP = "first_enrolment, enrol_from, audit, fail_delay, issuer, sshd_touch_required, fido2, smartcard, policy, rule"
HOST = "must be a domain name in lower case, for example example.org"
TERMS = ", ".join([
    "methods, exempt, unenrolled, enrol_by, logins_left, enrol_at_login, help, user_verification, local_key, subject",
    "first_factor, credit_ssh_keys, lease",
])  # fmt: skip
LEASE = 'policy.lease: must be a time from 1m to 12h, for example "10m"'
KEYS = f"name, services, users, groups, networks, session, {TERMS}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # unknown keys, with the nearest known one
        ("methods = []", f"methods: unknown key; one of: {TOP}"),
        ("fail_dealy = 2", "fail_dealy: unknown key; did you mean fail_delay?"),
        ("[policy]\nunenroled = 'deny'", "policy.unenroled: unknown key; did you mean unenrolled?"),
        ("[[rule]]\nmethod = []", "rule[0].method: unknown key; did you mean methods?"),
        ("[[rule]]\n[[rule]]\n[rule.policy]", f"rule[1].policy: unknown key; one of: {KEYS}"),
        ("[[rules]]", "rules: unknown key; did you mean rule?"),
        ("[service.sshd]", f"service: unknown key; one of: {TOP}"),
        ("policy.users = ['alice']", f"policy.users: unknown key; one of: {TERMS}"),
        ("policy.name = 'mine'", f"policy.name: unknown key; one of: {TERMS}"),
        ('"a\\nb" = 1', f'"a\\nb": unknown key; one of: {TOP}'),
        # wrong types
        ("policy = 'deny'", "policy: a text; must be a table"),
        ("[[policy]]", "policy: a list; must be a table"),
        ("policy.methods = 'totp'", "policy.methods: a text; must be a list of texts"),
        ("policy.methods = {totp = 1}", "policy.methods: a table; must be a list of texts"),
        ("policy.methods = ['totp', 1]", "policy.methods[1]: a number; must be a text"),
        ("policy.methods = [['totp']]", "policy.methods[0]: a list; must be a text"),
        ("policy.unenrolled = false", "policy.unenrolled: a boolean; one of: deny, allow"),
        ("policy.exempt = 2024-01-01", "policy.exempt: a date or time; must be true or false"),
        ("policy.enrol_by = '2030-12-31'", "policy.enrol_by: a text; must be a date, for example 2030-12-31"),
        ("policy.enrol_by = 2030-12-31T00:00:00",
         "policy.enrol_by: a date or time; must be a date, for example 2030-12-31"),
        ("policy.logins_left = -1", "policy.logins_left: must be a whole number from 0 to 1000"),
        ("policy.logins_left = true", "policy.logins_left: must be a whole number from 0 to 1000"),
        ("policy.logins_left = 1001", "policy.logins_left: must be a whole number from 0 to 1000"),
        ("policy.logins_left = 2.0", "policy.logins_left: must be a whole number from 0 to 1000"),
        ("policy.enrol_at_login = 1", "policy.enrol_at_login: a number; must be true or false"),
        ("policy.help = ''", "policy.help: must be a text of 1 to 200 printable characters"),
        ('policy.help = "a\\nb"', "policy.help: must be a text of 1 to 200 printable characters"),
        ("policy.credit_ssh_keys = 'yes'", "policy.credit_ssh_keys: a text; must be true or false"),
        ("sshd_touch_required = 'yes'", "sshd_touch_required: a text; must be true or false"),
        *((f"policy.lease = {lease}", LEASE) for lease in (
            "600", "true", "''", "'0m'", "'59s'", "'13h'", "'1d'", "'10'", "'10 m'", "'10M'", "'-10m'", "'1.5h'",
            "'\uff110m'", "'010m'", "'10m\\n'", "'9999999m'",
        )),
        ("enrol_from = ['sshd']", "enrol_from: a list; must be a table"),
        ("enrol_from.users = ['alice']", "enrol_from.users: unknown key; did you mean services?"),
        ("enrol_from.services = []", "enrol_from.services: empty: a rule for nobody; leave the key out for everybody"),
        ("enrol_from.networks = ['192.0.2.1/24']", 'enrol_from.networks[0]: "192.0.2.1/24" is not a network, for '
         "example 192.0.2.0/24 or 2001:db8::/32"),
        ("policy.exempt = 'true'", "policy.exempt: a text; must be true or false"),
        ("policy.exempt = 1", "policy.exempt: a number; must be true or false"),
        ("policy.subject = 'root'", 'policy.subject: "root"; one of: user, caller'),
        ("policy.first_factor = 'key'", 'policy.first_factor: "key"; one of: stack, publickey, none'),
        ("audit = true", "audit: a boolean; one of: best-effort, required"),
        ("issuer = 1", ISSUER),
        # values that are none of those allowed
        ("first_enrolment = ''", 'first_enrolment: ""; one of: password, self, ticket'),
        ("first_enrolment = 'Self'", 'first_enrolment: "Self"; one of: password, self, ticket'),
        ("audit = 'REQUIRED'", 'audit: "REQUIRED"; one of: best-effort, required'),
        ("policy.unenrolled = 'ALLOW'", 'policy.unenrolled: "ALLOW"; one of: deny, allow'),
        ("policy.methods = []", "policy.methods: empty; at least one of: fido2, smartcard, totp, recovery"),
        ("policy.methods = ['']", 'policy.methods[0]: unknown method ""; one of: fido2, smartcard, totp, recovery'),
        ("policy.methods = ['TOTP']",
         'policy.methods[0]: unknown method "TOTP"; one of: fido2, smartcard, totp, recovery'),
        ("policy.methods = ['totp', 'totp']", 'policy.methods[1]: "totp" is named twice'),
        # numbers
        ("fail_delay = true", DELAY),
        ("fail_delay = '2s'", DELAY),
        ("fail_delay = nan", DELAY),
        ("fail_delay = inf", DELAY),
        ("fail_delay = -inf", DELAY),
        ("fail_delay = -0.001", DELAY),
        ("fail_delay = 10.001", DELAY),
        ("fail_delay = 2000", DELAY),
        ("fail_delay = 1e308", DELAY),
        ("fail_delay = " + "9" * 4000, DELAY),
        ("fail_delay = " + "9" * 4083, DELAY),
        ("\nfail_delay = " + "9" * 4084, "line 2 is longer than 4096 characters"),
        # the issuer ends up in an otpauth URI
        ("issuer = ''", ISSUER),
        ("issuer = 'a:b'", ISSUER),
        ('issuer = "a\\u202eb"', ISSUER),
        (f"issuer = '{'a' * 65}'", ISSUER),
        # security keys
        ("fido2 = 'example.org'", "fido2: a text; must be a table"),
        ("fido2.rpid = 'example.org'", "fido2.rpid: unknown key; did you mean rp_id?"),
        ("fido2.rp_id = ''", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 1", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 'Example.org'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 'example.org.'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 'example..org'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = '-a.org'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 'ſ.org'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = 'https://a.org'", f"fido2.rp_id: {HOST}"),
        ("fido2.rp_id = '" + "a." * 127 + "'", f"fido2.rp_id: {HOST}"),
        ("fido2.synced = true", "fido2.synced: a boolean; one of: allow, deny"),
        ("fido2.clone = 'allow'", 'fido2.clone: "allow"; one of: deny, warn'),
        ("policy.user_verification = ''", 'policy.user_verification: ""; one of: required, preferred, discouraged'),
        ("policy.local_key = true", "policy.local_key: a boolean; one of: auto, always, never"),
    ],
)  # fmt: skip
def test_refused_by_key_path(text: str, problem: str) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize("name", ["a", "example.org", "1.2", "x--y.example", "a" * 63, "a." * 126 + "a"])
def test_a_relying_party_id_is_a_domain_name(name: str) -> None:
    assert config.parse(f"fido2.rp_id = '{name}'", FACTORS).fido2.rp_id == name


def test_all_problems_at_once_in_the_order_of_the_settings() -> None:
    text = """
    fail_delay = nan
    audt = "required"
    first_enrolment = "never"
    [policy]
    methods = []
    unenrolled = "maybe"
    [[rule]]
    methods = ["totp", "otp", 3]
    groups = [""]
    [[rule]]
    name = "Sudo"
    methods = "totp"
    """
    assert [problem.partition(":")[0] for problem in problems(text)] == [
        "audt",
        "policy.methods",
        "policy.unenrolled",
        "rule[0].groups[0]",
        "rule[0].methods[2]",
        "rule[0].methods[1]",
        "rule[1].methods",
        "first_enrolment",
        "fail_delay",
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("audit = \n", "at line 1, column 9"),
        ("[policy]\nmethods == 3", "at line 2, column 10"),
        ("audit = 'required'\naudit = 'best-effort'", "at line 2, column"),
        ("[policy]\n[policy]", "at line 2, column"),
        ("rule = []\n[[rule]]", "at line 2, column"),
        ("a = 1\nfail_delay", "at line 2, column 11"),
        ("service.ſshd = {}", "at line 1, column 9"),
        ('issuer = "abc', "at line 1, column 14"),
        ("issuer = 'a\0b'", "at line 1, column 12"),
        ("\ufeffaudit = 'required'", "at line 1, column 1"),
        ('issuer = "' + "\\q" * 300, "at line 1, column"),
    ],
)
def test_syntax_errors_name_line_and_column(text: str, place: str) -> None:
    (problem,) = problems(text)
    assert place in problem
    assert re.fullmatch(r"[ -~]{1,200}", problem)


def test_nesting_without_end_is_a_problem_and_no_crash() -> None:
    (problem,) = problems("a = " + "[\n" * 100_000)
    assert "nested" in problem or "at line" in problem


@pytest.mark.parametrize(
    "program",
    [
        "names = ',\\n'.join(f'\"g{n}\"' for n in range(30_000))\n"
        "(rule,) = config.parse(f'rule = [{{groups = [{names}]}}]', ['totp', 'recovery']).rules\n"
        "assert len(rule.match.groups) == 30_000\n",
        "try: config.parse('a.' * 130_000 + 'b = 1', ['totp', 'recovery'])\n"
        "except errors.ConfigError as error: assert error.problems == ['line 1 is longer than 4096 characters']\n",
        "try: config.parse(('[' + 'a.' * 2000 + 'b]\\n') * 60, ['totp', 'recovery'])\n"
        "except errors.ConfigError as error: assert 'at line 2' in str(error)\n",
    ],
    ids=["names", "one dotted key", "dotted keys"],
)
def test_no_file_takes_quadratic_time(program: str) -> None:
    # In a process of its own, so that a quadratic search is ended and not waited for.
    program = f"from pam_mfa import config, errors\n{program}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
