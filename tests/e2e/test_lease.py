"""Leases with real sudo and sshd: a second login from the same place is not asked, any other one is (R15)."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial

import pytest
from e2e.site_machine import KEY_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from hosts import records
from machine import PASSWORDS, wait_for
from people import OURS
from seats import Seats

CODE = "Verification code: "
LEASE = "[policy]\nmethods = ['totp', 'recovery']\nlease = '10m'\n"
AFAR = "[[rule]]\nservices = ['sshd']\nnetworks = ['127.0.0.0/8']\nfirst_factor = 'publickey'\nlease = '10m'\n"
HINT = "No terminal to ask on: use one (ssh -t), where a proof holds for 10 min, also for scripts"
WHO = ("/usr/bin/id", "-un")


SUDO = ("/usr/bin/sudo", "/usr/bin/id", "-u")
EACH = "while read -r go; do sh -c 'echo pid $$ .; read -r command; eval \"exec $command\"'; done"


class Shell:
    """A terminal of alice's in one session of logind's, in which she runs one command after the other."""

    def __init__(self, site: SiteMachine, seats: Seats, session: str) -> None:
        self.terminal: Terminal = site.terminals.run(["/bin/sh", "-c", EACH])
        self._seats, self._session = seats, session

    def run(self, command: str = shlex.join(SUDO)) -> Terminal:
        """Begin a command; the process that it replaces is in the session."""
        self.terminal.type("go")
        self._seats.put(int(self.terminal.match(r"pid (\d+) \.\r\n")), self._session)
        self.terminal.type(command)
        self.terminal.expect(f"{command}\r\n")
        return self.terminal

    def sudo(self) -> Terminal:
        """Begin sudo, and give it the account's password."""
        terminal = self.run()
        terminal.answer("password for alice: ", PASSWORDS["alice"])
        return terminal

    def is_asked(self, code: str) -> bool:
        """Whether sudo asks for a code; it lets alice in."""
        terminal = self.sudo()
        asked = terminal.which(CODE, "\r\n0\r\n") == CODE
        if asked:
            terminal.type(code, hidden=True)
            terminal.expect("\r\n0\r\n")
        return asked


@pytest.fixture
def seats(site: SiteMachine) -> Seats:
    return Seats(site.machine)


def test_sudo_twice(site: SiteMachine, seats: Seats) -> None:
    site.start(LEASE)
    ssh = seats.open("1", "alice", remote=True)
    shell = Shell(site, seats, ssh)
    assert shell.is_asked(site.alice.code())
    assert not shell.is_asked("")
    assert site.outcomes(2) == ["GRANTED", "EXEMPT"]
    last = records(site.machine)[-1]
    assert (last["reason"], last["role"], last["service"]) == ("lease", site.side, "sudo")
    listed = site.machine.run(["/usr/bin/pam-mfa", "lease", "list", "--user", "alice"]).stdout.splitlines()
    assert listed[1].split()[:3] == ["sudo", last["tty"], "alice"]
    # Another terminal of the same session.
    assert Shell(site, seats, ssh).is_asked(site.alice.code())
    assert not shell.is_asked("")
    revoked = site.machine.run(["/usr/bin/pam-mfa", "lease", "revoke", "alice"])
    assert revoked.stdout == "Ended: 2.\n"
    assert shell.is_asked(site.people["alice"].recovery[0])
    assert shell.is_asked(site.people["alice"].recovery[1])  # a recovery code gives none


def by_user(site: SiteMachine) -> None:
    """What alice herself may do; the service is asked, or nobody."""
    if site.side == "service":
        assert site.machine.run(["/usr/bin/pam-mfa", "lease", "revoke"], "alice").stdout == "Ended: 1.\n"
    else:
        by_root(site)


def by_root(site: SiteMachine) -> None:
    """Everybody's."""
    assert site.machine.run(["/usr/bin/pam-mfa", "lease", "revoke", "--all"]).stdout == "Ended: 1.\n"


def by_new_codes(site: SiteMachine) -> None:
    """A credential is replaced."""
    site.machine.run(["/usr/bin/pam-mfa", "recovery", "--new", "--user", "alice"])


def by_trying(site: SiteMachine) -> None:
    """What is tried shall be seen in a login that asks."""
    site.machine.run(["/usr/bin/pam-mfa", "try", "--", "/bin/sh", "-c", "echo >> /etc/pam.d/sudo"])
    site.machine.run(["/usr/bin/pam-mfa", "try", "rollback"])


@pytest.mark.parametrize("end", [by_user, by_root, by_new_codes, by_trying])
def test_what_ends_it(site: SiteMachine, seats: Seats, end: Callable[[SiteMachine], None]) -> None:
    site.start(LEASE)
    shell = Shell(site, seats, seats.open("1", "alice", seat="seat0"))
    assert shell.is_asked(site.alice.code())
    end(site)
    assert shell.is_asked(site.alice.code())


def test_a_lock_out_elsewhere(site: SiteMachine, seats: Seats) -> None:
    site.start(LEASE)
    shell = Shell(site, seats, seats.open("1", "alice", remote=True))
    assert shell.is_asked(site.alice.code())
    guessing = site.sudo()
    for _ in range(2):
        for _ in range(3):
            guessing.answer(CODE, site.alice.wrong())
        guessing.answer("password for alice: ", PASSWORDS["alice"])
    guessing.expect("Too many wrong answers")
    assert shell.sudo().which("Too many wrong answers", "\r\n0\r\n") == "Too many wrong answers"


def test_sshd_from_a_network_with_a_key(site: SiteMachine) -> None:
    site.start(AFAR, KEY_AND_CODE)
    ssh = site.ssh(*WHO, key=True)
    ssh.answer(CODE, site.alice.code())
    ssh.ends_with(0)
    assert site.ssh(*WHO, key=True).ends_with(0) == "alice\r\n"
    assert site.outcomes(2) == ["GRANTED", "EXEMPT"]
    # With another key of hers.
    site.machine.run(["/bin/sh", "-c", NEW_KEY])
    ssh = site.ssh(*WHO, key=True)
    ssh.answer(CODE, site.alice.code())
    ssh.ends_with(0)


NEW_KEY = """
set -eu
cd /home/alice/.ssh
rm id_ed25519 id_ed25519.pub
ssh-keygen -q -t ed25519 -N '' -f id_ed25519
cp id_ed25519.pub authorized_keys
chown alice:alice *
"""


def test_sshd_without_a_network_in_the_rule(site: SiteMachine) -> None:
    site.start(AFAR.replace("networks = ['127.0.0.0/8']\n", ""), KEY_AND_CODE)
    for _ in range(2):
        ssh = site.ssh(*WHO, key=True)
        ssh.answer(CODE, site.alice.code())
        ssh.ends_with(0)
    assert site.outcomes(2) == ["GRANTED"] * 2


# Scripts


def test_without_a_terminal_sudo_fails_at_once_and_says_how(site: SiteMachine) -> None:
    """Where nothing else asks before; pam_unix would, and sudo says that a terminal is required."""
    site.machine.write("/etc/pam.d/sudo", OURS)
    site.start(LEASE)
    done = site.machine.run(["/usr/bin/setsid", "--wait", "/usr/bin/sudo", "/usr/bin/id"], "alice", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == HINT
    assert done.stderr.count(HINT) == 1
    assert site.last_record(1)["outcome"] == "ABORTED"


def test_a_script_of_the_same_terminal_goes_on(site: SiteMachine, seats: Seats) -> None:
    """It has neither input nor output there. sudo -n asks PAM at all where sudoers has noninteractive_auth."""
    site.machine.write("/etc/pam.d/sudo", OURS)
    site.machine.write("/etc/sudoers.d/scripts", "Defaults noninteractive_auth\n", 0o440)
    site.start(LEASE)
    session = seats.open("1", "alice", remote=True)
    shell = Shell(site, seats, session)
    shell.run("/usr/bin/sudo -v").answer(CODE, site.alice.code())
    site.outcomes(1)
    for number, option in enumerate(("", "-n"), 2):
        shell.run(f"/usr/bin/sudo {option} /usr/bin/tee /run/out{number} < /etc/hostname > /dev/null 2>&1")
        assert site.outcomes(number)[-1] == "EXEMPT"
        wait_for("what the script wrote", partial(written, site, f"/run/out{number}"))
    shell.run("/usr/bin/setsid --wait /usr/bin/sudo /usr/bin/id").expect(
        "a password is required"
    )  # a session of its own


def written(site: SiteMachine, name: str) -> bool:
    """Whether there is something in a file."""
    path = site.machine.path(name)
    return path.exists() and path.stat().st_size > 0


def test_sudo_n_asks_nobody_by_itself(site: SiteMachine, seats: Seats) -> None:
    site.machine.write("/etc/pam.d/sudo", OURS)
    site.start(LEASE)
    shell = Shell(site, seats, seats.open("1", "alice", remote=True))
    shell.run("/usr/bin/sudo -v").answer(CODE, site.alice.code())
    shell.run("/usr/bin/sudo -n /usr/bin/id").expect("a password is required")
    assert site.outcomes(1) == ["GRANTED"]
