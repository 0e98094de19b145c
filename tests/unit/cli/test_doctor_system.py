"""`pam-mfa doctor`: what the rest of the system does to logins: login.defs, SELinux, AppArmor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_mfa.cli.checks import confinement, logindefs
from pam_mfa.cli.checks.stacks import LINE
from pam_mfa.cli.paths import Paths

from .installed import write, wrong

# ------------------------------------------------------------------------------------------------ login.defs


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("LOGIN_TIMEOUT 60\n", "", []),
        ("", "", []),
        ("LOGIN_TIMEOUT\t0\n", "", []),
        ("LOGIN_TIMEOUT 59\n", "", [("login.defs", "warn")]),
        ("LOGIN_TIMEOUT 600\nLOGIN_TIMEOUT 30\n", "", [("login.defs", "warn")]),
        ("# LOGIN_TIMEOUT 30\nLOGIN_TIMEOUT soon\nLOGIN_TIMEOUT\n", "", []),
        ("LOGIN_TIMEOUT 60\n", " timeout=46", [("login.defs", "warn")]),
        ("LOGIN_TIMEOUT 30\n", " timeout=15", []),
    ],
)
def test_the_console_ends_logins(system: Path, text: str, arguments: str, expected: list[tuple[str, str]]) -> None:
    write(system, "etc/login.defs", text)
    write(system, "etc/pam.d/login", f"@include common-auth\n{LINE}{arguments}\n")
    assert wrong(logindefs.check(Paths(system))) == expected


@pytest.mark.parametrize("text", ["@include common-auth\n", "@include absent\n", None])
def test_a_console_that_does_not_ask_us_is_left_alone(system: Path, text: str | None) -> None:
    write(system, "etc/login.defs", "LOGIN_TIMEOUT 5\n")
    if text is not None:
        write(system, "etc/pam.d/login", text)
    assert list(logindefs.check(Paths(system))) == []


# -------------------------------------------------------------------------------------- SELinux and AppArmor


def test_a_system_without_either(system: Path) -> None:
    assert [(found.subject, found.found) for found in confinement.check(Paths(system))] == [
        ("SELinux", "off"),
        ("AppArmor", "off"),
    ]


@pytest.mark.parametrize(("state", "expected"), [("0", []), ("1", [("SELinux", "warn")])])
def test_selinux(system: Path, state: str, expected: list[tuple[str, str]]) -> None:
    write(system, "sys/fs/selinux/enforce", state)
    assert wrong(confinement.check(Paths(system))) == expected


def test_a_policy_of_the_administrator(system: Path) -> None:
    write(system, "sys/fs/selinux/enforce", "1")
    (system / "var/lib/selinux/default/active/modules/400/other").mkdir(parents=True)
    assert wrong(confinement.check(Paths(system))) == [("SELinux", "warn")]
    (system / "var/lib/selinux/default/active/modules/400/pam_mfa").mkdir(parents=True)
    assert wrong(confinement.check(Paths(system))) == []


def confine(system: Path, *profiles: str, enabled: str = "Y") -> None:
    write(system, "sys/module/apparmor/parameters/enabled", f"{enabled}\n")
    write(system, "sys/kernel/security/apparmor/profiles", "".join(f"{profile}\n" for profile in profiles))
    write(system, "etc/apparmor.d/usr.sbin.cupsd", "include <abstractions/authentication>\n")
    for service in ("cups", "sshd"):
        write(system, f"etc/pam.d/{service}", f"@include common-auth\n{LINE}\n")


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (["/usr/sbin/cupsd (enforce)"], 1),
        (["/usr/sbin/cupsd//third_party (enforce)", "/usr/sbin/cupsd (enforce)", "sshd (enforce)"], 2),
        (["/usr/sbin/cupsd (complain)", "man_groff (enforce)", "/usr/sbin/chronyd (enforce)"], 0),
        ([], 0),
    ],
)
def test_programs_that_apparmor_keeps_from_us(system: Path, profiles: list[str], expected: int) -> None:
    confine(system, *profiles)
    assert wrong(confinement.check(Paths(system))) == [("AppArmor", "warn")] * expected


def test_apparmor_that_is_off_confines_nobody(system: Path) -> None:
    confine(system, "/usr/sbin/cupsd (enforce)", enabled="N")
    assert wrong(confinement.check(Paths(system))) == []


@pytest.mark.parametrize("name", ["abstractions/authentication.d/pam-mfa", "local/usr.sbin.cupsd"])
def test_apparmor_that_was_told_of_us(system: Path, name: str) -> None:
    confine(system, "/usr/sbin/cupsd (enforce)")
    write(system, f"etc/apparmor.d/{name}", "/run/pam-mfa/priv.sock rw,\n")
    assert wrong(confinement.check(Paths(system))) == []


def test_others_than_root_do_not_see_profiles(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    confine(system, "/usr/sbin/cupsd (enforce)")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [found.subject for found in confinement.check(Paths(system))] == ["SELinux"]
