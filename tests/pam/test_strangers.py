"""R09: what a stranger sees where nothing was proven before, whoever's name he gives; by service and engine.

`first_factor = "none"`: the same questions, codes and texts for who is unknown, not enrolled, waits, is disabled, or
was only given a wrong code; and, as far as a test can say, in the same time.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import median

import pytest
from hosts import Login, Scene
from machine import Machine
from people import Person, Town, charge

from pam_mfa.throttle import LIMIT

NOTHING_PROVEN = "[policy]\nfirst_factor = 'none'\n"
WRONG = ["000000"] * 3
LONGEST = 13  # failures that are waited for an hour, which no test takes
STATES = ("wrong", "unenrolled", "unknown", "waiting", "disabled")
REASONS = dict(zip(STATES, ("wrong", "unenrolled", "unenrolled", "waiting", "disabled"), strict=True))
ROUNDS = {"service": 25, "engine": 5}
EACH = 4  # samples of each state in a round; as many failures are free, and then they are forgiven
# Kolmogorov and Smirnov: so far are two samples of one distribution apart once in a million, sqrt(-ln(1e-6 / 2) / 2).
CHANCE = 2.69
SIXTH = 1 / 6  # of the time itself: less than that nobody sees from outside, whatever statistics say of a quiet machine


@pytest.fixture(scope="module")
def peopled() -> Iterator[Town]:
    """A town with two people more than usual."""
    town = Town(2)
    yield town
    town.close()


@pytest.fixture(params=["service", "engine"])
def scene(request: pytest.FixtureRequest, peopled: Town) -> Iterator[Scene]:
    """Somebody in every state."""
    with Machine(peopled.base) as machine:
        scene = Scene(machine, request.param, peopled.people())
        scene.configure(NOTHING_PROVEN, delay=1.0)
        charge(scene.up(), scene.people["user1"], LIMIT)
        charge(scene.machine, scene.people["user0"], LONGEST - 1)
        scene.login("user0", "000000", None)
        yield scene
        scene.close()


def names(scene: Scene) -> dict[str, Person]:
    """Who is in which state; alice has six tokens, bob one."""
    people = [scene.people[user] for user in ("bob", "carol", "user0", "user1")]
    return dict(zip(STATES, [*people[:2], Person("nobody-here", 0), *people[2:]], strict=True))


def seen(login: Login) -> tuple[list[str], list[str], list[str], int]:
    """Everything that a stranger is told."""
    return login.codes, login.prompts, login.shown, len(login.delays)


@pytest.mark.parametrize("answers", [WRONG, ["", "x", "0" * 8], ["000000", None], [None]], ids=range(4))
def test_r09_the_same_words_and_codes(scene: Scene, answers: list[str | None]) -> None:
    found = {}
    for state, person in names(scene).items():
        found[state] = seen(scene.login(person.user, *answers))
        assert scene.reason == ("aborted" if None in answers else REASONS[state])
    assert all(each == found["wrong"] for each in found.values()), found
    assert found["wrong"][1]


def test_r09_right_codes_of_who_must_wait_look_like_wrong_ones(scene: Scene) -> None:
    wrong = seen(scene.login("nobody-here", *WRONG))
    for state in ("waiting", "disabled"):
        person = names(scene)[state]
        assert seen(scene.login(person.user, person.code(), person.recovery[0][:-1], "")) == wrong


def test_r09_the_same_time(scene: Scene) -> None:
    """How long the first prompt takes, and how long an answer; in turn, so that what else happens is shared by all."""
    first, answered = samples(scene)
    for times in (first, answered):
        for state in STATES[1:]:
            some, others = times[state], times["wrong"]
            far = CHANCE * (2 / len(some)) ** 0.5
            near = abs(median(some) / median(others) - 1) < SIXTH
            assert near or apart(some, others) < far, (state, sorted(some), sorted(others))


def samples(scene: Scene) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds up to the first prompt, and from an answer to the next one, by state."""
    first, answered = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    people, chance = names(scene), random.Random(9)
    for _ in range(ROUNDS[scene.side]):
        charge(scene.machine, people["wrong"], 0)
        scene.host.login("nobody-here", None)  # whoever comes first finds nothing at hand
        order = [*STATES] * EACH
        chance.shuffle(order)
        for state in order:
            began = time.perf_counter()
            scene.host.begin(people[state].user)
            scene.host.prompt()
            asked = time.perf_counter()
            scene.host.answer("000000")
            scene.host.prompt()
            answered[state].append(time.perf_counter() - asked)
            first[state].append(asked - began)
            scene.host.answer(None)
            scene.host.end()
    return first, answered


def apart(some: Iterable[float], others: Iterable[float]) -> float:
    """The greatest distance between the shares of two samples that are below a value (Kolmogorov and Smirnov)."""
    low, high = sorted(some), sorted(others)
    return max(abs(share(low, at) - share(high, at)) for at in (*low, *high))


def share(values: list[float], most: float) -> float:
    """How many of them are no more than that."""
    return sum(value <= most for value in values) / len(values)
