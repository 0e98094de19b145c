"""Who must prove what. Pure: settings and facts in, a decision out; `pam-mfa explain` shows the same conditions.

Some facts cost a question to the user database or to logind. So facts begin without them, and what is missed where a
rule turns on it is named: whoever asks finds it out, and asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from .origin import Origin
from .rules import NOT, FirstFactor, LocalKey, Match, Rule, Session, Unenrolled
from .structure import structure
from .throttle import Instant

PUBLIC_KEY = b"publickey "
DAY = 86400
EPOCH = 719163  # date(1970, 1, 1).toordinal()


class Missing(Enum):
    """A fact that has to be found out before a rule can be chosen."""

    GROUPS = "groups"
    ORIGIN = "origin"


class Entry(Enum):
    """How a login goes on."""

    PROVE = "prove"
    EXEMPT = "exempt"
    REFUSE = "refuse"


@structure
class Facts:
    """What rules look at.

    Args:
        service, user, rhost: the PAM items, "" where unset.
        believed: root asks. What others say of themselves chooses no rule by its network.
        groups: of the account; None: not asked yet.
        where: local or remote; None: not found out yet.
    """

    service: str
    user: str = ""
    rhost: str = ""
    believed: bool = False
    groups: frozenset[str] | None = None
    where: Origin | None = None


@structure
class Condition:
    """One condition of a rule.

    Args:
        key: its key in the settings.
        wanted: its value there.
        holds: None where a fact is missing.
    """

    key: str
    wanted: tuple[str, ...]
    holds: bool | None


@structure
class Decision:
    """What a rule says of one login.

    Args:
        entry: whether a factor has to be proven.
        reason: one word for the audit record.
        days: for who gets in without a credential up to a date, how many days more.
    """

    entry: Entry
    reason: str
    days: int | None = None


MISSED = {"groups": Missing.GROUPS, "session": Missing.ORIGIN}


def choose(policy: Rule, rules: tuple[Rule, ...], facts: Facts) -> Rule | Missing:
    """The first rule that is for this login, else the policy; or what has to be found out to tell."""
    for rule in rules:
        found = list(conditions(rule.match, facts))
        if any(each.holds is False for each in found):
            continue
        missed = next((MISSED[each.key] for each in found if each.holds is None), None)
        return missed or rule
    return policy


def conditions(match: Match, facts: Facts) -> Iterator[Condition]:
    """Every condition that a rule has, and whether it holds.

    Whether there is such an account is none of them: who is unknown is asked what anybody of that name would be.
    """
    if match.services:
        yield Condition("services", match.services, _service(match.services, facts.service))
    if match.users:
        yield Condition("users", match.users, _listed(match.users, frozenset({facts.user})))
    if match.networks:
        yield Condition("networks", tuple(map(str, match.networks)), _network(match, facts))
    if match.groups:
        holds = None if facts.groups is None else _listed(match.groups, facts.groups)
        yield Condition("groups", match.groups, holds)
    if match.session is not None:
        holds = None if facts.where is None else _same(match.session, facts.where)
        yield Condition("session", (match.session.value,), holds)


def decide(
    rule: Rule, known: bool, enrolled: bool, authinfo: tuple[bytes, ...] = (), now: Instant | None = None
) -> Decision:
    """The decision. An account that does not exist is never exempt, whatever the rule says.

    Args:
        known: the account that is entered, and whose factor it is, exist in the system's user database.
        enrolled: the store positively said that the latter has a credential (True) or none (False).
        authinfo: what sshd says that it has proven, believed only from root.
        now: without it every date has passed.
    """
    if rule.first_factor is FirstFactor.PUBLICKEY and not any(line.startswith(PUBLIC_KEY) for line in authinfo):
        return Decision(Entry.REFUSE, "no_public_key")
    if known and rule.exempt:
        return Decision(Entry.EXEMPT, "exempt")
    if known and not enrolled and rule.unenrolled is Unenrolled.ALLOW:
        return Decision(Entry.EXEMPT, "unenrolled_allowed")
    if known and not enrolled and rule.enrol_by is not None and now is not None:
        days = rule.enrol_by.toordinal() - EPOCH - now.wall // DAY
        return Decision(Entry.EXEMPT, "enrol_by", days) if days >= 0 else Decision(Entry.PROVE, "enrol_by_over")
    return Decision(Entry.PROVE, "enrolled" if enrolled else "unenrolled")


def may_use(local_key: LocalKey, where: Origin) -> bool:
    """Whether a session is offered this host's own ports and readers."""
    if local_key is LocalKey.AUTO:
        return where is Origin.LOCAL
    return local_key is LocalKey.ALWAYS


def _service(patterns: tuple[str, ...], service: str) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(service, pattern) for pattern in patterns)


def _listed(names: tuple[str, ...], has: frozenset[str]) -> bool:
    """One of the names that it is for, and none of those that it is not for."""
    meant = any(name in has for name in names if not name.startswith(NOT))
    return meant and not any(name.removeprefix(NOT) in has for name in names if name.startswith(NOT))


def _network(match: Match, facts: Facts) -> bool:
    """A literal address in one of the networks. A name is whatever its owner's DNS says."""
    if not facts.believed or not facts.rhost:
        return False
    from ipaddress import ip_address

    try:
        address = ip_address(facts.rhost)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in match.networks)


def _same(wanted: Session, where: Origin) -> bool:
    return wanted.value == where.value
