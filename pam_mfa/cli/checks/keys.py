"""Are the enrolled security keys bound to the name in force, and is one of them under suspicion? And smartcards."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from ...errors import PamMfaError
from .. import client
from ..call import stored_accounts
from ..client import Account, Record
from ..paths import Paths
from ..terminal import Terminal
from . import cards
from .certificates import smartcards
from .finding import Finding, ok, warn

SUBJECT = "security keys"
FACTORS = ("fido2", "smartcard")
MOST = 1000  # accounts that are looked at


def check(where: Paths) -> Iterator[Finding]:
    """For root. That nobody answers is for service.py to say."""
    if os.geteuid() != 0:
        return
    try:
        (status,) = [r for r in _records(where, "status") if r.get("kind") == "service"]
        accounts = stored_accounts(where)[:MOST]
        found = [(account, record) for account in accounts for record in _credentials(where, account)]
    except (PamMfaError, ValueError):
        return
    yield from judge(str(status.get("rp_id", "")), [each for each in found if each[1]["factor"] == "fido2"])
    if (rules := smartcards(where)) is not None:
        yield from cards.judge(rules.trust, [each for each in found if each[1]["factor"] == "smartcard"])


def judge(rp_id: str, found: list[tuple[Account, Record]]) -> Iterator[Finding]:
    """What is to be said of all keys.

    Args:
        rp_id: the relying party id of new credentials.
        found: (whose, credential record of `list`).
    """
    # Imported keys are bound to what another program chose, and nothing is known of their syncing.
    own = [str(record["details"]["rp_id"]) for _, record in found if record["details"]["synced"] is not None]
    others = Counter(own)
    del others[rp_id]
    for other, count in sorted(others.items()):
        yield warn(
            SUBJECT,
            f"{count} bound to {other}, new ones to {rp_id}; they go on working",
            f'if that is a mistake, set rp_id = "{other}" in [fido2] of /etc/pam-mfa/config.toml',
        )
    suspects = [(account, record) for account, record in found if record["details"]["suspect"] is True]
    for account, record in suspects:
        yield warn(
            SUBJECT,
            f'"{record["label"]}" of {account.name} may have been copied: its counter fell back',
            f"ask its owner; then pam-mfa unlock {account.name}, or remove it: "
            f"pam-mfa remove --user {account.name} {str(record['id'])[:8]}",
        )
    if own and not suspects and not others:
        yield ok(SUBJECT, f"{len(own)} enrolled, bound to {rp_id}")


def _credentials(where: Paths, account: Account) -> list[Record]:
    records = _records(where, "list", account)
    return [r for r in records if r.get("kind") == "credential" and r.get("factor") in FACTORS]


def _records(where: Paths, verb: str, account: Account | None = None) -> list[Record]:
    with client.connected(where) as channel:
        return list(client.request(channel, verb, {}, Terminal(), account))
