"""`pam-mfa doctor`: PAM files, and what the rules expect of them, one thing wrong at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_mfa.cli.checks import expected, pam, rules as rules_check, sshd
from pam_mfa.cli.checks.finding import Finding, Severity
from pam_mfa.cli.checks.stacks import LINE, PERMIT
from pam_mfa.cli.paths import Paths

from .installed import write, wrong

UNPROVEN = "[[rule]]\nservices = ['pam-mfa']\nunenrolled = 'allow'\n[policy]\nfirst_factor = 'none'\n"

# ------------------------------------------------------------------------------------------------------ PAM files


def test_every_file_that_names_the_module_is_judged(system: Path) -> None:
    write(system, "etc/pam-mfa/config.toml", UNPROVEN)
    write(system, "etc/pam.d/su", "auth optional pam_mfa.so\nauth required pam_permit.so\n")
    write(system, "etc/pam.d/su.dpkg-old", "auth optional pam_mfa.so\nauth required pam_permit.so\n")
    write(system, "etc/pam.d/absolute", f"auth requisite pam_unix.so\n{LINE.replace('pam_', '/opt/pam_')}\n")
    write(system, "usr/lib/pam.d/vendor", f"auth sufficient pam_unix.so\n{LINE}\nauth required pam_permit.so\n")
    write(system, "etc/pam.d/broken", f"@include absent\n{LINE}\n")
    write(system, "etc/pam.d/not-ours", "@include absent\n")
    assert wrong(pam.check(Paths(system))) == [
        ("pam absolute", "bad"),
        ("pam broken", "bad"),
        ("pam su", "bad"),
        ("pam vendor", "bad"),
    ]


@pytest.mark.parametrize(("asks", "twin"), [("sudo", "sudo-i"), ("sudo-i", "sudo"), ("su", "su-l"), ("su-l", "su")])
def test_a_login_shell_has_a_service_of_its_own(system: Path, asks: str, twin: str) -> None:
    (system / "etc/pam.d/sudo").unlink()
    write(system, f"etc/pam.d/{asks}", f"@include common-auth\n{LINE}\n")
    assert wrong(pam.check(Paths(system))) == []  # the twin is not there
    write(system, f"etc/pam.d/{twin}", "@include common-auth\n")
    (finding,) = (finding for finding in pam.check(Paths(system)) if finding.severity is not Severity.OK)
    assert (finding.subject, finding.severity) == (f"pam {twin}", Severity.BAD)
    assert finding.fix.endswith(LINE)
    write(system, f"etc/pam.d/{twin}", f"session required pam_mail.so\n@include {asks}\n")
    assert wrong(pam.check(Paths(system))) == []
    write(system, f"etc/pam.d/{twin}", f"auth include {asks}\n")
    assert wrong(pam.check(Paths(system))) == []
    write(system, f"etc/pam.d/{twin}", "@include common-auth\naccount required pam_mfa.so\n")
    assert ("pam " + twin, "bad") in wrong(pam.check(Paths(system)))


def test_nobody_is_asked(system: Path) -> None:
    (system / "etc/pam.d/sudo").unlink()
    assert wrong(pam.check(Paths(system))) == [("pam", "warn")]


def test_a_file_that_is_no_text_is_read_as_bytes(system: Path) -> None:
    write(system, "etc/pam-mfa/config.toml", UNPROVEN)
    (system / "etc/pam.d/odd").write_bytes(b"# \xff\r\nauth required pam_mfa.so\nauth required pam_permit.so\n")
    assert wrong(pam.check(Paths(system))) == []


def test_the_service_that_checks_passwords(system: Path) -> None:
    (system / "etc/pam.d/pam-mfa").unlink()
    assert wrong(pam.check(Paths(system))) == [("pam pam-mfa", "bad")]
    write(system, "etc/pam.d/pam-mfa", "@include absent\n")
    assert wrong(pam.check(Paths(system))) == [("pam pam-mfa", "bad")]


def test_the_service_that_checks_passwords_may_ask_for_codes_where_the_unenrolled_may_pass(system: Path) -> None:
    write(system, "etc/pam.d/common-auth", f"auth requisite pam_unix.so\n{LINE}\n")
    (system / "etc/pam.d/sudo").unlink()
    assert wrong(pam.check(Paths(system))) == []
    for settings in ("", "[[rule]]\nservices = ['pam-mfa']\n", "broken"):
        write(system, "etc/pam-mfa/config.toml", settings)
        assert wrong(pam.check(Paths(system))) == [("pam pam-mfa", "bad")]


def test_pam_conf_counts_where_there_is_no_directory(root: Path) -> None:
    permit = "auth required pam_permit.so"
    conf = f"pam-mfa {permit}\nsu auth optional pam_mfa.so\nsu {permit}\nsudo {LINE}\nsudo {permit}\n"
    write(root, "etc/pam.conf", conf)
    assert wrong(pam.check(Paths(root))) == [("pam su", "bad")]


def problems(found: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity is not Severity.OK]


def test_what_is_wrong_in_a_file_that_many_include_is_told_once(system: Path) -> None:
    write(system, "etc/pam.d/common-auth", f"auth requisite pam_unix.so\nauth optional pam_mfa.so\n{PERMIT}\n")
    for name in ("login", "su", "sudo", "xdm", "zzz"):
        write(system, f"etc/pam.d/{name}", "@include common-auth\n")
    (found,) = problems(pam.check(Paths(system)))
    assert (found.subject, found.severity) == ("pam common-auth", Severity.BAD)
    assert found.found.startswith("common-auth:2: a refusal can still let the user in")
    assert found.found.endswith("(also login, pam-mfa, su and 3 more)")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("etc/pam.d/sudo", lambda path: path.chmod(0o664)),
        ("etc/pam.d/common-auth", lambda path: os.chown(path, 1234, -1)),
        ("etc/pam.d", lambda path: path.chmod(0o777)),
    ],
)
def test_who_can_take_our_line_out(system: Path, name: str, how: Callable[[Path], object]) -> None:
    how(system / name)
    (found,) = problems(pam.check(Paths(system)))
    assert (found.subject, found.severity) == ("pam files", Severity.BAD)
    assert found.found.startswith(f"/{name} ")


def test_files_that_do_not_lead_to_us_are_not_our_business(system: Path) -> None:
    write(system, "etc/pam.d/cron", "@include common-account\n")
    write(system, "etc/pam.d/common-account", "account required pam_unix.so\n")
    (system / "etc/pam.d/cron").chmod(0o666)
    (system / "etc/pam.d/common-account").chmod(0o666)
    assert problems(pam.check(Paths(system))) == []


# ------------------------------------------------------------------------------------- what rules believe in


def rules(*texts: str) -> str:
    return UNPROVEN.partition("[policy]")[0] + "".join(f"[[rule]]\n{text}\n" for text in texts)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (rules(), "[policy]"),
        (rules("services = ['su*']\nfirst_factor = 'none'"), "[policy]"),
        (rules("name = 'key'\nservices = ['su*']\nmethods = ['fido2']"), 'rule "key"'),
        (rules("name = 'admins'\ngroups = ['adm']", "name = 'all'\nservices = ['sudo', 'demo']"),
         'rule "admins" and rule "all"'),
        (rules("name = 'near'\nsession = 'local'\nexempt = true", "name = 'all'"), 'rule "all"'),
        (rules("name = 'far'\nservices = ['demo']\nnetworks = ['192.0.2.0/24']\nfirst_factor = 'none'"), "[policy]"),
    ],
)  # fmt: skip
def test_a_rule_that_believes_in_a_password_that_nobody_asks_for(system: Path, settings: str, names: str) -> None:
    write(system, "etc/pam.d/demo", f"{LINE}\n{PERMIT}\n")
    write(system, "etc/pam-mfa/config.toml", settings.replace("su*", "demo") if "'key'" in settings else settings)
    found = problems(pam.check(Paths(system)))[-1]
    assert (found.subject, found.severity) == ("pam demo", Severity.WARN)
    assert found.found.startswith(f"demo:1: nothing in front of it checks a password, but {names} says first_factor")
    assert 'first_factor = "none"' in found.fix


@pytest.mark.parametrize(
    "settings",
    [
        UNPROVEN,
        rules("services = ['demo']\nfirst_factor = 'none'"),
        "no settings at all",
    ],
)
def test_rules_that_believe_in_nothing(system: Path, settings: str) -> None:
    write(system, "etc/pam.d/demo", f"{LINE}\n{PERMIT}\n")
    write(system, "etc/pam-mfa/config.toml", settings)
    assert problems(pam.check(Paths(system))) == []


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (rules("name = 'new'\nenrol_at_login = true"), 'rule "new"'),
        (rules("name = 'new'\ngroups = ['staff']\nenrol_at_login = true", "name = 'all'"), 'rule "new"'),
        (rules() + "[policy]\nenrol_at_login = true\n", "[policy]"),
    ],
)
@pytest.mark.parametrize("front", ["", "auth required pam_unix.so\n"])
def test_an_enrolment_that_nobody_proves_anything_for(system: Path, settings: str, names: str, front: str) -> None:
    """Our line is reached without a right password, and the secret would be shown to whoever says a name."""
    write(system, "etc/pam.d/demo", f"{front}{LINE}\n{PERMIT}\n")
    write(system, "etc/pam-mfa/config.toml", settings)
    found = problems(pam.check(Paths(system)))[-1]
    assert (found.subject, found.severity) == ("pam demo", Severity.BAD)
    assert f"but {names} says enrol_at_login" in found.found
    assert "requisite" in found.fix


@pytest.mark.parametrize(
    "settings",
    [
        rules("enrol_at_login = true\nservices = ['other']", "enrol_at_login = false"),
        rules("enrol_at_login = true\nunenrolled = 'allow'"),
    ],
)
def test_an_enrolment_that_is_never_begun(system: Path, settings: str) -> None:
    write(system, "etc/pam.d/demo", f"auth required pam_unix.so\n{LINE}\n")
    write(system, "etc/pam-mfa/config.toml", settings)
    assert [each.severity for each in problems(pam.check(Paths(system)))] == [Severity.WARN]


def test_an_enrolment_behind_a_password(system: Path) -> None:
    write(system, "etc/pam.d/demo", f"auth requisite pam_unix.so\n{LINE}\n")
    write(system, "etc/pam-mfa/config.toml", rules("enrol_at_login = true"))
    assert problems(pam.check(Paths(system))) == []


def test_at_sshd_a_public_key_may_stand_for_the_password(system: Path) -> None:
    write(system, "etc/pam.d/sshd", f"{LINE}\n{PERMIT}\n")
    (found,) = problems(pam.check(Paths(system)))
    assert 'first_factor = "publickey"' in found.fix
    write(system, "etc/pam-mfa/config.toml", rules("services = ['sshd']\nfirst_factor = 'publickey'"))
    assert problems(pam.check(Paths(system))) == []


def test_only_sshd_shows_public_keys(system: Path) -> None:
    write(system, "etc/pam-mfa/config.toml", rules("name = 'keys'\nservices = ['su*']\nfirst_factor = 'publickey'"))
    (found,) = problems(pam.check(Paths(system)))
    assert (found.subject, found.severity) == ("pam sudo", Severity.BAD)
    assert found.found.startswith('rule "keys" says first_factor = "publickey"')


def test_rules_are_tried_in_their_order(system: Path) -> None:
    write(
        system,
        "etc/pam-mfa/config.toml",
        rules("name = 'a'\nusers = ['x']", "name = 'b'\nservices = ['su']", "name = 'c'"),
    )
    found = expected.settings(Paths(system))
    assert found
    assert [rule.name for rule in expected.possible(found, "su")] == ["a", "b"]
    assert [rule.name for rule in expected.possible(found, "sudo")] == ["a", "c"]
    assert [rule.name for rule in expected.possible(found, "pam-mfa")] == ["1"]


@pytest.mark.parametrize(
    "term", ["exempt = true", "unenrolled = 'allow'", "unenrolled = 'allow'\nfirst_factor = 'none'"]
)
def test_who_is_let_pass_where_nothing_else_is_asked(system: Path, term: str) -> None:
    write(system, "etc/pam.d/demo", f"{LINE}\n{PERMIT}\n")
    write(system, "etc/pam-mfa/config.toml", rules(f"name = 'open'\nservices = ['demo']\n{term}"))
    found = problems(pam.check(Paths(system)))[0]
    assert (found.subject, found.severity) == ("pam demo", Severity.BAD)
    assert 'whom rule "open" lets pass gets in with nothing proven' in found.found
    write(system, "etc/pam.d/demo", f"@include common-auth\n{LINE}\n{PERMIT}\n")
    assert problems(pam.check(Paths(system))) == []


def test_at_sshd_others_may_ask(system: Path) -> None:
    write(system, "etc/pam.d/sshd", f"{LINE}\n{PERMIT}\n")
    write(system, "etc/pam-mfa/config.toml", rules("services = ['sshd']\nexempt = true"))
    assert problems(pam.check(Paths(system))) == []
    (lines,) = {pam.read_stacks(Paths(system), "sshd")["auth"]}
    assert sshd._wanted(Paths(system), lines) == sshd.Wanted(90, "", 'rule "2"')
    write(system, "etc/pam-mfa/config.toml", rules("services = ['sshd']\nexempt = true\nfirst_factor = 'publickey'"))
    assert sshd._wanted(Paths(system), lines) == sshd.Wanted(90, 'rule "2"', "")
    write(system, "etc/pam-mfa/config.toml", "broken")
    assert sshd._wanted(Paths(system), lines) == sshd.ORDINARY


def test_rules_that_are_odd_are_one_finding(system: Path) -> None:
    assert [finding.found for finding in rules_check.check(Paths(system))] == ["1, nothing odd"]
    odd = [f"name = '{name}'\nexempt = true\nmethods = ['totp']" for name in "abcd"]
    write(system, "etc/pam-mfa/config.toml", rules(*odd))
    (finding,) = rules_check.check(Paths(system))
    assert (finding.severity, finding.fix) == (Severity.WARN, "run: pam-mfa policy check")
    assert finding.found.endswith("themselves: a, b, c and 1 more")
    write(system, "etc/pam-mfa/config.toml", "broken")
    assert list(rules_check.check(Paths(system))) == []
