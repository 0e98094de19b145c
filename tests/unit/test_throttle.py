"""How long an account waits after wrong answers, whatever its clocks do."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pam_mfa.throttle import (
    FIRST_WAIT,
    FREE,
    LIMIT,
    LONGEST_WAIT,
    Instant,
    Standing,
    Tally,
    elapsed,
    remaining,
    standing,
    wait_after,
)

moments = st.builds(Instant, st.integers(0, 2**40), st.integers(0, 2**31), st.sampled_from(["this boot", "that boot"]))


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 0), (5, 0), (6, 30), (7, 60), (8, 120), (12, 1920), (13, 3600), (14, 3600), (99, 3600), (10**6, 3600)],
)
def test_the_waits_of_the_design(failures: int, seconds: int) -> None:
    assert wait_after(failures) == seconds


@given(st.integers(0, 10**6))
def test_waits_never_shrink_and_never_pass_an_hour(failures: int) -> None:
    assert 0 <= wait_after(failures) <= wait_after(failures + 1) <= LONGEST_WAIT


def test_a_guesser_gets_fourteen_answers_in_the_first_three_hours() -> None:
    """Bound of R01: at most ten without a wait, a hundred in all."""
    clock, compared, tally = 0, 0, Tally()
    while clock < 3 * 3600:
        now = Instant(clock, clock, "boot")
        if standing(tally, now) is Standing.OPEN:
            compared += 1
            tally = Tally(tally.failures + 1, now)
        else:
            clock += 1
    assert compared == 14


def test_nobody_waits_who_never_failed() -> None:
    assert standing(Tally(), Instant(0, 0, "boot")) is Standing.OPEN
    assert remaining(Tally(50), Instant(0, 0, "boot")) == 0


@pytest.mark.parametrize(("boot", "expected"), [(100, 30), (129, 1), (130, 0), (10**6, 0), (0, 30)])
def test_within_a_boot_the_boot_clock_alone_counts(boot: int, expected: int) -> None:
    last = Instant(10**9, 100, "boot")
    for wall in (0, 10**9, 10**10):
        assert remaining(Tally(6, last), Instant(wall, boot, "boot")) == expected


@pytest.mark.parametrize(
    ("wall", "boot", "expected"),
    [
        (10**9 + 10, 5, 20),  # ten seconds by the wall clock
        (10**9 + 31, 5, 0),
        (10**9 - 10**6, 5, 25),  # set back: the age of this boot counts
        (10**9 - 10**6, 30, 0),  # and nobody waits longer than the wait itself
    ],
)
def test_across_a_reboot_the_wall_clock_counts_or_the_age_of_the_boot(wall: int, boot: int, expected: int) -> None:
    assert remaining(Tally(6, Instant(10**9, 10**6, "old boot")), Instant(wall, boot, "new boot")) == expected


@pytest.mark.parametrize("failures", [LIMIT, LIMIT + 1, 10**9])
def test_at_the_limit_no_time_helps(failures: int) -> None:
    last = Instant(0, 0, "boot")
    assert standing(Tally(failures, last), Instant(2**40, 2**31, "boot")) is Standing.DISABLED
    assert standing(Tally(failures), Instant(2**40, 2**31, "boot")) is Standing.DISABLED


def test_just_below_the_limit_it_waits() -> None:
    last = Instant(0, 0, "boot")
    assert standing(Tally(LIMIT - 1, last), Instant(0, LONGEST_WAIT - 1, "boot")) is Standing.WAITING
    assert standing(Tally(LIMIT - 1, last), Instant(0, LONGEST_WAIT, "boot")) is Standing.OPEN


@given(st.integers(0, LIMIT - 1), moments, moments)
def test_no_clock_makes_a_wait_longer_than_it_is(failures: int, last: Instant, now: Instant) -> None:
    assert elapsed(last, now) >= 0
    assert 0 <= remaining(Tally(failures, last), now) <= wait_after(failures)


@given(st.integers(FREE + 1, LIMIT - 1), moments)
def test_the_moment_of_the_failure_itself_is_waited_out(failures: int, last: Instant) -> None:
    assert standing(Tally(failures, last), last) is Standing.WAITING
    assert remaining(Tally(failures, last), last) >= FIRST_WAIT
