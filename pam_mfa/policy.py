"""Who must prove what. Pure: settings and facts in, a decision out; `pam-mfa explain` shows the same conditions.

Some facts cost a question to the user database or to logind. So facts begin without them, and what is missed where a
rule turns on it is named: whoever asks finds it out, and asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from .origin import Origin
from .rules import NOT, FirstFactor, LocalKey, Match, Rule, Session, Unenrolled
from .structure import structure
from .throttle import Instant

if TYPE_CHECKING:
    from datetime import date
    from ipaddress import IPv4Network, IPv6Network

PUBLIC_KEY = b"publickey "
ENROLLED = "enrolled"
TOTP = "totp"  # what can be enrolled in a login
DAY = 86400
EPOCH = 719163  # date(1970, 1, 1).toordinal()
# A clock that shows an earlier time is certainly wrong: Debian 12, the oldest system that this runs on, came out on
# that day, 2023-06-10 (UTC). A later day, our release's, would be no surer: who sets a clock sets it to the one after.
FLOOR = 1_686_355_200


class Missing(Enum):
    """A fact that has to be found out before a rule can be chosen."""

    GROUPS = "groups"
    ORIGIN = "origin"


class Entry(Enum):
    """How a login goes on."""

    PROVE = "prove"
    EXEMPT = "exempt"
    ENROL = "enrol"
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
        days, logins: for who gets in without a credential, for how many days more, and how often after this login;
            None where the rule does not say.
    """

    entry: Entry
    reason: str
    days: int | None = None
    logins: int | None = None


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
        yield Condition("services", match.services, is_service(match.services, facts.service))
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
    rule: Rule,
    known: bool,
    enrolled: bool,
    authinfo: tuple[bytes, ...] = (),
    now: Instant | None = None,
    graced: int = 0,
) -> Decision:
    """The decision. An account that does not exist is never exempt, whatever the rule says.

    Args:
        known: the account that is entered, and whose factor it is, exist in the system's user database.
        enrolled: the store positively said that the latter has a credential (True) or none (False).
        authinfo: what sshd says that it has proven, believed only from root.
        now: without it, or before FLOOR, every date has passed: a clock that is set back gives no days.
        graced: how often it was let in without a credential.
    """
    if rule.first_factor is FirstFactor.PUBLICKEY and not any(line.startswith(PUBLIC_KEY) for line in authinfo):
        return Decision(Entry.REFUSE, "no_public_key")
    if known and rule.exempt:
        return Decision(Entry.EXEMPT, "exempt")
    if not known or enrolled:
        return Decision(Entry.PROVE, ENROLLED if enrolled else "unenrolled")
    if rule.unenrolled is Unenrolled.ALLOW:
        return Decision(Entry.EXEMPT, "unenrolled_allowed")
    return _roll_out(rule, now, graced)


def _roll_out(rule: Rule, now: Instant | None, graced: int) -> Decision:
    """For a user without a credential: let in as long as both the date and the number allow it, then enrolled."""
    days = None if rule.enrol_by is None else _days(rule.enrol_by, now)
    logins = None if rule.logins_left is None else rule.logins_left - graced - 1
    if days is not None and days < 0:
        over = "enrol_by_over"
    elif logins is not None and logins < 0:
        over = "logins_left_over"
    elif days is not None or logins is not None:
        return Decision(Entry.EXEMPT, "enrol_by" if logins is None else "logins_left", days, logins)
    else:
        over = "unenrolled"
    if rule.enrol_at_login and rule.first_factor is not FirstFactor.NONE and TOTP in rule.methods:
        return Decision(Entry.ENROL, "enrol_at_login")
    return Decision(Entry.PROVE, over)


def _days(last: date, now: Instant | None) -> int:
    return -1 if now is None or now.wall < FLOOR else last.toordinal() - EPOCH - now.wall // DAY


def may_use(local_key: LocalKey, where: Origin) -> bool:
    """Whether a session is offered this host's own ports and readers."""
    if local_key is LocalKey.AUTO:
        return where is Origin.LOCAL
    return local_key is LocalKey.ALWAYS


def is_service(patterns: tuple[str, ...], service: str) -> bool:
    """Whether one of the patterns is for a PAM service."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(service, pattern) for pattern in patterns)


def _listed(names: tuple[str, ...], has: frozenset[str]) -> bool:
    """One of the names that it is for, and none of those that it is not for."""
    meant = any(name in has for name in names if not name.startswith(NOT))
    return meant and not any(name.removeprefix(NOT) in has for name in names if name.startswith(NOT))


def _network(match: Match, facts: Facts) -> bool:
    return facts.believed and in_networks(match.networks, facts.rhost)


def in_networks(networks: tuple[IPv4Network | IPv6Network, ...], host: str) -> bool:
    """Whether a host is a literal address in one of the networks. A name is whatever its owner's DNS says."""
    if not host:
        return False
    from ipaddress import ip_address

    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def _same(wanted: Session, where: Origin) -> bool:
    return wanted.value == where.value
