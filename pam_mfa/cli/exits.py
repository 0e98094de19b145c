"""How the program ends, in numbers. The table in README.md and in pam-mfa(1) is made from this."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `pam-mfa`."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    WARNINGS = 6
    WRONG = 7
    ABORTED = 130


MEANING = {
    Exit.DONE: "done",
    Exit.INTERNAL: "internal error",
    Exit.USAGE: "wrong usage, or a value that is not allowed",
    Exit.REFUSED: "refused: not proven, or not allowed",
    Exit.NOT_FOUND: "no such credential, user or PAM service",
    Exit.UNAVAILABLE: "pam-mfa does not answer, or cannot use its store",
    Exit.WARNINGS: "doctor: warnings only; policy check: something is odd",
    Exit.WRONG: "doctor: something is wrong",
    Exit.ABORTED: "aborted by the user",
}

# The words of the manage protocol (errors.RefusedError.code).
BY_CODE = {
    "refused": Exit.REFUSED,
    "not_allowed": Exit.REFUSED,
    "not_found": Exit.NOT_FOUND,
    "invalid": Exit.USAGE,
    "unavailable": Exit.UNAVAILABLE,
    "aborted": Exit.ABORTED,
}
