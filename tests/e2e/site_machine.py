"""A machine whose administrator has followed README.md: sudo and sshd ask for a code, answered by service or engine."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from typing import Any

from e2e.readme import below_include, in_place_of_include, sshd_lines, sudo_line
from e2e.terminals import Terminal, Terminals
from hosts import records
from machine import PASSWORDS, Machine, wait_for
from people import Person, Town, configure, sessions

PASSWORD_AND_CODE = "sshd, password and code"
KEY_AND_CODE = "sshd, key and code"
PORT = 2222
# Below the README's lines and above Debian's own file: in sshd_config the first value counts.
SSHD_CONFIG = f"Port {PORT}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/test_key\nPidFile none\nMaxStartups 100\n"
SUDOERS = "alice, bob, carol ALL = (ALL) ALL\nDefaults timestamp_timeout = 0\n"
# pam_unix alone waits for two seconds after every refusal of the stack.
NO_DELAY = "s/pam_unix.so nullok/& nodelay/"
FOLDER = "/var/lib/pam-mfa"
SMALL_DISK = f"""
cp -a {FOLDER} /tmp/before
mount -t tmpfs -o size=8m,mode=0700 tmpfs {FOLDER}
chown pam-mfa:pam-mfa {FOLDER}
cp -a /tmp/before/store.db* {FOLDER}/
"""
KEYS = """
set -eu
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/test_key
read -r kind key rest < /etc/ssh/test_key.pub
echo "[127.0.0.1]:$1 $kind $key" > /etc/ssh/ssh_known_hosts
for user in alice bob carol; do
    install -d -m 0700 -o $user -g $user /home/$user/.ssh
    ssh-keygen -q -t ed25519 -N '' -f /home/$user/.ssh/id_ed25519
    cp /home/$user/.ssh/id_ed25519.pub /home/$user/.ssh/authorized_keys
    chown -R $user:$user /home/$user/.ssh
done
"""


def furnish(town: Town) -> None:
    """Make a town's machines ready: PAM file of sudo, sudoers, keys."""
    with Machine(town.base, fill=True) as machine:
        machine.run(["/bin/sed", "-i", NO_DELAY, "/etc/pam.d/common-auth"])
        machine.write("/etc/pam.d/sudo", below_include(machine.read("/etc/pam.d/sudo"), sudo_line()))
        machine.write("/etc/sudoers.d/people", SUDOERS, 0o440)
        machine.run(["/bin/sh", "-c", KEYS, "keys", str(PORT)])


class SiteMachine:
    """One machine and what is run on its terminals.

    Args:
        machine: of a furnished town.
        side: "service" or "engine": who answers.
        people: this machine's, by name.
    """

    def __init__(self, machine: Machine, side: str, people: Mapping[str, Person]) -> None:
        self.machine = machine
        self.side = side
        self.people = people
        self.alice = people["alice"]
        self.terminals = Terminals(machine)
        self._sshd: subprocess.Popen[Any] | None = None

    def start(self, config: str = "", section: str | None = None, more: str = "") -> None:
        """Start the service where this is its side, with these settings, and sshd as a section of README.md says.

        Args:
            more: of the rule in that section.
        """
        configure(self.machine, f"{config}\n{sshd_lines(section)[2] if section else ''}{more}")
        if self.side == "service":
            self.machine.service.start()
        if section:
            self.start_sshd(section)

    def start_sshd(self, section: str) -> None:
        """Start sshd; returns when it takes connections."""
        lines, config, _ = sshd_lines(section)
        lay = below_include if section == PASSWORD_AND_CODE else in_place_of_include
        self.machine.write("/etc/pam.d/sshd", lay(self.machine.read("/etc/pam.d/sshd"), lines))
        own = self.machine.read("/etc/ssh/sshd_config")
        self.machine.write("/etc/ssh/sshd_config", config + SSHD_CONFIG + own)
        self.machine.run(["/bin/mkdir", "-p", "/run/sshd"])
        self._sshd = self.machine.popen(["/usr/sbin/sshd", "-D"], stdin=subprocess.DEVNULL)
        self.machine.wait_for_journal("Server listening on 127.0.0.1")

    def sudo(self, *command: str, user: str = "alice", answer: bool = True) -> Terminal:
        """Run sudo at a terminal, and give it the account's password."""
        terminal = self.terminals.run(["/usr/bin/sudo", *(command or ("/usr/bin/id", "-u"))], user)
        if answer:
            terminal.answer(f"password for {user}: ", PASSWORDS[user])
        return terminal

    def ssh(self, *command: str, user: str = "alice", key: bool = False) -> Terminal:
        """Run ssh to an account of the same name, and give it the account's password where it asks for that."""
        terminal = self.terminals.run(["/usr/bin/ssh", *self.ssh_options(), f"{user}@127.0.0.1", *command], user)
        if not key:
            terminal.answer("Password: ", PASSWORDS[user])
        return terminal

    def refuses(self, ssh: Terminal, user: str = "alice") -> None:
        """Wait for the end of an ssh that is refused.

        After MAXTRIES sshd allows no method any more and ssh, told of none, asks for a password: the right one must
        not help.
        """
        while ssh.which("'s password: "):
            ssh.type(PASSWORDS[user], hidden=True)
        ssh.ends_with(255)

    def ssh_options(self, port: str = "-p") -> list[str]:
        """What ssh, scp and sftp need to know; scp and sftp call the port otherwise."""
        return [port, str(PORT), "-o", "LogLevel=ERROR"]

    def log_in(self, terminal: Terminal, user: str, key: bool) -> None:
        """Answer what scp or sftp asks for on its terminal."""
        if not key:
            terminal.answer("Password: ", PASSWORDS[user])
        terminal.answer("Verification code: ", self.people[user].code())

    def on_a_full_disk(self, section: str | None = None) -> None:
        """As `start`, with the store on a small file system that fills up as soon as the service runs."""
        self.machine.run(["/bin/sh", "-euc", SMALL_DISK])
        self.start(section=section)
        self.machine.run(["/bin/sh", "-c", f"cat /dev/zero > {FOLDER}/filler"], check=False)
        assert self.machine.run(["/usr/bin/stat", "-f", "-c", "%f", FOLDER]).stdout == "0\n"

    def idle(self) -> bool:
        """Whether no login is under way: no session at the service, no engine."""
        if self.machine.processes("pam-mfa-engine"):
            return False
        return self.side == "engine" or sessions(self.machine) == 0

    def wait_until_idle(self) -> None:
        """Until no login is under way. Raises TimeoutError."""
        wait_for("the end of the login's session", self.idle)

    def outcomes(self, count: int) -> list[str]:
        """The outcomes of the logins so far, once there are `count`: the service writes a record after its verdict."""
        wait_for(f"{count} audit records", lambda: len(records(self.machine)) >= count)
        return [record["outcome"] for record in records(self.machine)]

    def last_record(self, count: int) -> dict[str, str]:
        """The audit record of login number `count`; none came after it."""
        assert len(self.outcomes(count)) == count
        return records(self.machine)[-1]

    def reachable(self) -> bool:
        """Whether sshd still takes connections."""
        script = f"import socket; socket.create_connection(('127.0.0.1', {PORT})).recv(64)"
        return self.machine.python(script, check=False).returncode == 0

    def close(self) -> None:
        """End what runs."""
        self.terminals.close()
        if self._sshd:
            self._sshd.kill()
            self._sshd.wait()


def free_port_is_private() -> bool:
    """Whether PORT is not taken outside: the machines have a network of their own."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) != 0
