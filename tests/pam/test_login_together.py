"""Logins at the same instant: one code is accepted once, and guessing in parallel buys no guess."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hosts import Host, Scene, records
from machine import Machine, wait_for
from people import Person, Town, failures, manage, sessions, sql

ROUNDS = 200
# An engine is a process with a Python of its own, and there are eight at most.
ENGINE_ROUNDS = {2: 25, 4: 12, 8: 6, 16: 2}
LIMIT = 6  # failures until answers are no longer compared: five are free, the sixth starts the wait
KILLS = 120
OTHER_SIDE = "mfa-engine"


@pytest.fixture(scope="module")
def crowded_town() -> Iterator[Town]:
    """A town with so many people that nobody is needed for two rounds."""
    town = Town(ROUNDS)
    with Machine(town.base, fill=True) as machine:
        machine.write(f"/etc/pam.d/{OTHER_SIDE}", machine.read("/etc/pam.d/mfa").replace(
            "pam_mfa.so", "pam_mfa.so socket=/run/pam-mfa/nobody-listens-here.sock"))  # fmt: skip
    yield town
    town.close()


@pytest.fixture(params=["service", "engine"])
def crowd(request: pytest.FixtureRequest, crowded_town: Town) -> Iterator[Scene]:
    """A machine of that town."""
    with Machine(crowded_town.base) as machine:
        scene = Scene(machine, request.param, crowded_town.people())
        yield scene
        scene.close()


def members(scene: Scene, count: int = ROUNDS) -> list[Person]:
    """So many of the crowd."""
    return [scene.people[f"user{number}"] for number in range(count)]


@pytest.mark.parametrize("logins", [2, 4, 16])
def test_one_code_is_accepted_exactly_once_by_the_service(crowded_town: Town, logins: int) -> None:
    with Machine(crowded_town.base) as machine:
        scene = Scene(machine, "service", crowded_town.people())
        for person in members(scene):
            code = person.code()
            codes = Counter(scene.host.together(person.user, [[code]] * logins))
            assert codes == {"SUCCESS": 1, "CONV_ERR": logins - 1}
        scene.close()


@pytest.mark.parametrize("logins", ENGINE_ROUNDS)
def test_one_code_is_accepted_exactly_once_by_engines(crowded_town: Town, logins: int) -> None:
    with Machine(crowded_town.base) as machine:
        scene = Scene(machine, "engine", crowded_town.people())
        for person in members(scene, ENGINE_ROUNDS[logins]):
            codes = Counter(scene.host.together(person.user, [[person.code()]] * logins))
            assert codes["SUCCESS"] == 1
            assert codes["SUCCESS"] + codes["CONV_ERR"] == min(logins, 8)
            assert codes["AUTHINFO_UNAVAIL"] == max(logins - 8, 0)
        scene.close()


def test_one_code_is_accepted_exactly_once_by_service_and_engine_together(crowded_town: Town) -> None:
    with Machine(crowded_town.base) as machine:
        scene = Scene(machine, "service", crowded_town.people())
        for person in members(scene, ENGINE_ROUNDS[2]):
            codes = scene.host.together(person.user, [[person.code()]] * 2, ["mfa", OTHER_SIDE])
            assert sorted(codes) == ["CONV_ERR", "SUCCESS"]
        wait_for("all records", lambda: len(records(machine)) == 2 * ENGINE_ROUNDS[2])
        roles = Counter(record["role"] for record in records(machine))
        assert roles == {"service": ENGINE_ROUNDS[2], "engine": ENGINE_ROUNDS[2]}
        scene.close()


def test_one_recovery_code_is_accepted_exactly_once(crowd: Scene) -> None:
    for person in members(crowd, 10):
        codes = crowd.host.together(person.user, [[person.recovery[0]]] * 4)
        assert sorted(codes) == ["CONV_ERR"] * 3 + ["SUCCESS"]


# Guessing


def test_after_the_sixth_failure_nothing_is_compared(scene: Scene) -> None:
    for _ in range(LIMIT // 3):
        assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
    assert scene.reason == "wrong"
    login = scene.login("alice", scene.alice.code(), scene.alice.code(), scene.alice.code())
    assert (login.code, len(login.prompts), len(set(login.prompts))) == ("MAXTRIES", 3, 2)
    assert scene.reason == "waiting"
    assert scene.login("bob", scene.people["bob"].code()).code == "SUCCESS"


def test_each_factor_has_its_own_count(scene: Scene) -> None:
    for _ in range(LIMIT // 3):
        assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
    assert scene.login("alice", scene.alice.recovery[0]).code == "SUCCESS"
    assert scene.login("alice", *[scene.alice.code()] * 3).code == "MAXTRIES"


def test_a_success_takes_the_count_back(scene: Scene) -> None:
    for _ in range(3):
        wrong = [scene.alice.wrong()] * 2
        assert scene.login("alice", *wrong, scene.alice.code()).code == "SUCCESS"
    assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"


def test_unlock_lets_answers_be_compared_again(scene: Scene) -> None:
    for _ in range(LIMIT // 3):
        scene.login("alice", *[scene.alice.wrong()] * 3)
    manage(scene.machine, "unlock", scene.alice)
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_sixteen_guesses_at_once_are_compared_no_more_often_than_the_limit(crowd: Scene) -> None:
    logins = 16 if crowd.side == "service" else 8
    for person in members(crowd, 3):
        codes = Counter(crowd.host.together(person.user, [[person.wrong()] * 3] * logins))
        assert codes == {"MAXTRIES": logins}
        assert failures(crowd.machine, person) == LIMIT
        assert crowd.login(person.user, person.code(), None).code == "CONV_ERR"


def test_a_prompt_that_was_open_before_the_limit_is_no_extra_guess(scene: Scene) -> None:
    with Host(scene.up()) as early:
        early.begin("alice")
        early.prompt()
        for _ in range(LIMIT // 3):
            assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
        early.answer(scene.alice.code())
        early.prompt()
        early.answer(None)
        assert early.end().code == "CONV_ERR"


# Hosts that are killed at any moment


def test_hosts_that_are_killed_leave_nothing_behind_and_block_nobody(crowd: Scene) -> None:
    """kill -9 between HELLO and verdict: codes count once at most, and everybody else logs in meanwhile."""
    chance = random.Random(f"kill {crowd.side}")
    whole = 2 * max(crowd.login("alice", crowd.alice.code()).took for _ in range(3))
    killed = 0
    for number, person in enumerate(members(crowd, KILLS if crowd.side == "service" else KILLS // 6)):
        code = person.code()
        # The first at once: one slow login of the three would have all others end before they are killed.
        ended = crowd.host.perish(person.user, code, chance.uniform(0.0, whole) if number else 0.0)
        killed += ended is None
        assert ended in (None, "SUCCESS")
        if ended == "SUCCESS":
            assert crowd.host.login(person.user, code, None).code == "CONV_ERR"
        else:
            assert crowd.host.login(person.user, person.code()).code == "SUCCESS"
    assert killed
    nothing_is_left(crowd)


def nothing_is_left(scene: Scene) -> None:
    """No session, no engine, no lock, a sound store, and the next login works."""
    wait_for("the last engine's end", lambda: not scene.machine.processes("pam-mfa-engine"))
    if scene.side == "service":
        wait_for("the last session's end", lambda: sessions(scene.machine) == 0)
    assert sql(scene.machine, "PRAGMA integrity_check") == "('ok',)\n"
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"
