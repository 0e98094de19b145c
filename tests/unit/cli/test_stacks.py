"""The judgement of PAM stacks: what was measured on the real libpam, and what is said about each mistake."""

from __future__ import annotations

import pytest

from pam_mfa.cli import pamfiles
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.checks.stacks import CONTROL, LINE, PERMIT, judge, lets_anybody_pass, seconds, unproven
from pam_mfa.cli.pamfiles import AUTH_ERR, AUTHINFO_UNAVAIL, IGNORE, MODULE_UNKNOWN, PERM_DENIED, SUCCESS, Line, Stacks
from pam_mfa.cli.pamstack import run

COMMON_AUTH = """\
auth	[success=1 default=ignore]	pam_unix.so nullok
auth	requisite			pam_deny.so
auth	required			pam_permit.so
"""
SUDO = "session required pam_limits.so\n@include common-auth\n"
FALL_BACK = {"common-auth": COMMON_AUTH, "other": "auth required pam_deny.so\n"}


def stacks(text: str, service: str = "sudo", **files: str) -> Stacks:
    """The stacks of a service whose file is `text`."""
    texts = {**FALL_BACK, **{name.replace("_", "-"): content for name, content in files.items()}, service: text}
    return pamfiles.stacks(service, texts.get)


def findings(text: str, service: str = "sudo", **files: str) -> list[tuple[Severity, str, str]]:
    """What is said about a service whose file is `text`."""
    return [(f.severity, f.found, f.fix) for f in judge(service, stacks(text, service, **files))]


def severities(text: str, service: str = "sudo", **files: str) -> list[Severity]:
    return [severity for severity, _, _ in findings(text, service, **files)]


# ------------------------------------------------------------------------ measured with pam_debug.so, libpam 1.5.2

MEASURED = [
    ("auth required pam_mfa.so", IGNORE, PERM_DENIED),
    (f"auth required pam_mfa.so\n{PERMIT}", IGNORE, SUCCESS),
    ("auth required pam_env.so\nauth required pam_mfa.so\nauth optional pam_cap.so", IGNORE, SUCCESS),
    ("auth required pam_mfa.so\nauth required pam_faillock.so preauth\nauth required pam_nologin.so", IGNORE, SUCCESS),
    (f"auth [success=ok default=bad] pam_mfa.so\n{PERMIT}", IGNORE, PERM_DENIED),
    (f"auth sufficient pam_mfa.so\n{PERMIT}", AUTHINFO_UNAVAIL, SUCCESS),
    (f"auth optional pam_mfa.so\n{PERMIT}", AUTH_ERR, SUCCESS),
    (f"auth required pam_mfa.so\n{PERMIT}", MODULE_UNKNOWN, MODULE_UNKNOWN),
    (f"-auth required pam_mfa.so\n{PERMIT}", MODULE_UNKNOWN, MODULE_UNKNOWN),
    (f"auth optional pam_mfa.so\n{PERMIT}", MODULE_UNKNOWN, SUCCESS),
]


@pytest.mark.parametrize(("text", "ours", "ends"), MEASURED)
def test_measured_stacks(text: str, ours: int, ends: int) -> None:
    answers = {"pam_mfa.so": ours, "pam_env.so": IGNORE, "pam_nologin.so": IGNORE}

    def answer(line: Line) -> tuple[int]:
        return (answers.get(line.name, SUCCESS),)

    assert [end.code for end in run(stacks(text)["auth"], answer)] == [ends]


# ------------------------------------------------------------------------------------------------ good lines

GOOD = [
    f"{SUDO}{LINE}\n",
    f"{LINE}\n{PERMIT}\n",
    f"{LINE}\n{SUDO}",
    f"{SUDO}auth required pam_mfa.so\n",
    f"{SUDO}auth requisite pam_mfa.so\n",
    f"auth sufficient pam_rootok.so\n{SUDO}{LINE}\n",  # su by root: nobody is asked for anything
    f"auth substack common-auth\n{LINE}\n",
    f"{SUDO}{LINE} debug timeout=20 socket=/run/x engine=/usr/lib/y\n",
    f"{SUDO}auth {CONTROL} /lib/security/pam_mfa.so\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_safe_stack_that_lets_the_right_people_in(text: str) -> None:
    assert severities(text) == [Severity.OK]


def test_a_file_without_us_is_none_of_our_business() -> None:
    assert findings("auth sufficient pam_permit.so\n") == []


def test_the_file_that_others_include_is_judged_too() -> None:
    common = COMMON_AUTH + LINE + "\n"
    assert severities("@include common-auth\n", common_auth=common) == [Severity.OK]
    assert severities(common, "common-auth") == [Severity.OK]


# ------------------------------------------------------------------------------------------------ bad lines

LETS_IN = {
    "optional": ["auth_err", "maxtries", "authinfo_unavail", "abort", "conv_err", "module_unknown"],
    "sufficient": ["auth_err", "maxtries", "authinfo_unavail", "abort", "conv_err", "module_unknown"],
    "[success=ok default=ignore]": ["auth_err", "maxtries", "authinfo_unavail", "abort", "conv_err", "module_unknown"],
    "[success=ok authinfo_unavail=ignore default=die]": ["authinfo_unavail"],
    "[success=ok ignore=ignore maxtries=ignore default=die]": ["maxtries"],
    "[success=ok ignore=ignore abort=1 default=die]": ["abort"],
    "[success=ok ignore=ignore conv_err=reset default=bad]": ["conv_err"],
    "[success=ok ignore=ignore module_unknown=ignore default=bad]": ["module_unknown"],
}


@pytest.mark.parametrize("control", LETS_IN)
def test_a_refusal_that_lets_in_is_bad_and_named(control: str) -> None:
    severity, found, fix = findings(f"{SUDO}auth {control} pam_mfa.so\n{PERMIT}\n{PERMIT}\n")[0]
    assert severity is Severity.BAD
    assert (
        found
        == f"sudo:3: a refusal can still let the user in: {control.strip('[]')!r} does not stop at "
        + ", ".join(LETS_IN[control])
    )
    assert LINE in fix


def test_a_refusal_is_not_saved_by_what_another_module_answers() -> None:
    text = f"auth [success=ok ignore=ignore default=bad] pam_mfa.so\n{SUDO}auth [default=reset] pam_odd.so\n{PERMIT}\n"
    assert Severity.BAD in severities(text)


@pytest.mark.parametrize(
    "text",
    [
        f"auth sufficient pam_unix.so\n{LINE}\n{PERMIT}\n",
        f"auth [success=done default=ignore] pam_sss.so\n{LINE}\n{PERMIT}\n",
        f"auth [success=1 default=ignore] pam_unix.so\n{LINE}\n{PERMIT}\n",
        f"auth [success=2 default=ignore] pam_unix.so\nauth requisite pam_deny.so\n{LINE}\n{PERMIT}\n",
        f"auth sufficient pam_permit.so\n{LINE}\n",
        f"auth include password\n{LINE}\n{PERMIT}\n",
    ],
)
def test_a_password_that_goes_past_us_is_bad(text: str) -> None:
    severity, found, fix = findings(text, password="auth sufficient pam_krb5.so\n")[0]
    assert severity is Severity.BAD
    assert "can let users in past pam_mfa.so" in found
    assert "in front of" in fix


@pytest.mark.parametrize("module", ["pam_succeed_if.so", "pam_u2f.so", "pam_of_mine.so"])
def test_another_module_that_goes_past_us_is_worth_a_look(module: str) -> None:
    found = findings(f"auth sufficient {module} user = backup\n{SUDO}{LINE}\n")
    assert [severity for severity, _, _ in found] == [Severity.WARN]
    assert module in found[0][1]


def test_a_module_that_ends_its_substack_does_not_end_ours() -> None:
    assert severities(f"auth substack password\n{LINE}\n", password="auth sufficient pam_unix.so\n") == [Severity.OK]


@pytest.mark.parametrize(
    "text", [f"{LINE}\n", f"auth required pam_env.so\n{LINE}\n", f"{LINE}\nauth required pam_nologin.so\n"]
)
def test_an_exemption_without_permit_locks_out(text: str) -> None:
    severity, found, fix = findings(text)[0]
    assert severity is Severity.WARN
    assert "exempt" in found
    assert PERMIT in fix


@pytest.mark.parametrize(
    "text",
    [
        f"{LINE}\nauth required pam_deny.so\n",
        "auth [success=bad default=die] pam_mfa.so\n",
        "auth [sucess=ok] pam_mfa.so\n",
    ],
)
def test_a_stack_that_lets_nobody_in_is_bad(text: str) -> None:
    severity, found, _ = findings(text)[0]
    assert (severity, found.partition(": ")[2]) == (Severity.BAD, "the right code lets nobody in")


def test_other_types_and_arguments_are_worth_a_word() -> None:
    text = f"{SUDO}{LINE} timeout=4 alwaysok\naccount required pam_mfa.so\n"
    found = findings(text)
    assert [severity for severity, _, _ in found] == [Severity.WARN, Severity.OK, Severity.WARN, Severity.BAD]
    assert "account" in found[0][1]
    assert "'timeout=4'" in found[2][1]
    assert "alwaysok" in found[3][1]


@pytest.mark.parametrize(
    ("text", "common"),
    [
        (f"{SUDO}{LINE}\n", COMMON_AUTH + LINE + "\n"),
        (f"{SUDO}{LINE}\nauth optional pam_cap.so\n{LINE}\n", COMMON_AUTH),
        (f"auth substack common-auth\n{LINE}\n", COMMON_AUTH + LINE + "\n"),
    ],
)
def test_who_is_asked_twice_is_worth_a_word(text: str, common: str) -> None:
    severity, found, fix = findings(text, common_auth=common)[0]
    assert (severity, found.partition(":")[0]) == (Severity.WARN, "users are asked twice")
    assert fix.startswith("remove line sudo:")


def test_one_of_two_lines_is_no_second_question() -> None:
    """Either line asks, never both."""
    either = f"auth [success=2 default=ignore] pam_succeed_if.so user = x\n{LINE}\nauth [default=1] pam_permit.so\n"
    assert not [found for _, found, _ in findings(f"{SUDO}{either}{LINE}\n{PERMIT}\n") if "twice" in found]


@pytest.mark.parametrize("line", ["auht required pam_env.so", "auth required", "auth include absent"])
def test_a_line_that_libpam_cannot_read_is_the_one_thing_told(line: str) -> None:
    found = findings(f"{SUDO}{LINE}\n{line}\n")
    assert [(severity, text.partition(":")[2][:21]) for severity, text, _ in found] == [
        (Severity.BAD, "4: libpam cannot read")
    ]


# -------------------------------------------------------------------------------------- what stands before us


@pytest.mark.parametrize(
    "text",
    [
        f"{SUDO}{LINE}\n",
        f"auth requisite pam_unix.so\n{LINE}\n",
        f"auth sufficient pam_rootok.so\n{SUDO}{LINE}\n",
        f"auth requisite pam_nologin.so\nauth optional pam_faillock.so preauth\n{SUDO}{LINE}\n",
        f"auth [success=2 default=ignore] pam_unix.so\nauth [success=1 default=ignore] pam_sss.so\n"
        f"auth requisite pam_deny.so\n{LINE}\n",
    ],
)
def test_a_password_stands_before_us(text: str) -> None:
    assert unproven(stacks(text)["auth"]) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{LINE}\n{PERMIT}\n", "sudo:1: nothing in front of it"),
        (f"{LINE}\n{SUDO}", "sudo:1: nothing in front of it"),
        (f"{PERMIT}\n{LINE}\n", "sudo:2: nothing in front of it"),
        (f"auth required pam_unix.so\n{LINE}\n", "sudo:2: it is reached also without a right password (sudo:1)"),
        (f"auth substack common-auth\n{LINE}\n", "(common-auth:1)"),  # what ends a substack does not end ours
        (f"auth requisite pam_sss.so\n{LINE}\n", "(sudo:1)"),  # for whom sssd does not know
        (f"auth [success=1 default=ignore] pam_odd.so\nauth requisite pam_unix.so\n{LINE}\n", "(sudo:2)"),
        (f"auth [success=ok auth_err=ignore default=die] pam_unix.so\n{LINE}\n", "(sudo:1)"),
    ],
)
def test_nothing_stands_before_us(text: str, why: str) -> None:
    assert why in unproven(stacks(text)["auth"])


@pytest.mark.parametrize(
    ("text", "open_to_all"),
    [
        (f"{LINE}\n{PERMIT}\n", True),
        (f"auth required pam_faillock.so\n{LINE}\n", True),
        (f"{SUDO}{LINE}\n{PERMIT}\n", False),
        (f"auth [success=ok default=1] pam_unix.so\n{LINE}\n{PERMIT}\n", False),  # past our line: another question
    ],
)
def test_whom_an_exemption_lets_in_with_nothing_proven(text: str, open_to_all: bool) -> None:
    assert lets_anybody_pass(stacks(text)["auth"]) == open_to_all


@pytest.mark.parametrize(
    ("service", "arguments", "expected"),
    [("login", "", 45), ("sshd", "", 90), ("sudo", "", 180), ("sshd", " timeout=20 timeout=30", 30),
     ("login", " timeout=4", 45), ("login", " timeout=soon debug", 45)],
)  # fmt: skip
def test_how_long_our_line_may_take(service: str, arguments: str, expected: int) -> None:
    assert seconds(service, stacks(f"{LINE}{arguments}\n", service)["auth"]) == expected
