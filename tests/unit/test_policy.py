"""Who must prove what: every combination of rule and facts."""

from __future__ import annotations

import itertools

import pytest

from pam_mfa.config import Rule, Settings, Unenrolled
from pam_mfa.policy import Decision, Entry, Facts, decide, wants_groups

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
