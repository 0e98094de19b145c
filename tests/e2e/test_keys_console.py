"""Security keys at a virtual console, where the default settings ask for them, and where those do not."""

from __future__ import annotations

import pytest
from e2e.keyed import (
    CODE,
    NAME,
    PIN,
    TOUCH,
    WRONG_PIN,
    asked,
    console,
    enrolled_by_root,
    prepare_console,
    shown_list,
    touched,
    wait_until_cancelled,
)
from e2e.site_machine import KEY_AND_CODE, PASSWORD_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS
from vdev.keys import Keys

VERIFIED = '[[rule]]\nservices = ["login"]\nuser_verification = "required"\n'


def log_in(site: SiteMachine) -> Terminal:
    """The account's password is given."""
    login = console(site)
    login.answer("Password: ", PASSWORDS["alice"])
    return login


def lets_in(site: SiteMachine, login: Terminal, count: int = 1) -> None:
    """There is a shell at that console."""
    login.expect("$ ")
    login.type("id -un; tty")
    login.expect("alice\r\n/dev/tty1\r\n$ ")
    login.type("exit")
    login.end()
    record = site.last_record(count)
    assert (record["outcome"], record["role"], record["service"]) == ("GRANTED", site.side, "login")
    assert record["tty"].endswith("tty1")


def test_of_two_keys_the_right_one_blinks(site: SiteMachine, keys: Keys) -> None:
    prepare_console(site)
    site.start()
    red = keys.key("red", insert=False)
    red.inject(touch="never")
    blue = enrolled_by_root(site, keys.key("blue"), NAME)
    blue.remove()
    with site.terminals.story("console-two-keys"):
        red.insert()
        blue.insert()
        login = log_in(site)
        login.expect(TOUCH)
        touched(blue)
        lets_in(site, login)
    assert asked(red) == [False]


def test_a_wrong_pin_and_the_right_one(site: SiteMachine, keys: Keys) -> None:
    prepare_console(site)
    site.start(VERIFIED)
    blue = enrolled_by_root(site, keys.key("blue", pin=PIN), NAME, PIN)
    with site.terminals.story("console-wrong-pin-and-the-right-one"):
        login = log_in(site)
        login.answer(f'PIN of your security key "{NAME}" (8 tries left): ', WRONG_PIN)
        login.expect("That was not the PIN of the security key: try again.")
        login.answer(CODE, site.alice.code())
        lets_in(site, login)
        login = log_in(site)
        login.answer(f'PIN of your security key "{NAME}" (7 tries left): ', PIN)
        login.expect(TOUCH)
        touched(blue)
        lets_in(site, login, 2)
    assert blue.state()["pin_tries"] == 8
    assert not [line for line in site.machine.journal() if PIN in line or WRONG_PIN in line]


def test_two_keys_want_a_pin(site: SiteMachine, keys: Keys) -> None:
    """The touched one's is asked for."""
    prepare_console(site)
    site.start(VERIFIED)
    blue = enrolled_by_root(site, keys.key("blue", pin=PIN), NAME, PIN)
    red = enrolled_by_root(site, keys.key("red", pin=WRONG_PIN), "red", WRONG_PIN)
    with site.terminals.story("console-two-keys-with-pins"):
        login = log_in(site)
        login.expect("Several security keys want a PIN: touch the one to use.")
        blue.wait_for_user()
        touched(red)
        login.answer('PIN of your security key "red" (8 tries left): ', WRONG_PIN)
        login.expect('Touch your security key "red"')
        touched(red)
        lets_in(site, login)
    wait_until_cancelled(blue)
    assert blue.state()["pin_tries"] == 8


def test_pulled_out_and_plugged_in_again(site: SiteMachine, keys: Keys) -> None:
    prepare_console(site)
    site.start()
    with site.terminals.story("enroll-by-root"):
        blue = enrolled_by_root(site, keys.key("blue"), NAME)
        assert NAME in shown_list(site, None)
    with site.terminals.story("console-unplugged"):
        login = log_in(site)
        login.expect(TOUCH)
        blue.wait_for_user()
        blue.remove()
        login.expect("The security key was removed: plug it in again.")
        blue.insert()
        login.expect(TOUCH)
        touched(blue)
        lets_in(site, login)


# Not at this host


@pytest.mark.parametrize("section", [PASSWORD_AND_CODE, KEY_AND_CODE])
def test_ssh_is_never_asked_for_a_key_of_this_host(site: SiteMachine, keys: Keys, section: str) -> None:
    site.start(section=section)
    blue = enrolled_by_root(site, keys.key("blue"), NAME)
    ssh = site.ssh("/usr/bin/id", "-un", key=section == KEY_AND_CODE)
    ssh.answer(CODE, site.alice.code())
    assert ssh.ends_with(0) == "\r\nalice\r\n"
    assert "security key" not in ssh.transcript
    assert blue.trace() == []


def test_a_session_of_unknown_origin_is_not_asked(site: SiteMachine, keys: Keys) -> None:
    """It may have come by ssh: sudo's says nothing of that, and nobody else does here."""
    site.start()
    blue = enrolled_by_root(site, keys.key("blue"), NAME)
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == "\r\n0\r\n"
    assert blue.trace() == []
