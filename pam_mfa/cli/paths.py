"""Where everything lies on an installed system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUN = "/run/pam-mfa"
MANAGE = f"{RUN}/manage.sock"
LIB = "/usr/lib/pam-mfa"
SITE = f"{LIB}/site"
DAEMON = f"{LIB}/pam-mfad"
ENGINE = f"{LIB}/pam-mfa-engine"
PASSWORD_HELPER = f"{LIB}/pam-mfa-password"
SETTINGS = "/etc/pam-mfa/config.toml"
KEY = "/etc/pam-mfa/seal.key"
STATE = "/var/lib/pam-mfa"
STORE = f"{STATE}/store.db"
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
PAM_CONF = "/etc/pam.conf"


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of one system; another root than "/" is for systems that are not running, and for tests."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """Where an absolute path of that system is seen from here."""
        return self.root / path.lstrip("/")
