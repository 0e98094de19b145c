"""The roll-out with real sudo, ssh and login(1): let in for some days, a number of times, then enrolled or refused."""

from __future__ import annotations

import pytest
from e2e.keyed import console, prepare_console
from e2e.site_machine import KEY_AND_CODE, PASSWORD_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from hosts import records
from machine import PASSWORDS
from newcomers import ENTER, NEEDED, SHOWN, take_codes, take_secret
from people import configure

CODE = "Verification code: "
AGAIN = "Sorry, try again."
ROOT = "\r\n0\r\n"
WHO = ("/usr/bin/id", "-un")
CAROL = "\r\ncarol\r\n"
CALL = "Call the help desk: 0800 123"
ENROLS = "[policy]\nenrol_at_login = true\n"
DAYS, LAST = " days are left, ", "this is the last login; from then on it is needed here)"


def decree(site: SiteMachine, text: str) -> None:
    """The administrator changes the settings."""
    configure(site.machine, text)
    if site.side == "service":
        site.machine.service.stop()
        site.machine.service.start()


def enrolled_on(site: SiteMachine, terminal: Terminal) -> None:
    """Carol reads the secret, gives the code, and writes the recovery codes down."""
    carol = site.people["carol"]
    terminal.expect(NEEDED)
    terminal.type(take_secret(carol, terminal.match(rf"((?s:.*)){SHOWN}")))
    take_codes(carol, terminal.match(rf"((?s:.*)){ENTER}"))
    terminal.type("")


def test_the_whole_story(site: SiteMachine) -> None:
    """Days and logins that are left, the last one, the enrolment, and codes from then on."""
    site.start("[policy]\nenrol_by = 2099-12-31\nlogins_left = 2\n" + ENROLS.partition("\n")[2])
    for words in (DAYS + "1 login is left;", DAYS + LAST):
        sudo = site.sudo(user="carol")
        sudo.expect("Enrol a second factor with: pam-mfa enroll (")
        sudo.expect(words)
        assert sudo.ends_with(0).endswith(ROOT)
    sudo = site.sudo(user="carol")
    enrolled_on(site, sudo)
    assert sudo.ends_with(0) == ROOT
    record = site.last_record(3)
    assert (record["outcome"], record["reason"], record["role"]) == ("GRANTED", "proven_enrolled", site.side)
    assert [each["factor"] for each in records(site.machine, "enroll")] == ["totp", "recovery"]
    carol = site.people["carol"]
    for code in (carol.code(), carol.recovery[3]):
        sudo = site.sudo(user="carol")
        sudo.answer(CODE, code)
        assert sudo.ends_with(0).endswith(ROOT)


def test_a_date_that_is_over(site: SiteMachine) -> None:
    site.start(f"[policy]\nenrol_by = 2099-12-31\nhelp = '{CALL}'")
    sudo = site.sudo(user="carol")
    sudo.expect(" days are left; from then on it is needed here)")
    assert sudo.ends_with(0).endswith(ROOT)
    decree(site, f"[policy]\nenrol_by = 2020-12-31\nhelp = '{CALL}'")
    sudo = site.sudo(user="carol")
    for _ in range(3):
        sudo.answer(CODE, "000000")
    sudo.expect(CALL)
    sudo.expect(AGAIN)
    assert site.outcomes(2) == ["EXEMPT", "TRIES_SPENT"]


@pytest.mark.parametrize("section", [PASSWORD_AND_CODE, KEY_AND_CODE])
def test_by_ssh_the_secret_is_seen_before_the_code_is_asked_for(site: SiteMachine, section: str) -> None:
    """Also by an sshd that holds text back until there is a prompt."""
    first = "self" if section == KEY_AND_CODE else "password"
    site.start(f"first_enrolment = '{first}'\n{ENROLS}", section)
    ssh = site.ssh(*WHO, user="carol", key=section == KEY_AND_CODE)
    enrolled_on(site, ssh)
    assert ssh.ends_with(0) == CAROL
    ssh = site.ssh(*WHO, user="carol", key=section == KEY_AND_CODE)
    ssh.answer(CODE, site.people["carol"].code())
    assert ssh.ends_with(0) == CAROL


def test_a_key_is_no_password(site: SiteMachine) -> None:
    site.start(ENROLS, KEY_AND_CODE)
    ssh = site.ssh(*WHO, user="carol", key=True)
    for _ in range(3):
        ssh.answer(CODE, "000000")
    site.refuses(ssh, "carol")
    assert NEEDED not in ssh.transcript
    assert site.last_record(1)["reason"] == "unenrolled"


def test_who_gives_a_wrong_password_sees_no_secret(site: SiteMachine) -> None:
    site.start(ENROLS, PASSWORD_AND_CODE)
    sudo = site.sudo(user="carol", answer=False)
    for _ in range(3):
        sudo.answer("password for carol: ", "not it")
    assert NEEDED not in sudo.ends_with(1)
    ssh = site.terminals.run(["/usr/bin/ssh", *site.ssh_options(), "carol@127.0.0.1", *WHO], "carol")
    for _ in range(3):
        ssh.answer("Password: ", "not it")
    site.refuses(ssh, "carol")
    assert NEEDED not in ssh.transcript + sudo.transcript
    assert records(site.machine) == []


def test_whom_to_call_by_ssh(site: SiteMachine) -> None:
    site.start(f"[policy]\nhelp = '{CALL}'", PASSWORD_AND_CODE)
    ssh = site.ssh(*WHO, user="carol")
    for _ in range(3):
        ssh.answer(CODE, "000000")
    ssh.expect(f"{CALL}\r\n")
    ssh.expect(ENTER)
    ssh.type("")
    site.refuses(ssh, "carol")
    assert site.outcomes(1) == ["TRIES_SPENT"]


def test_at_a_console(site: SiteMachine) -> None:
    prepare_console(site)
    site.start(f"enrol_from = {{ networks = ['192.0.2.0/24'] }}\n{ENROLS}")  # whoever sits here is in all of them
    login = console(site, "carol")
    login.answer("Password: ", PASSWORDS["carol"])
    enrolled_on(site, login)
    login.expect("$ ")
    login.type("id -un")
    login.expect("carol\r\n$ ")
    login.type("exit")
    login.end()
    assert site.last_record(1)["reason"] == "proven_enrolled"
