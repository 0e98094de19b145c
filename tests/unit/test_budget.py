"""Failures by where they come from (R03): strangers keep nobody out, and get no more guesses for being many."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pam_mfa.origin import HERE, source
from pam_mfa.throttle import (
    FAMILIAR,
    FORGOTTEN,
    FREE,
    LIMIT,
    SHARE,
    Budget,
    Instant,
    Standing,
    Tally,
    remaining,
    standing,
)

HOME, WORK, AFAR = b"home", b"work", b"afar"
START, NEVER = Instant(10**9, 10**6, "boot"), Instant(10**9, 10**8, "boot")
sources = st.sampled_from([None, *(b"source %d" % number for number in range(7))])


def after(budget: Budget, *failed: bytes | None, now: Instant = START) -> Budget:
    for place in failed:
        budget = budget.failed(place, now)
    return budget


def test_who_proved_it_there_before_does_not_wait_for_what_others_do_elsewhere() -> None:
    budget = after(Budget().proven(HOME, START), *[AFAR] * (FREE + 1))
    assert standing(budget.of(AFAR), START) is standing(budget.of(None), START) is Standing.WAITING
    assert standing(budget.of(WORK), START) is Standing.WAITING
    assert budget.of(HOME) == Tally(beyond=FREE + 1)
    assert standing(budget.of(HOME), START) is Standing.OPEN


def test_others_do_not_wait_for_what_is_done_there() -> None:
    budget = after(Budget().proven(HOME, START), *[HOME] * (FREE + 1))
    assert standing(budget.of(HOME), START) is Standing.WAITING
    assert budget.of(AFAR) == Tally(0, None, LIMIT - SHARE)


def test_a_proof_where_it_is_familiar_forgives_the_others_nothing() -> None:
    failed = after(Budget().proven(HOME, START), HOME, AFAR, AFAR)
    again = failed.proven(HOME, START)
    assert again.of(HOME) == Tally(beyond=2)
    assert again.of(AFAR) == Tally(2, START, LIMIT - SHARE)


@pytest.mark.parametrize("new", [AFAR, None])
def test_a_proof_from_elsewhere_forgives_those_that_are_not_familiar(new: bytes | None) -> None:
    budget = after(Budget().proven(HOME, START), HOME, HOME, AFAR).proven(new, START)
    assert budget.of(new).failures == budget.of(WORK).failures == 0
    assert (budget.of(HOME).failures, budget.of(HOME).last) == (2, START)


def test_who_uses_up_a_share_is_one_of_the_others_with_all_of_it() -> None:
    budget = after(Budget().proven(HOME, START), AFAR, *[HOME] * (SHARE - 1))
    assert budget.of(HOME) == Tally(SHARE - 1, START, LIMIT, 1)
    assert budget.of(HOME).failed(START) == Tally(SHARE + 1, START)
    spent = after(budget, HOME)
    assert spent == Budget(Tally(SHARE + 1, START))
    assert spent.of(HOME) == spent.of(AFAR) == Tally(SHARE + 1, START)


def test_the_last_four_are_familiar() -> None:
    names = [b"%d" % number for number in range(FAMILIAR + 1)]
    budget = Budget()
    for name in names:
        budget = budget.proven(name, START)
    assert [name for name, _ in budget.familiar] == names[:0:-1]
    assert [name for name, _ in budget.proven(names[2], START).familiar] == [b"2", b"4", b"3", b"1"]


def test_from_one_source_nothing_changes_by_having_been_there() -> None:
    """The waits of the design, and a hundred in all."""
    stranger, known = Budget(), Budget().proven(HOME, START)
    for number in range(LIMIT + 5):
        assert known.of(HOME).failures == stranger.of(HOME).failures == number
        assert remaining(known.of(HOME), START) == remaining(stranger.of(HOME), START)
        assert (standing(known.of(HOME), NEVER) is Standing.DISABLED) is (number >= LIMIT)
        stranger, known = after(stranger, HOME), after(known, HOME)


@given(
    st.lists(sources, max_size=12), st.lists(st.tuples(sources, st.booleans()), min_size=LIMIT, max_size=3 * LIMIT)
)  # fmt: skip
def test_no_more_than_a_hundred_guesses_in_a_row_are_compared(
    proven: list[bytes | None], guesses: list[tuple[bytes | None, bool]]
) -> None:
    """From wherever, with whatever patience, and wherever another factor is proven meanwhile."""
    budget, compared = Budget(), 0
    for place in proven:
        budget = budget.proven(place, START)
    for place, met in [*guesses, *[(None, False)] * LIMIT]:
        if met:
            budget = budget.met(place)
        elif standing(view := budget.of(place), NEVER) is not Standing.DISABLED:
            budget, compared = budget.failed(place, START), compared + 1
            after_it = budget.of(place)
            assert (view.failed(START).failures, view.failed(START).limit) == (after_it.failures, after_it.limit)
        assert budget.failures == compared <= LIMIT
        assert len(budget.familiar) <= FAMILIAR
    assert standing(budget.of(None), NEVER) is Standing.DISABLED


@given(st.lists(sources.filter(lambda name: name != b"source 0"), max_size=3 * LIMIT))
def test_whoever_fails_elsewhere_where_it_was_proven_it_is_open(guesses: list[bytes | None]) -> None:
    budget = after(Budget().proven(b"source 0", START), *guesses)
    tally = budget.of(b"source 0")
    assert (tally.failures, standing(tally, START)) == (0, Standing.OPEN)
    forgiven = budget.forgiven()
    assert forgiven.failures == 0
    assert [name for name, _ in forgiven.familiar] == [name for name, _ in budget.familiar]


@pytest.mark.parametrize("seconds", [FORGOTTEN - 1, FORGOTTEN])
def test_what_others_did_long_ago_ends_with_a_proof_from_anywhere(seconds: int) -> None:
    budget = after(Budget().proven(HOME, START), *[AFAR] * 3)
    later = Instant(START.wall + seconds, START.boot + seconds, START.boot_id)
    assert budget.proven(HOME, later).of(AFAR).failures == (0 if seconds == FORGOTTEN else 3)
    assert budget.proven(HOME, Instant(START.wall + seconds, START.boot, START.boot_id)).of(AFAR).failures == 3


def test_where_another_factor_was_proven_this_one_is_familiar_too() -> None:
    budget = after(Budget(), AFAR, AFAR).met(HOME)
    assert budget.of(HOME) == Tally(beyond=2)
    assert budget.of(AFAR) == Tally(2, START, LIMIT - SHARE)
    assert budget.met(HOME) is budget
    assert budget.met(None) is budget


def test_what_takes_the_place_of_another_takes_its_failures_to_the_others() -> None:
    budget = Budget()
    for name in (b"1", b"2", b"3", b"4"):
        budget = budget.met(name)
    budget = after(budget, b"1", b"1", AFAR).met(b"5")
    assert [name for name, _ in budget.familiar] == [b"5", b"4", b"3", b"2"]
    assert budget.of(AFAR) == Tally(3, START, LIMIT - 4 * SHARE)


@pytest.mark.parametrize(("failures", "familiar"), [(LIMIT - SHARE, True), (LIMIT - SHARE + 1, False)])
def test_nobody_gets_more_guesses_by_another_factor(failures: int, familiar: bool) -> None:
    budget = after(Budget(), *[AFAR] * failures).met(HOME)
    assert bool(budget.familiar) is familiar


@pytest.mark.parametrize(
    ("rhost", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:c000:207", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"), ("64:ff9b::c000:207", "192.0.2.7"), ("64:ff9b:0:0:1::1", "64:ff9b::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:DB8:1:2::", "2001:db8:1:2::/64"), ("::1", "::/64"),
        ("64:ff9b:1::c000:207", None), ("::192.0.2.7", None), ("::ffff:0:192.0.2.7", None), ("::", None),
        ("localhost", None), ("host.example.org", None), ("192.0.2", None), ("192.0.2.007", None),
        ("fe80::1%eth0", None), ("192.0.2.7 ", None), ("192.0.2.7\0", None), ("\u0661.0.0.1", None),
        ("\ud800", None), ("[::1]", None),
    ],
)  # fmt: skip
def test_an_address_is_a_source_and_a_name_is_none(rhost: str, expected: str | None) -> None:
    assert source("sshd", rhost, "ssh", "", "alice", 0) == expected


@pytest.mark.parametrize(
    ("service", "tty", "ruser", "expected"),
    [
        ("sudo", "/dev/pts/3", "alice", HERE), ("sudo", "", "alice", HERE), ("su", "pts/3", "alice", HERE),
        ("login", "tty1", "", HERE), ("login", "/dev/tty1", "", HERE), ("gdm-password", ":0", "", HERE),
        ("polkit-1", "", "", HERE),
        ("su", "pts/3", "mallory", "~mallory"), ("su", "tty1", "root", "~root"), ("gdm-password", ":0", "bob", "~bob"),
        ("xrdp-sesman", "", "", None), ("vpn", "ssh", "", None),
        ("login", "ttyS0", "", None), ("login", "pts/3", "", None),
    ],
)  # fmt: skip
def test_on_this_host_users_at_their_own_terminals_are_here(
    service: str, tty: str, ruser: str, expected: str | None
) -> None:
    assert source(service, "", tty, ruser, "alice", 0) == expected


def test_only_roots_programs_say_where_somebody_comes_from() -> None:
    assert source("sshd", "192.0.2.7", "ssh", "bob", "alice", 1000) == HERE
