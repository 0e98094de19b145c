"""Who must prove what: every combination of rule and facts."""

from __future__ import annotations

import itertools

import pytest

from pam_mfa.config import LocalKey, Rule, Settings, Unenrolled
from pam_mfa.origin import Origin
from pam_mfa.policy import Decision, Entry, Facts, decide, may_use, wants_groups

GROUPS = frozenset({"rescue", "wheel"})


@pytest.mark.parametrize("unenrolled", list(Unenrolled))
@pytest.mark.parametrize("exempt", [frozenset(), GROUPS])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("enrolled", [True, False])
@pytest.mark.parametrize("groups", [frozenset(), frozenset({"staff"}), frozenset({"staff", "wheel"})])
def test_the_whole_table(
    unenrolled: Unenrolled, exempt: frozenset[str], known: bool, enrolled: bool, groups: frozenset[str]
) -> None:
    decision = decide(Rule(unenrolled=unenrolled, exempt_groups=exempt), Facts(known, enrolled, groups))
    if known and exempt and "wheel" in groups:
        assert decision == Decision(Entry.EXEMPT, "exempt_group")
    elif known and not enrolled and unenrolled is Unenrolled.ALLOW:
        assert decision == Decision(Entry.EXEMPT, "unenrolled_allowed")
    else:
        assert decision == Decision(Entry.PROVE, "enrolled" if enrolled else "unenrolled")


def test_an_unknown_user_is_never_exempt() -> None:
    rules = [Rule(unenrolled=u, exempt_groups=g) for u, g in itertools.product(Unenrolled, (frozenset(), GROUPS))]
    for rule, enrolled, groups in itertools.product(rules, (True, False), (frozenset(), GROUPS)):
        assert decide(rule, Facts(False, enrolled, groups)).entry is Entry.PROVE


def test_the_default_exempts_nobody() -> None:
    for known, enrolled in itertools.product((True, False), repeat=2):
        assert decide(Settings().rule("sshd"), Facts(known, enrolled, GROUPS)).entry is Entry.PROVE


def test_groups_are_asked_for_only_where_they_decide() -> None:
    assert wants_groups(Rule(exempt_groups=GROUPS), True)
    assert not wants_groups(Rule(exempt_groups=GROUPS), False)
    assert not wants_groups(Rule(), True)


@pytest.mark.parametrize("where", list(Origin))
def test_who_is_offered_this_hosts_own_keys(where: Origin) -> None:
    assert may_use(LocalKey.ALWAYS, where)
    assert not may_use(LocalKey.NEVER, where)
    assert may_use(LocalKey.AUTO, where) is (where is Origin.LOCAL)


@pytest.mark.parametrize("odd", [None, "", True, "yes"])
def test_nothing_else_is_a_yes(odd: object) -> None:
    assert not may_use(odd, Origin.LOCAL)  # type: ignore[arg-type]
