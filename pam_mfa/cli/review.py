"""What is odd in a list of rules: those that no login reaches, and those that contradict themselves. Pure.

A rule counts as unreachable where one single rule before it is for everybody that it is for. That several together are
is not seen; nor is who is in a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import product
from typing import Any

from ..config import FirstEnrolment, Settings
from ..first import may_enrol_first
from ..lease import LENDING
from ..rules import NOT, TERM_KEYS, FirstFactor, Match, Rule, Session, Subject, Unenrolled

ROLL_OUT = ("enrol_by", "logins_left", "enrol_at_login", "help")
DEVICES = frozenset({"fido2", "smartcard"})
SSHD = "sshd"
# They ask before there is a session, or without a terminal. Not login: it may be run within a session.
NO_SESSION, NO_SESSION_PREFIX = frozenset({"polkit-1", "sddm", "lightdm"}), ("gdm-", "sddm-", "lightdm-")
UNREACHABLE, CONTRADICTORY = "unreachable", "contradictory"
MANY = "\x01" * 65  # longer than any service name: what only "*" can take
MAX_STARS = 6

Table = Mapping[str, Any]
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Odd:
    """One thing that is odd.

    Args:
        rule: its name.
        state: "unreachable" or "contradictory".
        found: what, and what to do about it.
    """

    rule: str
    state: str
    found: str


def review(settings: Settings, written: Sequence[Table]) -> Iterator[Odd]:
    """Everything that is odd, in the order of the rules.

    Args:
        written: the tables of the rules, as they stand in the file: what is inherited is not in them.
    """
    for index, (rule, table) in enumerate(zip(settings.rules, written, strict=True)):
        for earlier in settings.rules[:index]:
            if implies(rule.match, earlier.match):
                where = f'rule "{earlier.name}" comes first, and is for everybody whom this one is for'
                yield Odd(rule.name, UNREACHABLE, f"{where}: put this one before it")
                break
        for found in (*_nobody(rule.match), *_at_odds(rule, table), *_of_settings(rule, table, settings)):
            yield Odd(rule.name, CONTRADICTORY, found)
    everything = dict.fromkeys(TERM_KEYS)  # nothing of the policy is inherited
    for found in (*_at_odds(settings.policy, {}), *_of_settings(settings.policy, everything, settings)):
        yield Odd(settings.policy.name, CONTRADICTORY, found)


# -------------------------------------------------------------------------------------------- for nobody


def _nobody(match: Match) -> Iterator[str]:
    """Conditions that cannot hold together."""
    for key in ("users", "groups"):
        meant, not_meant = _sides(getattr(match, key))
        if both := sorted(meant & not_meant):
            yield f'{key} has both "{both[0]}" and "!{both[0]}": leave out one of them'
    local = match.session is Session.LOCAL
    if local and match.networks:
        yield "who comes from a network is remote, and session is local: it is for nobody"
    if local and match.services and set(match.services) == {SSHD}:
        yield "sshd is always remote, and session is local: it is for nobody"


def _at_odds(rule: Rule, table: Table) -> Iterator[str]:
    """Terms that do not go together, or not with the conditions."""
    if rule.exempt and (asked := [key for key in TERM_KEYS if key in table and key not in ("exempt", "first_factor")]):
        yield f"exempt = true asks for nothing, so {asked[0]} has no effect: leave out one of them"
    if behind := [name for name in rule.methods[_first_code(rule.methods) :] if name in DEVICES]:
        yield f"{behind[0]} stands behind a code in methods, where it is never asked for: put it first"
    if "user_verification" in table and not DEVICES & set(rule.methods) and not rule.credit_ssh_keys:
        yield "user_verification is for security keys and smartcards, and methods has none: leave it out"
    yield from _first(rule)
    yield from _lease(rule)
    if rule.subject is Subject.CALLER and rule.match.networks:
        yield 'who comes from a network was called by nobody here: subject = "caller" has no effect'


def _lease(rule: Rule) -> Iterator[str]:
    """Why a lease never comes to hold."""
    if rule.lease is None or rule.exempt:
        return
    if rule.first_factor is FirstFactor.NONE:
        yield 'lease needs something that was proven before, and first_factor is "none": it has no effect'
    if not LENDING & set(rule.methods):
        yield f"{' and '.join(rule.methods)} give no lease: it has no effect"
    if set(rule.match.services) == {SSHD} and not rule.match.networks:
        yield "lease at sshd is for addresses that a rule names, and networks is not given: it has no effect"
    services = rule.match.services
    if services and all(name in NO_SESSION or name.startswith(NO_SESSION_PREFIX) for name in services):
        yield f"lease is for a terminal in a session, and {services[0]} asks where there is none: it has no effect"


def _roll_out(rule: Rule, table: Table, costs: FirstEnrolment) -> Iterator[str]:
    """Terms for users without a credential that have no effect; what a rule only inherits does no harm there."""
    said = [key for key in ROLL_OUT if key in table and getattr(rule, key)]
    if rule.unenrolled is Unenrolled.ALLOW and said:
        yield f'unenrolled = "allow" has no end, so {said[0]} has no effect: leave out one of them'
    if "help" in said and rule.first_factor is FirstFactor.NONE:
        yield 'help is told nobody where first_factor = "none": leave it out'
    if "enrol_at_login" not in said:
        return
    if "totp" not in rule.methods:
        yield 'enrol_at_login enrols an app, and methods has no "totp": leave out one of them'
    if rule.first_factor is FirstFactor.NONE:
        yield 'enrol_at_login enrols nobody where first_factor = "none": nothing was proven before'
    elif not may_enrol_first(costs, rule.first_factor, ticket=True):
        yield (
            f'enrol_at_login enrols nobody with first_enrolment = "{costs.value}" '
            f'and first_factor = "{rule.first_factor.value}": see enrol_at_login in pam-mfa.toml(5)'
        )


def _first_code(methods: Sequence[str]) -> int:
    return next((place for place, name in enumerate(methods) if name not in DEVICES), len(methods))


def _first(rule: Rule) -> Iterator[str]:
    """What has to be proven before, and cannot be or is not."""
    services = rule.match.services
    if rule.first_factor is FirstFactor.PUBLICKEY:
        if services and not any(fnmatchcase(SSHD, pattern) for pattern in services):
            yield 'only sshd tells of keys, so first_factor = "publickey" refuses everybody: take it out'
        elif rule.match.session is Session.LOCAL:
            yield 'first_factor = "publickey" is for sshd, and session is local: it refuses everybody'
    if rule.first_factor is FirstFactor.NONE and rule.exempt:
        yield 'exempt = true with first_factor = "none": whoever says such a name gets in with nothing proven'
    elif rule.first_factor is FirstFactor.NONE and rule.unenrolled is Unenrolled.ALLOW:
        yield 'unenrolled = "allow" with first_factor = "none": accounts without a credential are open to everybody'
    elif rule.first_factor is FirstFactor.NONE and rule.enrol_by:
        yield 'enrol_by with first_factor = "none": until then accounts without a credential are open to everybody'
    elif rule.first_factor is FirstFactor.NONE and rule.logins_left:
        yield 'logins_left with first_factor = "none": as often accounts without a credential are open to everybody'


def _of_settings(rule: Rule, table: Table, settings: Settings) -> Iterator[str]:
    """Terms that do not go together with what holds for all rules."""
    yield from _roll_out(rule, table, settings.first_enrolment)
    yield from _credit(rule, table, settings)


def _credit(rule: Rule, table: Table, settings: Settings) -> Iterator[str]:
    """Credit that nobody can get."""
    if not rule.credit_ssh_keys or "credit_ssh_keys" not in table:
        return
    services = rule.match.services
    if services and not any(fnmatchcase(SSHD, pattern) for pattern in services):
        yield "only sshd tells of keys, so credit_ssh_keys has no effect: leave it out"
    elif rule.match.session is Session.LOCAL:
        yield "credit_ssh_keys is for sshd, and session is local: leave it out"
    elif not settings.sshd_touch_required:
        yield "credit_ssh_keys has no effect while sshd_touch_required is false: see pam-mfa doctor"


# ------------------------------------------------------------------------------------------- implication


def implies(narrow: Match, wide: Match) -> bool:
    """Whether every login for which `narrow` holds is one for which `wide` does; False in doubt."""
    for key, within in WITHIN.items():
        inner, outer = getattr(narrow, key), getattr(wide, key)
        if outer and not (inner and within(inner, outer)):
            return False
    return True


def _sides(names: Sequence[str]) -> tuple[set[str], set[str]]:
    return {n for n in names if not n.startswith(NOT)}, {n[len(NOT) :] for n in names if n.startswith(NOT)}


def _one_name(names: Sequence[str]) -> set[str]:
    meant, not_meant = _sides(names)
    return meant - not_meant


def _groups(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    (meant, without), (outer, outer_without) = _sides(narrow), _sides(wide)
    return meant - without <= outer and outer_without <= without


def _networks(narrow: Sequence[Network], wide: Sequence[Network]) -> bool:
    return all(any(_inside(each, whole) for whole in _joined(wide)) for each in narrow)


def _joined(networks: Sequence[Network]) -> list[Network]:
    """The same addresses in as few networks as can be."""
    old = collapse_addresses(each for each in networks if isinstance(each, IPv4Network))
    return [*old, *collapse_addresses(each for each in networks if isinstance(each, IPv6Network))]


def _inside(each: Network, whole: Network) -> bool:
    if isinstance(each, IPv4Network):
        return isinstance(whole, IPv4Network) and each.subnet_of(whole)
    return isinstance(whole, IPv6Network) and each.subnet_of(whole)


def _within(narrow: str, wide: str) -> bool:
    """Whether `wide` takes every name that `narrow` does: tried with the least and the most that "*" can be."""
    if narrow.count("*") > MAX_STARS:
        return narrow == wide
    pieces = narrow.split("*")
    for stars in product(("", MANY), repeat=len(pieces) - 1):
        text = pieces[0] + "".join(star + piece for star, piece in zip(stars, pieces[1:], strict=True))
        if not fnmatchcase(text, wide):
            return False
    return True


def _services(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    return all(any(_within(one, other) for other in wide) for one in narrow)


# By the key of a condition: whether all that the first one lets through is let through by the second one.
WITHIN: Mapping[str, Callable[[Any, Any], bool]] = {
    "services": _services,
    "users": lambda narrow, wide: _one_name(narrow) <= _one_name(wide),
    "groups": _groups,
    "networks": _networks,
    "session": lambda narrow, wide: narrow is wide,
}
