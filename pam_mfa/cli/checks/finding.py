"""What a check of `pam-mfa doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NAMED = 3  # so many of several like things are named


class Severity(StrEnum):
    """How bad it is: fine, worth a look, or logins or their safety are affected."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        subject: what was looked at, one or two words.
        severity: how bad it is.
        found: what was found.
        fix: what to do about it, one line; empty where there is nothing to do.
    """

    subject: str
    severity: Severity
    found: str
    fix: str = ""


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Severity.OK, found)


def warn(subject: str, found: str, fix: str) -> Finding:
    """Worth a look."""
    return Finding(subject, Severity.WARN, found, fix)


def bad(subject: str, found: str, fix: str) -> Finding:
    """Logins or their safety are affected."""
    return Finding(subject, Severity.BAD, found, fix)


def some(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
