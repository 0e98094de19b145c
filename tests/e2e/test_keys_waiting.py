"""What happens while a key is waited for, and when it is not touched: Ctrl-C, deadlines, a device service that dies."""

from __future__ import annotations

import os
import signal

import pytest
from e2e.keyed import (
    CODE,
    LOCAL,
    PAM_MFA,
    PIN,
    ROOT,
    TOUCH,
    VERIFIED,
    asked,
    blinking,
    enrolled,
    kill_broker,
    pending,
    start_device_service,
    touch_opens,
    wait_until_cancelled,
)
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import wait_for
from people import sql
from vdev.keys import Key, Keys

REFUSED = 3  # exit status of pam-mfa
NO_SERVICE = "Security keys cannot be used now: ask an administrator to run pam-mfa doctor."


def failures(site: SiteMachine) -> list[str]:
    """Wrong answers that alice's account is charged with, by factor."""
    where = "SELECT factor FROM tally WHERE uid = ? AND failures > 0x4000000000000000"
    return sql(site.machine, where, str(site.alice.uid)).split()


def opens(site: SiteMachine, key: Key, count: int) -> None:
    """The next login, which is number `count`, by a touch."""
    touch_opens(site.sudo(), key)
    assert site.last_record(count)["outcome"] == "GRANTED"


def by_code(site: SiteMachine, sudo: Terminal) -> None:
    """The next method is asked for, and lets alice in; none of what the key did counts as a wrong answer."""
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT
    assert failures(site) == []


def test_a_key_that_is_not_touched(site: SiteMachine, blue: Key) -> None:
    """A second cue after half the time, then the next method; the key blinks no more."""
    with site.terminals.story("sudo-not-touched"):
        sudo = site.sudo()
        sudo.expect(TOUCH)
        sudo.expect(f"Still waiting. {TOUCH}")
        sudo.expect("The security key was not touched in time: try again, and touch it when it blinks.")
        wait_until_cancelled(blue)
        by_code(site, sudo)
    record = site.last_record(1)
    assert (record["outcome"], record["factor"]) == ("GRANTED", "totp")


def test_no_key_until_one_is_plugged_in(site: SiteMachine, blue: Key) -> None:
    blue.remove()
    sudo = site.sudo()
    sudo.expect('Plug in your security key "blue nano"')
    blue.insert()
    touch_opens(sudo, blue)


def test_the_last_tries_of_a_pin_are_not_spent(site: SiteMachine, keys: Keys) -> None:
    site.start(VERIFIED)
    blue = enrolled(site, keys.key("blue", pin=PIN), PIN)
    blue.set(pin_tries=2)
    sudo = site.sudo()
    sudo.expect("Only the last tries of the security key's PIN are left")
    by_code(site, sudo)
    assert blue.state()["pin_tries"] == 2
    assert True not in asked(blue)


def test_ctrl_c_frees_the_key_for_the_next_login(site: SiteMachine, blue: Key) -> None:
    sudo = blinking(site, blue)
    sudo.interrupt()
    assert "a password is required" in sudo.ends_with(1)
    assert site.last_record(1)["outcome"] == "ABORTED"
    opens(site, blue, 2)


def test_a_login_that_is_killed_frees_the_key(site: SiteMachine, blue: Key) -> None:
    sudo = blinking(site, blue)
    os.kill(sudo.pid, signal.SIGKILL)
    assert site.last_record(1)["outcome"] == "ABORTED"
    opens(site, blue, 2)


def test_the_device_service_dies_while_a_key_blinks(site: SiteMachine, blue: Key) -> None:
    sudo = blinking(site, blue)
    kill_broker(site)
    sudo.expect(NO_SERVICE)
    wait_until_cancelled(blue)
    by_code(site, sudo)
    assert site.last_record(1)["factor"] == "totp"


def test_without_a_device_service_the_code_is_asked_for(served_site: SiteMachine, served_keys: Keys) -> None:
    site = served_site
    site.start(LOCAL)
    blue = enrolled(site, served_keys.key("blue"))
    kill_broker(site)
    sudo = site.sudo()
    sudo.expect(NO_SERVICE)
    by_code(site, sudo)
    assert blue.trace() == []


def test_a_device_service_that_comes_back_is_used(served_site: SiteMachine, served_keys: Keys) -> None:
    site = served_site
    site.start(LOCAL)
    blue = enrolled(site, served_keys.key("blue"))
    kill_broker(site)
    start_device_service(site)
    opens(site, blue, 1)


def test_a_file_shows_whose_login_waits_for_a_touch(site: SiteMachine, blue: Key) -> None:
    assert pending(site) == []
    sudo = blinking(site, blue)
    wait_for("the file", lambda: pending(site) == [str(site.alice.uid)])
    blue.touch()
    assert sudo.ends_with(0) == ROOT
    wait_for("the end of the file", lambda: pending(site) == [])


@pytest.mark.usefixtures("blue")
def test_a_key_that_is_enrolled_is_not_enrolled_again(site: SiteMachine) -> None:
    again = site.terminals.run([PAM_MFA, "enroll", "fido2", "--user", "alice", "--name", "again"], user=None)
    assert "That security key is enrolled already: use another one." in again.ends_with(REFUSED)
    (line,) = (line for line in listed(site) if "fido2" in line)
    assert "blue nano" in line
    assert "blue, usb, counter " in line


def listed(site: SiteMachine) -> list[str]:
    """What `pam-mfa list` shows of alice."""
    return site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout.splitlines()
