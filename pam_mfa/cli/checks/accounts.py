"""Does everybody who is enrolled still exist, under the same name and uid?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import PamMfaError, RefusedError
from ..call import find_user, removal, stored_accounts
from ..paths import Paths
from .files import uid_of
from .finding import Finding, ok, warn


def check(where: Paths) -> Iterator[Finding]:
    """For root: every enrolled account that no longer fits. That nobody answers is for service.py to say."""
    if os.geteuid() != 0:
        return
    try:
        stored = stored_accounts(where)
    except PamMfaError:
        return
    unknown = 0
    for account in stored:
        uid = _uid(where, account.name)
        if uid == account.uid:
            continue
        unknown += 1
        now = f"there is no user {account.name}" if uid is None else f"{account.name} has uid {uid}"
        yield warn("accounts", f"{account.name} is enrolled with uid {account.uid}, but {now} here", removal(account))
    if not unknown:
        yield ok("accounts", f"{len(stored)} enrolled, all of them users of this system")


def _uid(where: Paths, name: str) -> int | None:
    """The running system asks all its sources of users; of another one there is only the file."""
    if where.root != Path("/"):
        return uid_of(where, name)
    try:
        return find_user(name).uid
    except RefusedError:
        return None
