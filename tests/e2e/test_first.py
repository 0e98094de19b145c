"""From where the first credential is enrolled: `pam-mfa enroll` and sudo within sessions that logind knows."""

from __future__ import annotations

import pytest
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS
from newcomers import NEEDED
from seats import Seats

CODE = "Verification code: "
OFFICE = "enrol_from = { networks = ['192.0.2.0/24'], services = ['sshd'] }\n"
WAIT_THEN = 'read -r go; exec "$@"'
REFUSED = "the first credential cannot be enrolled from here (setting enrol_from)"
ENROLL = ("/usr/bin/pam-mfa", "enroll", "totp")
SUDO = ("/usr/bin/sudo", "/usr/bin/id", "-u")


def within(site: SiteMachine, cgroup: str, *command: str) -> Terminal:
    """A program of carol's in that cgroup."""
    terminal = site.terminals.run(["/bin/sh", "-c", WAIT_THEN, "sh", *command], "carol")
    Seats(site.machine).put(terminal.pid, cgroup)
    terminal.type("go")
    return terminal


@pytest.mark.parametrize(
    ("service", "host", "may"),
    [("sshd", "192.0.2.7", True), ("sshd", "198.51.100.7", False), ("sshd", "", False), ("xrdp", "192.0.2.7", False)],
)
def test_pam_mfa_enroll(served_site: SiteMachine, service: str, host: str, may: bool) -> None:
    served_site.start(OFFICE)
    session = Seats(served_site.machine).open("2", "carol", remote=True, service=service, host=host)
    enroll = within(served_site, session, *ENROLL)
    if may:
        enroll.answer("Password of carol: ", PASSWORDS["carol"])
        enroll.expect("Or type the secret into the app:")
    else:
        enroll.expect(REFUSED)
        enroll.ends_with(3)


def test_root_enrols_anybody_from_everywhere(site: SiteMachine) -> None:
    site.start(OFFICE)
    enroll = site.terminals.run([*ENROLL, "--user", "carol"], None)
    enroll.expect("Or type the secret into the app:")


@pytest.mark.parametrize(("host", "may"), [("192.0.2.7", True), ("198.51.100.7", False)])
def test_sudo_within_ssh(site: SiteMachine, host: str, may: bool) -> None:
    site.start(f"{OFFICE}[policy]\nenrol_at_login = true")
    session = Seats(site.machine).open("2", "carol", remote=True, service="sshd", host=host)
    sudo = within(site, session, *SUDO)
    sudo.answer("password for carol: ", PASSWORDS["carol"])
    sudo.expect(NEEDED if may else CODE)
