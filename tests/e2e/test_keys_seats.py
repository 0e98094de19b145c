"""Security keys in sudo with the default settings: offered to whoever sits at the host, by logind's word."""

from __future__ import annotations

import pytest
from e2e.keyed import CODE, NAME, ROOT, TOUCH, enrolled_by_root, touch_opens, touched
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS
from seats import Seats
from vdev.keys import Key, Keys

# What an attacker, or tmux, may have in the environment: none of it says anything.
DESK_WORDS = ("XDG_SESSION_ID=1", "XDG_SEAT=seat0", "XDG_VTNR=1", "DISPLAY=:0")
WAIT_THEN = 'read -r go; exec /usr/bin/env "$@"'


@pytest.fixture
def site(served_site: SiteMachine) -> SiteMachine:
    """By the service: what shows virtual keys to an engine hides the cgroups from it."""
    return served_site


@pytest.fixture
def blue(site: SiteMachine, served_keys: Keys) -> Key:
    """alice's key, on a site that has started."""
    site.start()
    return enrolled_by_root(site, served_keys.key("blue"), NAME)


@pytest.fixture
def seats(site: SiteMachine) -> Seats:
    """Nobody's session yet."""
    return Seats(site.machine)


def sudo_in(site: SiteMachine, seats: Seats, cgroup: str, *environment: str) -> Terminal:
    """sudo of alice's in that cgroup; the account's password is given."""
    command = ["/bin/sh", "-c", WAIT_THEN, "sh", *environment, "/usr/bin/sudo", "/usr/bin/id", "-u"]
    sudo = site.terminals.run(command)
    seats.put(sudo.pid, cgroup)
    sudo.type("go")
    sudo.answer("password for alice: ", PASSWORDS["alice"])
    return sudo


def test_sudo_at_the_desk(site: SiteMachine, seats: Seats, blue: Key) -> None:
    touch_opens(sudo_in(site, seats, seats.open("1", "alice", seat="seat0")), blue)
    assert site.last_record(1)["factor"] == "fido2"


def test_sudo_in_a_terminal_of_the_desktop(site: SiteMachine, seats: Seats, blue: Key) -> None:
    """The desktop starts it through the user's service manager, which belongs to no session."""
    seats.open("1", "alice", seat="seat0")
    touch_opens(sudo_in(site, seats, seats.manager("alice")), blue)


def test_sudo_inside_ssh(site: SiteMachine, seats: Seats, blue: Key) -> None:
    """While somebody sits at the host, and whatever the environment says."""
    seats.open("1", "alice", seat="seat0")
    ssh = seats.open("2", "alice", remote=True)
    for count, cgroup in enumerate((ssh, f"{ssh}/tmux", seats.manager("alice")), 1):
        sudo = sudo_in(site, seats, cgroup, *DESK_WORDS)
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT
        assert site.last_record(count)["factor"] == "totp"
    assert blue.trace() == []


def test_managing_the_account_at_the_desk(site: SiteMachine, seats: Seats, blue: Key) -> None:
    """A change costs a touch there instead of a code."""
    command = ["/bin/sh", "-c", WAIT_THEN, "sh", "/usr/bin/pam-mfa", "recovery", "--new"]
    renew = site.terminals.run(command)
    seats.put(renew.pid, seats.open("1", "alice", seat="seat0"))
    renew.type("go")
    renew.expect(TOUCH)
    touched(blue)
    renew.ends_with(0)
