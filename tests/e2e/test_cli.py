"""The installed `pam-mfa`, against the real service and the real engine."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pexpect
import pytest
from machine import PASSWORDS, Machine, wait_for
from pyotp import HOTP

from pam_mfa.cli.checks.stacks import LINE, PERMIT
from pam_mfa.cli.exits import Exit

PAM_MFA = "/usr/bin/pam-mfa"
PERIOD = 30
DEMO = f"{LINE}\n{PERMIT}\n{PERMIT.replace('auth', 'account')}\n"


def step_now() -> int:
    return int(time.time()) // PERIOD


def enroll(machine: Machine, *arguments: str, user: str | None = None, password: str | None = None) -> tuple[str, str]:
    """Enrol TOTP at a terminal; returns the secret and everything that was shown."""
    child: Any = machine.spawn([PAM_MFA, "enroll", "totp", *arguments], user)
    if password:
        child.expect_exact(f"Password of {user}: ")
        child.sendline(password)
    child.expect(r"secret=([A-Z2-7]{32})")
    secret = child.match[1]
    child.expect_exact("shows now: ")
    child.sendline(HOTP(secret).at(step_now() - 1))  # leaves the codes of this step and the next
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == Exit.DONE, child.before
    return secret, child.before


def records(machine: Machine, *arguments: str, user: str | None = None) -> list[dict[str, Any]]:
    done = machine.run([PAM_MFA, *arguments, "--json"], user)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_user_manages_its_credentials(machine: Machine) -> None:
    machine.service.start()
    machine.write("/etc/pam.d/demo", DEMO)
    secret, shown = enroll(machine, "--name", "phone", user="alice", password=PASSWORDS["alice"])
    codes = re.findall(r"\b(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}\b", shown)
    assert len(codes) == 10
    found = {(each["factor"], each["label"]) for each in records(machine, "list", user="alice")}
    assert found == {("totp", "phone"), ("recovery", "recovery codes")}
    assert machine.run([PAM_MFA, "test", "demo"], "alice", input=HOTP(secret).at(step_now()) + "\n").returncode == 0
    wrong = machine.run([PAM_MFA, "rename", "phone", "old phone"], "alice", input="000000\n" * 3, check=False)
    assert wrong.returncode == Exit.REFUSED
    machine.run([PAM_MFA, "rename", "phone", "old phone"], "alice", input=codes[0] + "\n")
    machine.run([PAM_MFA, "remove", "old phone"], "alice", input=codes[1] + "\n")
    assert records(machine, "recovery", user="alice") == [{"kind": "recovery_left", "left": 8, "of": 10}]
    assert not any(code in line for code in [secret, *codes] for line in machine.journal())


def test_a_user_manages_nobody_else(machine: Machine) -> None:
    machine.service.start()
    enroll(machine, "--user", "bob")
    for arguments in (["list", "--user", "bob"], ["unlock", "bob"], ["accounts"]):
        assert machine.run([PAM_MFA, *arguments], "alice", check=False).returncode == Exit.REFUSED
    assert records(machine, "list", user="alice") == []


def test_root_without_a_service(machine: Machine) -> None:
    enroll(machine, "--user", "alice")
    assert len(records(machine, "list", "--user", "alice")) == 2
    assert [each["name"] for each in records(machine, "accounts")] == ["alice"]
    service, account = records(machine, "status", "--user", "alice")
    assert (service["role"], account["factors"]) == ("engine", {"totp": 1, "recovery": 1})
    machine.run([PAM_MFA, "unlock", "alice"])
    assert machine.run([PAM_MFA, "list"], "alice", check=False).returncode == Exit.UNAVAILABLE
    wait_for("the end of all engines", lambda: not machine.processes("pam-mfa-engine"))


def test_doctor_on_a_fresh_installation(machine: Machine) -> None:
    machine.service.start()
    machine.write("/etc/pam.d/demo", f"@include common-auth\n{DEMO}")
    found = records_of_doctor(machine, Exit.WARNINGS)
    assert {each["subject"] for each in found if each["severity"] != "ok"} <= {"cards", "clock"}
    machine.write("/etc/pam.d/demo", f"@include common-auth\n{DEMO}".replace("default=die", "default=ignore"))
    found = records_of_doctor(machine, Exit.WRONG)
    assert {each["subject"] for each in found if each["severity"] == "bad"} == {"pam demo"}


@pytest.mark.parametrize(
    ("spoil", "subject"),
    [
        ("head -c 32 /dev/urandom > /etc/pam-mfa/seal.key", "store"),
        ("rm /var/lib/pam-mfa/store.db*", "store"),
        ("echo nonsense = 1 > /etc/pam-mfa/config.toml", "settings"),
        ("chmod 0644 /etc/pam-mfa/seal.key", "seal key"),
        ("chown alice /usr/lib/pam-mfa/site/pam_mfa", "packages"),
        ("rm /etc/pam.d/pam-mfa", "pam pam-mfa"),
    ],
)
def test_doctor_finds_what_is_wrong(machine: Machine, spoil: str, subject: str) -> None:
    machine.run(["/bin/sh", "-c", spoil])
    found = records_of_doctor(machine, Exit.WRONG)
    assert subject in {each["subject"] for each in found if each["severity"] == "bad"}


def records_of_doctor(machine: Machine, expected: Exit) -> list[dict[str, Any]]:
    done = machine.run([PAM_MFA, "doctor", "--json"], check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]
