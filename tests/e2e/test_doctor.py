"""`pam-mfa doctor` on a whole system: silent where README.md was followed, and right where something is wrong."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from e2e.readme import sudo_line
from e2e.site_machine import KEY_AND_CODE, PASSWORD_AND_CODE, SiteMachine
from hosts import records
from machine import Machine
from people import configure

from pam_mfa.cli.exits import Exit

PAM_MFA = "/usr/bin/pam-mfa"
SSHD_CONFIG = "/etc/ssh/sshd_config"
HERE = {"cards", "clock"}  # of the machine that runs the tests
SERVICES = ("mfa", "ours", "brief")  # of other tests (people.Town)


def problems(machine: Machine) -> list[dict[str, Any]]:
    """Everything that is not fine."""
    done = machine.run([PAM_MFA, "doctor", "--json"], check=False)
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    worst = {each["severity"] for each in found}
    assert done.returncode == (Exit.WRONG if "bad" in worst else Exit.WARNINGS if "warn" in worst else Exit.DONE)
    return [each for each in found if each["severity"] != "ok" and each["subject"] not in HERE]


def follow_the_readme(site: SiteMachine, section: str) -> None:
    """sudo -i as well, which the sites of other tests leave out, and none of their own PAM services."""
    site.start(section=section)
    site.machine.write("/etc/pam.d/sudo-i", f"@include common-auth\n{sudo_line()}")
    site.machine.run(["/bin/rm", *(f"/etc/pam.d/{name}" for name in SERVICES)])


@pytest.mark.parametrize("section", [PASSWORD_AND_CODE, KEY_AND_CODE])
def test_nothing_is_wrong_where_the_readme_was_followed(served_site: SiteMachine, section: str) -> None:
    follow_the_readme(served_site, section)
    assert problems(served_site.machine) == []


def test_a_match_block_that_lets_somebody_past(served_site: SiteMachine) -> None:
    """What doctor says is what happens."""
    site, machine = served_site, served_site.machine
    machine.run(["/bin/sed", "-i", "$aMatch User bob\\n  AuthenticationMethods publickey", SSHD_CONFIG])
    follow_the_readme(site, PASSWORD_AND_CODE)
    (found,) = problems(machine)
    line = len(machine.read(SSHD_CONFIG).splitlines()) - 1
    assert found["found"] == (
        f"a login by publickey is not asked for a second factor ({SSHD_CONFIG}:{line}: Match User bob)"
    )
    before = len(records(machine))
    assert site.ssh("/usr/bin/id", "-un", user="bob", key=True).ends_with(0).endswith("bob\r\n")
    assert len(records(machine)) == before


def test_a_key_alone_where_rules_want_a_password(served_site: SiteMachine) -> None:
    follow_the_readme(served_site, KEY_AND_CODE)
    configure(served_site.machine)
    served_site.machine.service.send(signal.SIGHUP)
    (found,) = problems(served_site.machine)
    assert (found["subject"], found["severity"]) == ("pam sshd", "warn")
    assert "nothing in front of it checks a password" in found["found"]


@pytest.mark.parametrize(
    ("spoil", "subject", "words"),
    [
        ("sed -i 's/^MaxStartups.*/MaxStartups 2/' $1", "sshd", "as soon as 2 users"),
        ("sed -i s/^UsePAM.yes/UsePAM\\ no/ $1", "sshd", "UsePAM is off"),
        ("sed -i 1inonsense $1", "sshd", "does not print its settings"),
        ("chmod 666 /etc/pam.d/common-auth", "pam files", "/etc/pam.d/common-auth has mode 0666"),
        ("sed -i s/requisite/optional/ /etc/pam.d/common-auth", "pam sshd", "reached also without a right password"),
        ("sed -i s/default=die/default=ignore/ /etc/pam.d/sudo", "pam sudo", "a refusal can still let the user in"),
        ("install /usr/bin/true /usr/lib/pam-mfa/pam-mfa-password", "version", "not of the same version"),
    ],
)
def test_what_is_wrong_is_told(served_site: SiteMachine, spoil: str, subject: str, words: str) -> None:
    follow_the_readme(served_site, PASSWORD_AND_CODE)
    served_site.machine.run(["/bin/sh", "-euc", spoil, "sh", SSHD_CONFIG])
    found = [each for each in problems(served_site.machine) if each["subject"] == subject]
    assert [words in each["found"] for each in found] == [True], problems(served_site.machine)
