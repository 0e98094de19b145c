"""The relying party id: the domain name that new security key credentials are bound to, chosen once."""

from __future__ import annotations

import os
import re
import socket
import sys

from steps import StepFailed

VARIABLE = "PAM_MFA_RP_ID"
# As pam_mfa.config takes it (a test compares them): this runs before there is a pam_mfa.
NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
LINE = '#rp_id = "example.org"\n'
QUESTION = "Domain name that security keys are enrolled for, the same on every host of a fleet"


def full_name() -> str:
    """This host's name with its domain, "" where it has none."""
    name = socket.getfqdn().lower().rstrip(".")
    return name if "." in name and NAME.fullmatch(name) and not name.startswith("localhost") else ""


def choose(given: str | None) -> str:
    """The id for fresh settings: as given, as answered at a terminal, or the host's full name.

    Args:
        given: on the command line; None: look at the environment, then ask.

    Returns "" for the program's own default, the host's name. Raises StepFailed for what is no domain name.
    """
    name = given or os.environ.get(VARIABLE)
    if name is None:
        default = full_name()
        asked = sys.stdin.isatty() and sys.stdout.isatty()
        answer = input(f"{QUESTION} [{default or socket.gethostname()}]: ").strip() if asked else ""
        name = answer or default
    if name and not NAME.fullmatch(name):
        raise StepFailed(f"{name!r} is no domain name in lower case: give one with --rp-id, for example example.org")
    return name


def written(settings: str, name: str) -> str:
    """The shipped settings with this id. Raises StepFailed where they have no place for it."""
    if not name:
        return settings
    if settings.count(LINE) != 1:
        raise StepFailed("packaging/config.toml has no line for rp_id: it was changed, put it back")
    return settings.replace(LINE, f'rp_id = "{name}"\n')
