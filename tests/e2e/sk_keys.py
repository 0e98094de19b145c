"""Logins by ssh with security keys: OpenSSH's own client, its helper and libfido2, before a virtual key."""

from __future__ import annotations

from collections.abc import Sequence

from e2e.script import as_typed
from e2e.site_machine import KEY_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from vdev.keys import Keys

FOLDER = "/home/alice/.ssh"
TOUCHED = "PubkeyAuthOptions touch-required\n"
VERIFIED = "PubkeyAuthOptions touch-required verify-required\n"
TRUST = "TrustedUserCAKeys /etc/ssh/ca.pub\n"
CREDIT = "sshd_touch_required = true\n"
RULE = "credit_ssh_keys = true\n"  # of the rule for sshd, which is the last thing in README.md's settings
PIN = "135790"


class Laptop:
    """Whoever uses keys by ssh: alice, on the machine itself.

    Args:
        site: where sshd runs.
        keys: the testbed in which her keys are.
    """

    def __init__(self, site: SiteMachine, keys: Keys) -> None:
        self.site = site
        self.environment = [f"{name}={value}" for name, value in keys.environment().items()]

    def make(self, name: str = "id_sk", kind: str = "ed25519-sk", *options: str, pin: str = "") -> str:
        """A new key pair; returns the place of the public half."""
        path = f"{FOLDER}/{name}"
        more = [word for option in options for word in ("-O", option)]
        child = self.run("/usr/bin/ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path, *more)
        if pin:
            child.answer("Enter PIN for authenticator: ", pin)
        child.ends_with(0)
        return f"{path}.pub"

    def authorize(self, *lines: str) -> None:
        """What sshd knows of alice."""
        self.site.machine.write(f"{FOLDER}/authorized_keys", "".join(f"{line}\n" for line in lines))

    def public(self, path: str) -> str:
        """A public key as it stands in its file."""
        return self.site.machine.read(path).strip()

    def run(self, *argv: str) -> Terminal:
        """A program of alice's that sees her keys."""
        return self.site.terminals.run(["/usr/bin/env", *self.environment, *argv], "alice", as_typed(argv))

    def ssh(self, name: str = "id_sk", *more: str, command: Sequence[str] = ("/usr/bin/id", "-un")) -> Terminal:
        """ssh with this key alone."""
        only = ["-o", "IdentitiesOnly=yes", "-i", f"{FOLDER}/{name}", *more]
        return self.run("/usr/bin/ssh", *self.site.ssh_options(), *only, "alice@127.0.0.1", *command)


def enrol(site: SiteMachine, path: str, *more: str) -> Terminal:
    """Enrol the public half as alice, or for her where no service runs."""
    enroll = ["/usr/bin/pam-mfa", "enroll", "ssh-key", path, *more]
    if site.side == "service":
        child = site.terminals.run(enroll)
        child.answer("Verification code: ", site.alice.code())
        return child
    return site.terminals.run([*enroll, "--user", "alice"], user=None)


def start(site: SiteMachine, options: str = TOUCHED, config: str = CREDIT, rule: str = RULE) -> None:
    """sshd with `options`, as README.md says for key and code, and the settings that give credit."""
    own = site.machine.read("/etc/ssh/sshd_config")
    site.machine.write("/etc/ssh/sshd_config", options + own)
    site.start(config, KEY_AND_CODE, more=rule)
