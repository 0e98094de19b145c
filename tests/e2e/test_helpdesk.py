"""The help desk's stories with the real `pam-mfa`, sudo and ssh, by service and by engine."""

from __future__ import annotations

import re

from e2e.site_machine import PASSWORD_AND_CODE, SiteMachine
from e2e.test_story import become_root, prove, take_secret
from people import Person, sql

PAM_MFA = "/usr/bin/pam-mfa"
CODE = "Verification code: "
TICKET = re.compile(r"^  ((?:[0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4})$", re.MULTILINE)
WHY = "case 4711, phone lost"
ROOT = "\r\n0\r\n"
GIVEN_OUT = "Second factor: a one-time code given out by root, "
REMOVED = "Second factor: all that was enrolled removed by root, "


def issue(site: SiteMachine, user: str) -> str:
    """The one-time code that root gets for somebody."""
    shown = site.machine.run([PAM_MFA, "issue-code", user, "--valid", "1h", "--reason", WHY]).stdout
    (code,) = TICKET.findall(shown)
    return str(code)


def reset(site: SiteMachine, user: str) -> None:
    """Root removes what somebody has."""
    site.machine.run([PAM_MFA, "reset", user], input=f"{WHY}\n{user}\n")


def test_who_has_nothing_gets_in_once(site: SiteMachine) -> None:
    site.start(section=PASSWORD_AND_CODE)
    ended, code = issue(site, "carol"), issue(site, "carol")
    sudo = become_root(site, ended)
    sudo.answer("Not accepted (each code works once). Verification code: ", code.lower().replace("-", ""))
    said = sudo.ends_with(0)
    assert said.endswith(ROOT)
    assert "One-time code used. Enrol with: pam-mfa enroll\r\n" in said
    assert said.count(GIVEN_OUT) == 2

    again = become_root(site, code)
    again.answer(CODE, code)
    again.answer(CODE, code)
    again.expect("Sorry, try again.")
    again.interrupt()
    again.end()

    third = issue(site, "carol")
    ssh = site.ssh("/usr/bin/id", "-un", user="carol")
    ssh.answer(CODE, third)
    assert ssh.ends_with(0) == "\r\ncarol\r\n"  # nobody reads what sshd shows at a terminal
    fourth = issue(site, "carol")
    shell = site.ssh(user="carol")
    shell.answer(CODE, fourth)
    for words in ("One-time code used.", GIVEN_OUT, GIVEN_OUT, "If you know nothing of that"):
        shell.expect(words)
    shell.expect("$ ")
    shell.type("exit")
    shell.ends_with(0)
    shown = site.machine.run([PAM_MFA, "list", "--user", "carol"]).stdout
    assert re.search(r"one-time code +ticket .* used ", shown)
    log = "\n".join(site.machine.journal())
    assert log.count(f'note="{WHY}"') == 8  # of each code: that it was made, and that the command has ended
    assert code not in log
    assert code.replace("-", "") not in log


def test_a_fresh_start(site: SiteMachine) -> None:
    site.start()
    reset(site, "alice")
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.code())
    sudo.answer(CODE, site.alice.recovery[0])
    code = issue(site, "alice")
    sudo.answer(CODE, code)
    assert sudo.which("Sorry, try again.")  # it began when she had none
    sudo.interrupt()
    sudo.end()
    sudo = site.sudo()
    sudo.answer(CODE, code)
    said = sudo.ends_with(0)
    assert said.endswith(ROOT)
    assert REMOVED in said
    assert site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout.count("ticket") == 1
    code = issue(site, "alice")
    again = site.sudo()
    again.answer(CODE, code)
    assert REMOVED not in again.ends_with(0)


def test_a_damaged_account(site: SiteMachine) -> None:
    site.start()
    sql(site.machine, "UPDATE account SET seal = x'00' WHERE user = 'alice'")
    refused = site.sudo(answer=False)
    refused.answer("password for alice: ", "correct horse")
    refused.expect("Sorry, try again.")
    refused.interrupt()
    refused.end()
    reset(site, "alice")
    code = issue(site, "alice")
    sudo = site.sudo()
    sudo.answer(CODE, code)
    assert sudo.ends_with(0).endswith(ROOT)


def test_the_first_credential_costs_a_code(served_site: SiteMachine) -> None:
    """S08: whoever has the password alone enrols nothing."""
    site, carol = served_site, Person("carol", served_site.people["carol"].uid)
    site.start("first_enrolment = 'ticket'")
    with site.terminals.story("first-by-ticket"):
        refused = site.terminals.run([PAM_MFA, "enroll", "totp"], "carol")
        assert "pam-mfa issue-code carol" in refused.ends_with(3)
        desk = site.terminals.run([PAM_MFA, "issue-code", "carol", "--reason", WHY], None)
        (code,) = TICKET.findall(desk.ends_with(0).replace("\r", ""))
        enroll = site.terminals.run([PAM_MFA, "enroll", "totp"], "carol")
        take_secret(enroll, carol)
        prove(enroll, carol, then="Now the one-time code from your administrator.")
        enroll.answer(CODE, code)
        enroll.expect("One-time code used.")
        enroll.ends_with(0)
        sudo = become_root(site, carol.code())
        assert 'Second factor: totp "totp 1" enrolled by you, ' in sudo.ends_with(0)
    again = site.terminals.run([PAM_MFA, "enroll", "totp"], "carol")
    again.answer(CODE, code)
    again.answer(CODE, code)
    again.answer(CODE, code)
    assert "otpauth" not in again.ends_with(3)
