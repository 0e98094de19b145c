"""Systems that pam-mfa is installed on by packaging/install: with systemd, and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from booted import Booted
from machine import PROJECT, STAGE, Base, Machine

INSTALL = [str(PROJECT / "packaging/install"), "--no-apt"]
UNINSTALL = [str(PROJECT / "packaging/uninstall")]
TRIAL = ["/usr/bin/python3", "-I", "-S", "-B", str(PROJECT / "packaging/installer/trial.py")]
MODULE = next(path.relative_to(STAGE) for path in STAGE.glob("usr/lib/*/security/pam_mfa.so"))
PROVEN = "trial login: wrong code denied (PAM_MAXTRIES), right code granted, credential removed"
ACCOUNTS = ("pam-mfa", "pam-mfa-device", "pam-mfa-verify")
SETTINGS = "/etc/pam-mfa/config.toml"

# As before any installation, but for the site directory: that one is built once, by tests/run.
FORGET = """
set -eu
userdel pam-mfa
userdel pam-mfa-device
userdel pam-mfa-verify
rm -rf /usr/lib/udev/rules.d/*pam-mfa* /usr/share/polkit-1/rules.d/pam-mfa*
rm -rf /etc/pam-mfa /etc/pam.d/pam-mfa /var/lib/pam-mfa /usr/bin/pam-mfa /usr/lib/systemd/system/pam-mfa* "/$1"
rm -rf /var/lib/pam-mfa-break-glass
rm -f /usr/lib/pam-mfa/site /usr/lib/pam-mfa/pam-mfa*
"""


def forget(machine: Machine) -> None:
    """Leave of the installation only what was built."""
    machine.run(["/bin/sh", "-c", FORGET, "forget", str(MODULE)])


class Installed(Booted):
    """A system with systemd that was installed on; `said` is what the installation printed."""

    said = ""

    def install(self) -> str:
        """Run packaging/install; returns what it printed."""
        return self.run(INSTALL).stdout

    def main_pid(self, unit: str) -> str:
        """The process of a service, "0" where there is none."""
        return self.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip()


@contextmanager
def installed_system(base: Base) -> Iterator[Installed]:
    """Boot and install."""
    with Installed(base) as system:
        forget(system)
        system.said = system.install()
        yield system


def about(machine: Machine, path: str) -> str:
    """Mode and owner."""
    return machine.run(["stat", "-c", "%a %U", path]).stdout.strip()
