"""Break-glass with real sudo and login(1): the administrator at the console, and everything down (F24)."""

from __future__ import annotations

import json

import pytest
from e2e.keyed import console, prepare_console
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from hosts import records
from machine import PASSWORDS, wait_for
from people import CONFIG, STORE

CODE = "Verification code: "
REFUSED = "Not accepted (each code works once). "
AGAIN = "Sorry, try again."
USED = "Break-glass code used: 0 left. Make a new one with: sudo pam-mfa break-glass create"
ROOT = f"{USED}\r\n0\r\n"
PAM_MFA = "/usr/bin/pam-mfa"
FOLDER = "/var/lib/pam-mfa-break-glass"
# Everything that a login asks of this host, but for the module, the engine and the code.
ALL_DOWN = f"rm -rf /var/lib/pam-mfa; echo '[policy' > {CONFIG}; rm -rf /run/pam-mfa/*; ip link set lo down"
WITHOUT_NETWORK = "/usr/bin/unshare", "--net"


def made(site: SiteMachine) -> str:
    """A code, as root made it before."""
    done = site.machine.run([PAM_MFA, "break-glass", "create", "--json"])
    return str(json.loads(done.stdout)["code"])


def break_all(site: SiteMachine) -> None:
    """Settings, store, sockets and network are gone; a service that runs is killed."""
    site.machine.run(["/bin/sh", "-euc", ALL_DOWN])
    if site.side == "service":
        site.machine.service.kill()


def shell_at(login: Terminal) -> None:
    """There is one, at that console."""
    login.expect("$ ")
    login.type("id -un; tty")
    login.expect("alice\r\n/dev/tty1")
    login.type("exit")
    login.end()


def log_in(site: SiteMachine) -> Terminal:
    """The account's password is given at the console."""
    login = console(site)
    login.answer("Password: ", PASSWORDS["alice"])
    return login


def test_the_story_of_a_code(site: SiteMachine) -> None:
    """Made by root, locked away, and taken out when all else has failed."""
    prepare_console(site)
    site.start()
    with site.terminals.story("break-glass"):
        create = site.terminals.run([PAM_MFA, "break-glass", "create", "--name", "the safe"], user=None)
        code = create.match("((?:[0-9A-Z]{4}-){7}[0-9A-Z]{4})")
        create.ends_with(0)
        site.machine.run(["/bin/sh", "-euc", f"rm {STORE}*; echo '[policy' > {CONFIG}"])
        site.terminals.happened("settings and store are lost")
        login = log_in(site)
        login.answer(CODE, site.alice.code())
        login.answer(REFUSED + CODE, code)
        shell_at(login)
    assert records(site.machine)[-1]["label"] == "the safe"
    (alert,) = [line for line in site.machine.journal() if "break_glass_used" in line]
    assert alert.startswith("<81>")


def test_the_console_with_everything_down(site: SiteMachine) -> None:
    prepare_console(site)
    site.start()
    code = made(site)
    break_all(site)
    login = log_in(site)
    login.answer(CODE, code)
    shell_at(login)
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["factor"]) == ("GRANTED", "engine", "break-glass")
    for _ in range(2):
        assert "Login incorrect" in refused(site)


def refused(site: SiteMachine) -> str:
    """What login says of a password without a code, before it asks for a name again."""
    login = log_in(site)
    login.expect("login: ")
    said = login.transcript
    login.close()
    return said


def test_sudo_with_everything_down_and_a_code_used_twice(site: SiteMachine) -> None:
    site.start()
    code = made(site)
    break_all(site)
    sudo = site.sudo()
    sudo.answer(CODE, code)
    assert sudo.ends_with(0).endswith(ROOT)
    other = made(site)
    sudo = site.sudo()
    sudo.answer(CODE, code)
    sudo.answer(REFUSED + CODE, other)
    assert sudo.ends_with(0).endswith(ROOT)
    sudo = site.sudo()
    sudo.expect(AGAIN)
    assert CODE not in sudo.transcript


def test_in_a_network_namespace_with_nothing_in_it(site: SiteMachine) -> None:
    site.start()
    code = made(site)
    site.machine.run(["/bin/sh", "-euc", f"echo '[policy' > {CONFIG}; rm -rf /var/lib/pam-mfa"])
    login = site.terminals.run([*WITHOUT_NETWORK, "/bin/su", "-P", "alice", "-c", "sudo id -u"], user=None)
    login.answer("password for alice: ", PASSWORDS["alice"])
    login.answer(CODE, code)
    assert login.ends_with(0).replace("\r", "").strip().endswith("\n0")
    assert site.last_record(1)["role"] == site.side


def test_where_all_is_well_it_opens_too(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo(user="carol")
    sudo.answer(CODE, made(site))
    assert sudo.ends_with(0).endswith(ROOT)
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == "\r\n0\r\n"


@pytest.mark.parametrize("section", ["sshd, password and code"])
def test_ssh_with_a_store_that_is_gone(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    code = made(site)
    site.machine.run(["/bin/sh", "-euc", f"rm {STORE}*"])
    ssh = site.ssh("/usr/bin/id", "-un")
    ssh.answer(CODE, site.alice.code())
    ssh.answer(REFUSED + CODE, code)
    assert ssh.ends_with(0).endswith("\r\nalice\r\n")
    wait_for("the record", lambda: records(site.machine))
    assert site.machine.run(["/bin/ls", FOLDER]).stdout == ""


def test_doctor_speaks_of_it(site: SiteMachine) -> None:
    site.start()
    code = made(site)
    assert "1 unused code" in site.machine.run([PAM_MFA, "doctor"], check=False).stdout
    sudo = site.sudo()
    sudo.answer(CODE, code)
    sudo.ends_with(0)
    assert "there is no unused code" in site.machine.run([PAM_MFA, "doctor"], check=False).stdout
    assert "No break-glass code" in site.machine.run([PAM_MFA, "break-glass", "list"]).stdout
