"""How often one user may connect."""

from __future__ import annotations

from pam_mfa.service.budget import BURST, MOST_USERS, PER_SECOND, Budget


def test_a_burst_is_served_and_no_more() -> None:
    budget = Budget()
    assert [budget.take(1, 0.0) for _ in range(BURST + 2)] == [True] * BURST + [False, False]


def test_what_was_refused_costs_nothing_and_time_pays_back() -> None:
    budget = Budget()
    for _ in range(BURST + 100):
        budget.take(1, 0.0)
    assert [budget.take(1, 1.0) for _ in range(int(PER_SECOND) + 1)] == [True] * int(PER_SECOND) + [False]


def test_time_never_gives_more_than_a_burst() -> None:
    budget = Budget()
    budget.take(1, 0.0)
    assert [budget.take(1, 1e6) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_one_user_spends_nothing_of_another() -> None:
    budget = Budget()
    while budget.take(1, 0.0):
        pass
    assert budget.take(2, 0.0)


def test_a_full_table_refuses_who_is_new_until_somebody_can_be_forgotten() -> None:
    budget = Budget()
    assert all(budget.take(uid, 0.0) for uid in range(MOST_USERS))
    assert not budget.take(MOST_USERS, 0.0)
    assert budget.take(MOST_USERS, 1 / PER_SECOND)
