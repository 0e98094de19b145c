"""Who must prove what. Pure: a rule and facts in, a decision out."""

from __future__ import annotations

from enum import Enum

from .config import LocalKey, Rule, Unenrolled
from .origin import Origin
from .structure import structure


class Entry(Enum):
    """How a login goes on."""

    PROVE = "prove"
    EXEMPT = "exempt"


@structure
class Decision:
    """What a rule says of one login.

    Args:
        entry: whether a factor has to be proven.
        reason: one word for the audit record.
    """

    entry: Entry
    reason: str


@structure
class Facts:
    """What a rule may look at.

    Args:
        known: the account exists in the system's user database.
        enrolled: the store positively said that it has a credential (True) or none (False).
        groups: the account's groups; asked for only where `wants_groups` says so.
    """

    known: bool
    enrolled: bool
    groups: frozenset[str] = frozenset()


def wants_groups(rule: Rule, known: bool) -> bool:
    """Whether the decision needs the account's groups: only where the rule names some."""
    return known and bool(rule.exempt_groups)


def decide(rule: Rule, facts: Facts) -> Decision:
    """The decision. An account that does not exist is never exempt, whatever the rule says."""
    if facts.known and rule.exempt_groups & facts.groups:
        return Decision(Entry.EXEMPT, "exempt_group")
    if facts.known and not facts.enrolled and rule.unenrolled is Unenrolled.ALLOW:
        return Decision(Entry.EXEMPT, "unenrolled_allowed")
    return Decision(Entry.PROVE, "enrolled" if facts.enrolled else "unenrolled")


def may_use(local_key: LocalKey, where: Origin) -> bool:
    """Whether a session is offered this host's own ports and readers."""
    if local_key is LocalKey.AUTO:
        return where is Origin.LOCAL
    return local_key is LocalKey.ALWAYS
