"""Are the enrolled smartcards ones that can be used?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from ...config import Trust
from ...factors.piv import KEY, KINDS
from ..client import Account, Record
from .finding import Finding, ok, warn

SUBJECT = "smartcards"


def judge(trust: Trust, found: list[tuple[Account, Record]]) -> Iterator[Finding]:
    """What is to be said of all smartcards.

    Args:
        trust: of the settings.
        found: (whose, credential record of `list`).
    """
    odd = [*_shared(found), *(_idle(found) if trust is Trust.PINNED else ())]
    yield from odd
    if found and not odd:
        yield ok(SUBJECT, f"{len(found)} enrolled")


def _shared(found: list[tuple[Account, Record]]) -> Iterator[Finding]:
    """Cards that are several accounts'."""
    holders: dict[str, list[tuple[Account, Record]]] = defaultdict(list)
    for account, record in found:
        holders[str(record["id"])].append((account, record))
    for each in holders.values():
        if len(each) > 1:
            names = ", ".join(f'"{record["label"]}" of {account.name}' for account, record in each)
            account, record = each[-1]
            yield warn(
                SUBJECT,
                f"one card is {names}: it is refused to all of them",
                f"leave it to one: pam-mfa remove --user {account.name} {str(record['id'])[:8]}",
            )


def _idle(found: list[tuple[Account, Record]]) -> Iterator[Finding]:
    """Cards that are recognised by what counts with trust = "chain" alone."""
    idle = Counter(str(record["details"]["by"]) for _, record in found if record["details"]["by"] != KINDS[KEY])
    for kind, count in sorted(idle.items()):
        yield warn(
            SUBJECT,
            f'{count} enrolled by {kind}, which does not count with trust = "pinned"',
            'set trust = "chain" in [smartcard] of /etc/pam-mfa/config.toml, or enrol them by their keys',
        )
