"""Who must prove what: which rule is for whom, every combination of rule and facts, and what is asked to find out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from pam_mfa.config import Settings
from pam_mfa.origin import Origin
from pam_mfa.policy import FLOOR, Condition, Decision, Entry, Facts, Missing, choose, conditions, decide, may_use
from pam_mfa.rules import FirstFactor, LocalKey, Match, Rule, Session, Unenrolled
from pam_mfa.structure import replace
from pam_mfa.throttle import Instant

ALICE = Facts("sshd", "alice", "192.0.2.7", True, frozenset({"alice", "staff"}), Origin.REMOTE)
POLICY = Rule()


def of(**conditions: Any) -> Match:
    networks = tuple(map(ip_network, conditions.pop("networks", ())))
    return Match(networks=networks, **conditions)


def is_for(match: Match, facts: Facts) -> bool:
    rule = Rule(name="one", match=match)
    found = choose(POLICY, (rule,), facts)
    assert found in (rule, POLICY)
    return found is rule


# ------------------------------------------------------------------------------------------ one condition


@pytest.mark.parametrize(
    ("patterns", "services", "others"),
    [
        (("sshd",), ["sshd"], ["ssh", "sshd2", "xsshd", ""]),
        (("su", "su-l"), ["su", "su-l"], ["sudo"]),
        (("su*",), ["su", "sudo", "su-l"], ["xsu"]),
        (("gdm-*",), ["gdm-password", "gdm-"], ["gdm", "lightdm"]),
        (("su??",), ["sudo"], ["su", "su-l2"]),
        (("*",), ["sshd", "a.b", ""], []),
        (("a.c",), ["a.c"], ["abc"]),
    ],
)
def test_services(patterns: tuple[str, ...], services: list[str], others: list[str]) -> None:
    for service in services + others:
        assert is_for(of(services=patterns), replace(ALICE, service=service)) is (service in services), service


@pytest.mark.parametrize(
    ("names", "has", "holds"),
    [
        (("staff",), {"staff"}, True),
        (("staff",), {"wheel"}, False),
        (("staff",), set(), False),
        (("staff", "wheel"), {"wheel"}, True),
        (("staff", "!guests"), {"staff"}, True),
        (("staff", "!guests"), {"staff", "guests"}, False),
        (("!guests", "staff"), {"staff", "guests"}, False),
        (("staff", "!guests"), {"guests"}, False),
        (("staff", "!guests"), {"wheel"}, False),
        (("Staff",), {"staff"}, False),
        (("sta*",), {"staff"}, False),
        (("!guests",), {"wheel"}, False),  # the settings refuse that one; it would be for nobody
    ],
)
def test_groups_and_users(names: tuple[str, ...], has: set[str], holds: bool) -> None:
    assert is_for(of(groups=names), replace(ALICE, groups=frozenset(has))) is holds
    if len(has) < 2:
        assert is_for(of(users=names), replace(ALICE, user="".join(has))) is holds


@pytest.mark.parametrize(
    ("rhost", "holds"),
    [
        ("192.0.2.7", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::ffff:192.0.2.7", True),  # sshd names IPv4 peers so where it listens on IPv6
        ("::ffff:192.0.3.7", False),
        ("::192.0.2.7", False),
        # R11: nothing but a literal address is anywhere
        ("", False),
        ("localhost", False),
        ("192.0.2.7.example.org", False),
        ("192.0.2.7 ", False),
        ("192.0.2.07", False),
        ("192.0.2", False),
        ("3221225991", False),
        ("0xc0.0.2.7", False),
        ("192.0.2.7/32", False),
        ("192.0.2.7:22", False),
        ("[2001:db8::1]", False),
        ("\u0661\u0669\u0662.0.2.7", False),
    ],
)
def test_networks(rhost: str, holds: bool) -> None:
    match = of(networks=("192.0.2.0/24", "2001:db8::/32"))
    assert is_for(match, replace(ALICE, rhost=rhost)) is holds
    assert not is_for(match, replace(ALICE, rhost=rhost, believed=False))


def test_ipv4_is_in_no_ipv6_network() -> None:
    assert not is_for(of(networks=("::/0",)), replace(ALICE, rhost="::ffff:192.0.2.7"))
    assert is_for(of(networks=("0.0.0.0/0",)), replace(ALICE, rhost="::ffff:192.0.2.7"))


@pytest.mark.parametrize("where", list(Origin))
@pytest.mark.parametrize("wanted", list(Session))
def test_sessions(where: Origin, wanted: Session) -> None:
    assert is_for(of(session=wanted), replace(ALICE, where=where)) is (wanted.name == where.name)


# --------------------------------------------------------------------------------------------- all of them

EVERY: dict[str, Any] = {
    "services": ("ssh*",),
    "users": ("alice",),
    "networks": ("192.0.2.0/24",),
    "groups": ("staff", "!guests"),
    "session": Session.REMOTE,
}
AMISS: dict[str, Any] = {
    "services": {"service": "sudo"},
    "users": {"user": "bob"},
    "networks": {"rhost": "198.51.100.1"},
    "groups": {"groups": frozenset({"alice", "staff", "guests"})},
    "session": {"where": Origin.LOCAL},
}


@pytest.mark.parametrize("amiss", [None, *AMISS])
def test_every_condition_has_to_hold(amiss: str | None) -> None:
    facts = replace(ALICE, **AMISS[amiss]) if amiss else ALICE
    assert is_for(of(**EVERY), facts) is (amiss is None)
    assert {each.key: each.holds for each in conditions(of(**EVERY), facts)} == {key: key != amiss for key in EVERY}


def test_a_condition_is_shown_as_it_stands_in_the_settings() -> None:
    assert list(conditions(of(**EVERY), ALICE))[2:] == [
        Condition("networks", ("192.0.2.0/24",), True),
        Condition("groups", ("staff", "!guests"), True),
        Condition("session", ("remote",), True),
    ]


def test_a_rule_without_conditions_is_for_everybody() -> None:
    assert is_for(Match(), Facts(""))
    assert list(conditions(Match(), Facts(""))) == []


def test_the_first_rule_counts_and_the_policy_where_there_is_none() -> None:
    rules = tuple(Rule(name=name, match=of(users=users)) for name, users in {
        "a": ("bob",), "b": ("alice", "bob"), "c": ("alice",)}.items())  # fmt: skip
    named = {user: choose(POLICY, rules, replace(ALICE, user=user)) for user in ("alice", "bob", "carol")}
    assert [rule.name for rule in named.values() if isinstance(rule, Rule)] == ["b", "a", "policy"]


# -------------------------------------------------------------------------------------- what is found out

UNASKED = replace(ALICE, groups=None, where=None)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([{}], None),
        ([{"groups": ("staff",)}], Missing.GROUPS),
        ([{"session": Session.LOCAL}], Missing.ORIGIN),
        ([{"groups": ("staff",), "session": Session.LOCAL}], Missing.GROUPS),
        # what cannot change anything is not asked
        ([{"groups": ("staff",), "services": ("sudo",)}], None),
        ([{"groups": ("staff",), "users": ("bob",)}], None),
        ([{"session": Session.LOCAL, "networks": ("198.51.100.0/24",)}], None),
        ([{"services": ("sshd",)}, {"groups": ("staff",)}], None),
        ([{"services": ("sudo",)}, {"groups": ("staff",)}], Missing.GROUPS),
    ],
)
def test_what_has_to_be_found_out(rules: list[dict[str, Any]], missing: Missing | None) -> None:
    found = choose(POLICY, tuple(Rule(match=of(**each)) for each in rules), UNASKED)
    assert found is missing if missing else isinstance(found, Rule)


# ------------------------------------------------------------------------------------------- the decision


def every_decision() -> Iterator[tuple[Rule, bool, bool, tuple[bytes, ...]]]:
    for unenrolled, exempt, first in itertools.product(Unenrolled, (True, False), FirstFactor):
        rule = Rule(unenrolled=unenrolled, exempt=exempt, first_factor=first)
        for known, enrolled in itertools.product((True, False), repeat=2):
            for lines in ((), (b"password",), (b"publickey ssh-ed25519 AAAA",)):
                yield rule, known, enrolled, lines


@pytest.mark.parametrize(("rule", "known", "enrolled", "lines"), list(every_decision()))
def test_the_whole_table(rule: Rule, known: bool, enrolled: bool, lines: tuple[bytes, ...]) -> None:
    decision = decide(rule, known, enrolled, lines)
    if rule.first_factor is FirstFactor.PUBLICKEY and lines != (b"publickey ssh-ed25519 AAAA",):
        assert decision == Decision(Entry.REFUSE, "no_public_key")
    elif known and rule.exempt:
        assert decision == Decision(Entry.EXEMPT, "exempt")
    elif known and not enrolled and rule.unenrolled is Unenrolled.ALLOW:
        assert decision == Decision(Entry.EXEMPT, "unenrolled_allowed")
    else:
        assert decision == Decision(Entry.PROVE, "enrolled" if enrolled else "unenrolled")


def at(day: date, second: int = 0) -> Instant:
    midnight = datetime.combine(day, time(), UTC)
    return Instant(int(midnight.timestamp()) + second, 5000, "boot")


BY = date(2030, 12, 31)


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (at(date(2030, 12, 1)), 30),
        (at(BY - timedelta(1), 86399), 1),
        (at(BY), 0),
        (at(BY, 86399), 0),
        (at(BY, 86400), None),
        (at(date(2031, 6, 1)), None),
        (None, None),  # nobody knows what day it is
    ],
)
def test_up_to_a_date_the_unenrolled_get_in(now: Instant | None, days: int | None) -> None:
    rule = Rule(enrol_by=BY)
    decision = decide(rule, True, False, (), now)
    if days is None:
        assert decision.entry is Entry.PROVE
    else:
        assert decision == Decision(Entry.EXEMPT, "enrol_by", days)
    assert decide(rule, True, True, (), now).entry is Entry.PROVE
    assert decide(rule, False, False, (), now).entry is Entry.PROVE
    assert decide(replace(rule, first_factor=FirstFactor.PUBLICKEY), True, False, (), now).entry is Entry.REFUSE


@pytest.mark.parametrize("wall", [-1, 0, 1, 86400, FLOOR - 1])
@pytest.mark.parametrize("logins", [None, 5])
def test_f19_a_clock_that_is_set_back_lets_nobody_in_again(wall: int, logins: int | None) -> None:
    """No RTC, or a time server that lies: a day on which this program was not there yet is none before the date."""
    rule = Rule(enrol_by=BY, logins_left=logins)
    assert decide(rule, True, False, (), Instant(wall, 5000, "boot")) == Decision(Entry.PROVE, "enrol_by_over")
    assert decide(rule, True, False, (), Instant(FLOOR, 5000, "boot")).entry is Entry.EXEMPT
    assert decide(replace(rule, enrol_by=None), True, False, (), Instant(wall, 5000, "boot")).entry is (
        Entry.PROVE if logins is None else Entry.EXEMPT
    )


def test_f19_the_floor_is_a_day_of_the_past() -> None:
    assert at(date(2023, 6, 10)).wall == FLOOR


@pytest.mark.parametrize("line", [b"publickey", b"Publickey x", b" publickey x", b"keyboard-interactive/pam", b""])
def test_what_is_no_public_key(line: bytes) -> None:
    assert decide(Rule(first_factor=FirstFactor.PUBLICKEY), True, True, (line,)).entry is Entry.REFUSE


def test_an_unknown_user_is_never_exempt() -> None:
    assert all(
        decide(rule, known, enrolled, lines).entry is not Entry.EXEMPT
        for rule, known, enrolled, lines in every_decision()
        if not known
    )


def test_the_default_exempts_nobody() -> None:
    settings = Settings()
    rule = choose(settings.policy, settings.rules, ALICE)
    assert isinstance(rule, Rule)
    for known, enrolled in itertools.product((True, False), repeat=2):
        assert decide(rule, known, enrolled).entry is Entry.PROVE


@pytest.mark.parametrize("where", list(Origin))
def test_who_is_offered_this_hosts_own_keys(where: Origin) -> None:
    assert may_use(LocalKey.ALWAYS, where)
    assert not may_use(LocalKey.NEVER, where)
    assert may_use(LocalKey.AUTO, where) is (where is Origin.LOCAL)


@pytest.mark.parametrize("odd", [None, "", True, "yes"])
def test_nothing_else_is_a_yes(odd: object) -> None:
    assert not may_use(odd, Origin.LOCAL)  # type: ignore[arg-type]
