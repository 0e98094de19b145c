"""Where everything lies on an installed system."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

RUN = "/run/pam-mfa"
MANAGE = f"{RUN}/manage.sock"
LIB = "/usr/lib/pam-mfa"
SITE = f"{LIB}/site"
DAEMON = f"{LIB}/pam-mfad"
ENGINE = f"{LIB}/pam-mfa-engine"
DEVICE = f"{LIB}/pam-mfa-device"
VERIFY = f"{LIB}/pam-mfa-verify"
PASSWORD_HELPER = f"{LIB}/pam-mfa-password"
SETTINGS = "/etc/pam-mfa/config.toml"
KEY = "/etc/pam-mfa/seal.key"
AUTHORITIES = "/etc/pam-mfa/ca"
STATE = "/var/lib/pam-mfa"
STORE = f"{STATE}/store.db"
COMMAND = "/usr/bin/pam-mfa"
TRYOUT = "/var/lib/pam-mfa-try"
BREAK_GLASS = "/var/lib/pam-mfa-break-glass"
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
PAM_CONF = "/etc/pam.conf"


def only_root_writes(path: Path, form: int) -> bool:
    """Whether a path is what it should be, no link to it, and belongs to root alone to write to.

    Args:
        path: to look at.
        form: stat.S_IFREG or stat.S_IFDIR.

    Raises:
        OSError: it cannot be looked at.
    """
    found = path.lstat()
    return stat.S_IFMT(found.st_mode) == form and found.st_uid == 0 and not found.st_mode & 0o022


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of one system; another root than "/" is for systems that are not running, and for tests."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """Where an absolute path of that system is seen from here."""
        return self.root / path.lstrip("/")
