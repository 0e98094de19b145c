"""What is being tried, and whether somebody will take it back."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import RefusedError
from ..paths import Paths
from ..tryout import record
from .finding import Finding, bad, warn

SUBJECT = "try"
BACK = "run: pam-mfa try rollback"


def check(where: Paths) -> Iterator[Finding]:
    """Nothing to say where nothing is being tried."""
    try:
        tryout = record.load(where) if os.geteuid() == 0 else None
    except RefusedError as error:
        yield bad(SUBJECT, error.message, "then remove that file")
        return
    if tryout is None:
        return
    if tryout.life != record.life():
        yield bad(SUBJECT, "a change was being tried when the system went down, and was not taken back", BACK)
    elif not record.ring(where):
        yield bad(SUBJECT, "nobody watches the time of the change that is being tried", BACK)
    else:
        left = max(0, round(tryout.left()))
        yield warn(
            SUBJECT, f"a change is being tried, and taken back in {left} s", "log in and run: pam-mfa try confirm"
        )
