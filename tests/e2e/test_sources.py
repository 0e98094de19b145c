"""R03 with real sshd and sudo: guesses with alice's password from elsewhere keep her out nowhere she was before."""

from __future__ import annotations

from e2e.site_machine import PASSWORD_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS

CODE = "Verification code: "
AGAIN = f"Not accepted (each code works once). {CODE}"
WAITS = "Too many wrong answers: totp counts again in "
WHO = ("/usr/bin/id", "-un")
ALICE = "\r\nalice\r\n"
STRANGER = "127.0.0.66"  # loopback has more addresses than one


def ssh_from(site: SiteMachine, address: str) -> Terminal:
    """An ssh to alice's account, past the password."""
    argv = ["/usr/bin/ssh", "-b", address, *site.ssh_options(), "alice@127.0.0.1", *WHO]
    ssh = site.terminals.run(argv, "alice")
    ssh.answer("Password: ", PASSWORDS["alice"])
    return ssh


def guess(site: SiteMachine) -> None:
    """Six wrong codes from elsewhere, in two logins."""
    for prompts in ((CODE, AGAIN, AGAIN), (CODE, AGAIN, AGAIN)):
        ssh = ssh_from(site, STRANGER)
        for prompt in prompts:
            ssh.answer(prompt, site.alice.wrong())
        site.refuses(ssh)


def test_r03_a_stranger_with_the_password_keeps_nobody_out(site: SiteMachine) -> None:
    site.start(section=PASSWORD_AND_CODE)
    at_home = ssh_from(site, "127.0.0.1")
    at_home.answer(CODE, site.alice.code())
    assert at_home.ends_with(0) == ALICE
    guess(site)
    told = site.machine.run(["/usr/bin/pam-mfa", "status", "--user", "alice"]).stdout
    assert "totp: too many wrong answers; none is accepted for " in told
    assert "\n  totp, where it was proven lately: ready at 1 of 1 places\n" in told
    waiting = ssh_from(site, STRANGER)
    waiting.answer(WAITS, site.alice.code())
    waiting.answer(WAITS, site.alice.code())
    waiting.answer(WAITS, site.alice.code())
    site.refuses(waiting)
    again = ssh_from(site, "127.0.0.1")
    again.answer(CODE, site.alice.code())
    assert again.ends_with(0) == ALICE
    assert WAITS not in again.transcript


def test_r03_nor_from_sudo_at_the_console(site: SiteMachine) -> None:
    site.start(section=PASSWORD_AND_CODE)
    become_root(site)
    guess(site)
    assert WAITS not in become_root(site)


def become_root(site: SiteMachine) -> str:
    """A sudo with a code, right at once; what its terminal showed."""
    sudo = site.sudo(*WHO)
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0).endswith("root\r\n")
    return sudo.transcript
