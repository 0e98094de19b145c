"""R09: what a stranger sees of a login with a real store behind it, whoever's name is given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Response, World, code_at, recovery, totp, wrong_for
from stores import SEALER, discard, do, enrol, make

from pam_mfa.assessment import Request
from pam_mfa.config import Settings
from pam_mfa.factors.base import CodeFactor
from pam_mfa.login import login
from pam_mfa.rules import FirstFactor, Rule
from pam_mfa.store.base import Attempt, Remove, Use
from pam_mfa.store.rows import DECOY_UID, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.throttle import FREE, LIMIT, Instant

Match = Callable[[CodeFactor, Credential, str, Instant], Use | None]

PHONE = totp()
NOW = Clock()()
RIGHT, WRONG = code_at(PHONE, NOW), wrong_for(PHONE, NOW)


def request(peer: int, user: str, uid: int | None) -> Request:
    return Request(SESSION, peer, "sshd", user, uid)


PEOPLE = {"wrong": ALICE, "unenrolled": 1002, "waiting": 1003, "disabled": 1004, "unknown": None, "into a wait": 1005}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SqliteStore]:
    """A real store with somebody in every state."""
    store = SqliteStore(make(tmp_path / "state"), SEALER)
    for name, uid in PEOPLE.items():
        if uid is None or name == "unenrolled":
            continue
        enrol(store, totp(name, uid, name), recovery([f"{n}{uid:<023}" for n in range(10)], uid, name))
        failures = {"waiting": FREE + 1, "disabled": LIMIT, "into a wait": FREE}.get(name, 0)
        clock = Clock(boot=0, wall=NOW.wall - LIMIT * 4000)
        for number in range(failures):
            clock = Clock() if number + 1 == failures else Clock(clock.wall + 4000, clock.boot + 4000, "other")
            do(store, Attempt(uid, "totp", None, clock()))
    yield store
    discard(store)


NOTHING_PROVEN = Settings(Rule(first_factor=FirstFactor.NONE))


def look(
    store: SqliteStore, name: str, answers: list[str], settings: Settings = NOTHING_PROVEN
) -> list[tuple[Any, ...]]:
    """Everything a stranger sees of a login, and how many rows each answer changes in the store."""
    uid = PEOPLE[name]
    world = World(store, answers, names={})
    real, seen = world._do, []

    def do_and_count(want: Any) -> Response:
        before = store._db.total_changes if store._db else 0
        response = real(want)
        assert store._db
        text = getattr(want, "text", "")
        seen.append((type(want).__name__, text, store._db.total_changes - before))
        return response

    world._do = do_and_count  # type: ignore[method-assign]
    with contextlib.suppress(StopIteration):
        verdict = world.run(login(request(0, name, uid), settings, FACTORS, Clock()))
    seen.append((verdict.outcome.name, "", 0))
    return seen


@pytest.mark.parametrize("answers", [[WRONG] * 3, ["", "x", WRONG], ["é" * 200] * 3])
def test_a_stranger_cannot_tell_who_is_enrolled_waits_or_exists(town: SqliteStore, answers: list[str]) -> None:
    """R09: the same wants, the same words, as many rows written, the same outcome."""
    seen = {name: look(town, name, answers) for name in PEOPLE}
    expected = seen["wrong"]
    assert [kind for kind, _, _ in expected] == ["Read", *["AskSecret", "Commit"] * 3, "TRIES_SPENT"]
    assert [changes for kind, _, changes in expected if kind == "Commit"] == [1, 1, 1]
    for name, one in seen.items():
        assert one == expected, name


def test_after_a_first_factor_a_wait_is_told_and_nothing_else(town: SqliteStore) -> None:
    seen = {name: look(town, name, [WRONG] * 3, Settings()) for name in PEOPLE}
    assert all(seen[name] == seen["wrong"] for name in ("unenrolled", "unknown"))
    for name in ("waiting", "disabled", "into a wait"):
        told = [[text for kind, text, _ in seen[each] if kind == "AskSecret"] for each in (name, "wrong")]
        assert told[0] != told[1]
        assert [(kind, rows) for kind, _, rows in seen[name]] == [(kind, rows) for kind, _, rows in seen["wrong"]]


def test_a_right_code_does_not_shine_through_either(town: SqliteStore) -> None:
    for name in ("waiting", "disabled", "unknown", "unenrolled"):
        assert look(town, name, [RIGHT] * 3) == look(town, "wrong", [WRONG] * 3)


@pytest.mark.parametrize("answer", [WRONG, "A" * 16, "A" * 24])
def test_an_answer_is_matched_as_often_whoever_is_meant(
    town: SqliteStore, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R09, R17: nor does the time tell, where nothing may be compared."""
    matched: list[str] = []
    for factor in code_factors():
        monkeypatch.setattr(type(factor), "match", noting(type(factor).match, matched))
    seen = {}
    for name in PEOPLE:
        look(town, name, [answer] * 3)
        seen[name] = [*matched]
        matched.clear()
    assert seen == dict.fromkeys(PEOPLE, [answer] * 3 if any(each.fits(answer) for each in code_factors()) else [])


def noting(match: Match, matched: list[str]) -> Match:
    """The same, and what was given is noted down."""

    def noted(self: CodeFactor, credential: Credential, given: str, now: Instant) -> Use | None:
        matched.append(given)
        return match(self, credential, given, now)

    return noted


def test_what_a_decoy_fits_opens_nothing(town: SqliteStore) -> None:
    """Everybody may know what it is made of."""
    assert {factor.decoy.uid for factor in code_factors()} == {DECOY_UID}
    (fits,) = (code_at(factor.decoy, NOW) for factor in code_factors() if factor.name == "totp")
    for name in ("unknown", "unenrolled"):
        assert look(town, name, [fits] * 3) == look(town, "wrong", [WRONG] * 3)


def code_factors() -> list[CodeFactor]:
    """The factors whose answers are typed."""
    return [cast("CodeFactor", factor) for factor in FACTORS.values() if hasattr(factor, "match")]


def test_the_account_of_the_real_store_goes_with_its_last_credential(town: SqliteStore) -> None:
    for credential in (totp("wrong").id, "c0de" * 8):
        assert do(town, Remove(ALICE, credential)) == (True,)
    assert look(town, "wrong", [RIGHT] * 3)[-1][0] == "TRIES_SPENT"
