"""`pam-mfa try` with real sudo and sshd: who would be locked out is let in again, whatever became of the terminal."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from booted import Booted
from e2e.installing import UNINSTALL, Installed
from e2e.readme import sudo_line
from e2e.site_machine import PASSWORD_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS, Machine, wait_for

PAM_MFA = "/usr/bin/pam-mfa"
FILES = ("/etc/pam.d/sudo", "/etc/pam.d/sudo-i")
CODE = "Verification code: "
ROOT = "\r\n0\r\n"
DONE, REFUSED = 0, 3
SETTINGS = "/etc/pam-mfa/config.toml"
CONFIRM = (PAM_MFA, "try", "confirm")


@pytest.fixture
def unasked(site: SiteMachine) -> SiteMachine:
    """A site where sudo does not ask yet."""
    site.machine.run(["/bin/sed", "-i", "/pam_mfa/d", *FILES])
    site.start()
    return site


def asks(machine: Machine) -> bool:
    """Whether sudo's files have our line."""
    lines = [machine.read(path).count(sudo_line()) for path in FILES]
    assert lines in ([0, 0], [1, 1])
    return lines == [1, 1]


def enable(machine: Machine, service: str, time: str) -> None:
    machine.run([PAM_MFA, "try", "enable", service, "--rollback", time])


def state(machine: Machine) -> str:
    found: dict[str, Any] = json.loads(machine.run([PAM_MFA, "try", "status", "--json"]).stdout)
    return str(found["state"])


def wait_until_taken_back(machine: Machine) -> None:
    wait_for("the end of the time", lambda: state(machine) == "restored")
    wait_for("the end of who watched it", lambda: not machine.processes("\0try\0watch"))


def test_who_was_locked_out_is_let_in_again(unasked: SiteMachine) -> None:
    """carol has nothing enrolled, and there is nobody else."""
    enable(unasked.machine, "sudo", "3s")
    assert asks(unasked.machine)
    carol = unasked.sudo(user="carol")
    carol.expect(CODE)
    wait_until_taken_back(unasked.machine)
    assert not asks(unasked.machine)
    assert unasked.sudo(user="carol").ends_with(0) == ROOT


def test_who_got_in_confirms(unasked: SiteMachine) -> None:
    enable(unasked.machine, "sudo", "10m")
    sudo = unasked.sudo(*CONFIRM)
    sudo.answer(CODE, unasked.alice.code())
    assert "was confirmed, and stays" in sudo.ends_with(DONE)
    wait_for("the end of who watched it", lambda: not unasked.machine.processes("\0try\0watch"))
    assert asks(unasked.machine)


def test_a_shell_that_was_open_before_does_not(unasked: SiteMachine) -> None:
    shell = unasked.sudo("/bin/sh", "-c", f"echo ready; read go; {' '.join(CONFIRM)}")
    shell.expect("ready")
    enable(unasked.machine, "sudo", "10m")
    shell.type("")
    assert "nobody has got in here by sudo since the change" in shell.ends_with(REFUSED)
    assert unasked.machine.run(CONFIRM, check=False).returncode == REFUSED
    assert state(unasked.machine) == "waiting"


def test_sudo_does_not_let_anybody_in_for_an_answer_before_the_change(unasked: SiteMachine) -> None:
    """In the terminal that the change was made in, too."""
    unasked.machine.write("/etc/sudoers.d/people", "alice ALL = (ALL) ALL\n", 0o440)
    both = f"sudo {PAM_MFA} try enable sudo > /dev/null && sudo -n true; sudo {' '.join(CONFIRM)}"
    shell = unasked.terminals.run(["/bin/sh", "-c", both], "alice")
    shell.answer("password for alice: ", PASSWORDS["alice"])
    shell.expect("sudo: a password is required")
    shell.answer("password for alice: ", PASSWORDS["alice"])
    shell.answer(CODE, unasked.alice.code())
    assert "was confirmed, and stays" in shell.ends_with(DONE)


def test_a_change_of_sshd_is_confirmed_through_sshd(served_site: SiteMachine) -> None:
    site = served_site
    site.machine.run(["/bin/sed", "-i", "/pam_mfa/d", *FILES])
    site.start(section=PASSWORD_AND_CODE)
    site.machine.run(["/bin/sed", "-i", "/pam_mfa/d", "/etc/pam.d/sshd"])
    enable(site.machine, "sshd", "10m")
    assert "nobody has got in here by sshd" in site.sudo(*CONFIRM).ends_with(REFUSED)
    ssh = site.ssh("-t", "sudo", *CONFIRM)
    ssh.answer(CODE, site.alice.code())
    ssh.answer("password for alice: ", PASSWORDS["alice"])
    assert "was confirmed, and stays" in ssh.ends_with(DONE)


def root_shell(site: SiteMachine, *arguments: str) -> Terminal:
    """`pam-mfa try` in root's interactive shell, which the terminal's end takes with it."""
    shell = site.terminals.run(["/bin/bash", "--norc", "-i"], None)
    shell.type(" ".join((PAM_MFA, "try", *arguments)))
    return shell


def test_a_closed_terminal_changes_nothing(unasked: SiteMachine) -> None:
    shell = root_shell(unasked, "enable", "sudo", "--rollback", "3s")
    shell.expect("Keep this shell open.")
    shell.close()
    assert unasked.machine.processes("\0try\0watch")
    wait_until_taken_back(unasked.machine)
    assert not asks(unasked.machine)


def test_a_terminal_that_closes_while_the_change_is_made(unasked: SiteMachine) -> None:
    sed = f"sed -i /@include.common-auth/d {FILES[0]}"
    shell = root_shell(unasked, "--rollback", "3s", "--", "/bin/sh", "-c", f"'{sed}; echo changed; read forever'")
    shell.expect("changed\r\n")
    shell.hang_up(signal.SIGHUP)
    shell.close()
    wait_until_taken_back(unasked.machine)
    assert unasked.sudo().ends_with(0) == ROOT


def test_who_began_it_is_killed_while_the_change_is_made(unasked: SiteMachine) -> None:
    shell = root_shell(
        unasked, "--rollback", "3s", "--", "/bin/sh", "-c", f"'rm {FILES[0]}; echo changed; read forever'"
    )
    shell.expect("changed\r\n")
    (pid,) = unasked.machine.processes("\0try\0--rollback")
    unasked.machine.run(["/bin/kill", "-KILL", str(pid)])
    wait_until_taken_back(unasked.machine)
    assert unasked.sudo().ends_with(0) == ROOT


def test_a_policy_is_taken_back_and_the_service_told(served_site: SiteMachine) -> None:
    """Nobody is let in unenrolled any more, and then again."""
    site = served_site
    site.start('[[rule]]\nname = "sudo"\nservices = ["sudo"]\nunenrolled = "allow"')
    assert site.sudo(user="carol").ends_with(0) == ROOT
    before = site.machine.read(SETTINGS)
    change = [PAM_MFA, "config", "set", "rule[sudo].unenrolled", "deny"]
    site.machine.run([PAM_MFA, "try", "--rollback", "4s", "--", *change])
    wait_for("the new policy", lambda: asked(site, "carol"))
    wait_until_taken_back(site.machine)
    assert site.machine.read(SETTINGS) == before
    wait_for("the old policy", lambda: not asked(site, "carol"))
    assert site.machine.run([PAM_MFA, "config", "validate"]).returncode == DONE


def asked(site: SiteMachine, user: str) -> bool:
    """Whether sudo asks for more than the password."""
    sudo = site.sudo(user=user)
    found = sudo.which(CODE)
    sudo.close()
    return found == CODE


def test_a_bad_policy_is_never_written(site: SiteMachine) -> None:
    site.start()
    before = site.machine.read(SETTINGS)
    change = [PAM_MFA, "config", "set", "policy.methods", '["totp", "password"]']
    done = site.machine.run([PAM_MFA, "try", "--", *change], check=False)
    assert done.returncode == REFUSED
    assert 'policy.methods[1]: unknown method "password"' in done.stderr
    assert site.machine.read(SETTINGS) == before


def test_what_is_tried_leaves_words_in_the_log(unasked: SiteMachine) -> None:
    enable(unasked.machine, "sudo", "1s")
    (line,) = unasked.machine.wait_for_journal("try: taken back: ")
    assert line.endswith(f"taken back: {', '.join(FILES)}")


# With systemd


def units(system: Booted) -> list[str]:
    """Those that watch the time."""
    listed = system.run(["systemctl", "list-units", "--plain", "--no-legend", "pam-mfa-try*"]).stdout
    return [line.split()[0] for line in listed.splitlines()]


class TestWithSystemd:
    """Who watches the time is a unit."""

    def test_it_outlives_whoever_ends_it(self, own: Installed) -> None:
        enable(own, "sudo", "6s")
        (unit,) = units(own)
        first = own.main_pid(unit)
        own.run(["systemctl", "kill", "--signal=KILL", unit])
        wait_for("another process", lambda: own.main_pid(unit) not in (first, "0"))
        assert asks(own)
        wait_for("the end of the time", lambda: state(own) == "restored")
        assert not asks(own)
        wait_for("the end of the unit", lambda: units(own) == [])
        assert "try: taken back: " in own.records()

    def test_what_was_tried_before_a_reboot_is_taken_back(self, own: Installed) -> None:
        """The reboot: nobody watches any more, and it is another life."""
        enable(own, "sudo", "24h")
        own.run(["systemctl", "stop", *units(own)])
        own.run(["systemctl", "start", "pam-mfa-try.service", "--no-block"])
        pending = "/var/lib/pam-mfa-try/pending.json"
        own.run(["systemctl", "stop", "pam-mfa-try.service"])
        assert asks(own)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        own.run(["/bin/sed", "-i", f"s/{boot}/another/", pending])
        own.run(["systemctl", "start", "pam-mfa-try.service"])
        assert not asks(own)
        assert own.run(["systemctl", "is-enabled", "pam-mfa-try.service"]).stdout == "enabled\n"

    def test_the_service_is_told_of_new_settings(self, own: Installed) -> None:
        assert "Reloaded " not in own.records("--unit=pam-mfad")
        own.run([PAM_MFA, "config", "set", "fail_delay", "1.5"])
        wait_for("the reload", lambda: "Reloaded " in own.records("--unit=pam-mfad"))

    def test_uninstall_waits_for_its_end(self, own: Installed) -> None:
        """It would give its line back to a file, for a module that is gone."""
        enable(own, "sudo", "24h")
        own.run(["/bin/sed", "-i", "/pam_mfa/d", *FILES])
        done = own.run(UNINSTALL, check=False)
        assert done.returncode == 1
        assert "pam-mfa try rollback" in done.stderr
        own.run([PAM_MFA, "try", "rollback"])
        own.run(UNINSTALL)
        assert own.run(["/bin/ls", "/var/lib"]).stdout.split().count("pam-mfa-try") == 0
