"""Logins by security key beside pam_u2f's: the same virtual key, the same rounds. Ratios are asserted with slack."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from machine import Base
from vdev import keys as vdev_keys

from .key_track import KeyTrack

SLACK = 1.5
ROUNDS = 7
COUNT = 12
SLOW_ROUNDS = 2
SLOW_COUNT = 4
DELAY = 1.0  # seconds
DRIVEN = 40
FEW, MANY = 10, 100_000

ONE, TWO = "one key", "two, the second is right"
STACKS = ("permit", "pam_u2f", "ours")


@dataclass
class Figures:
    """What one stack took, in milliseconds, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.medians)

    @property
    def p95(self) -> float:
        return percentile([sample for each in self.rounds for sample in each], 0.95)

    @property
    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(each) for each in self.rounds]

    @property
    def spread(self) -> float:
        """95th percentile in units of the median, of the middle round: other work on this machine comes in bursts."""
        return statistics.median(percentile(each, 0.95) / statistics.median(each) for each in self.rounds)


Scene = dict[str, Figures]


def percentile(samples: Sequence[float], part: float) -> float:
    ordered = sorted(samples)
    return ordered[round(part * (len(ordered) - 1))]


def against(own: Figures, other: Figures) -> float:
    """How much longer one takes than the other: the median over rounds in which both were measured."""
    return statistics.median(a / b for a, b in zip(own.medians, other.medians, strict=True))


def measured(track: KeyTrack, rounds: int, count: int, stacks: Sequence[str] = STACKS) -> Scene:
    """Every stack in turn, round by round, so that whatever else the machine does hits all alike."""
    scene = {stack: Figures() for stack in stacks}
    for _ in range(rounds):
        for stack in stacks:
            scene[stack].rounds.append(track.run(stack, count))
    return scene


@pytest.fixture(scope="module")
def track(machine_base: Base) -> Iterator[KeyTrack]:
    if lack := vdev_keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    with KeyTrack(machine_base) as track:
        yield track


@pytest.fixture(scope="module")
def scenes(track: KeyTrack) -> dict[str, Scene]:
    """With one key and with two, for a user who touches it at once."""
    found = {}
    for name, keys in {ONE: [track.blue], TWO: [track.red, track.blue]}.items():
        track.plug(*keys)
        found[name] = measured(track, ROUNDS, COUNT)
    track.plug(track.blue)
    return found


def show(title: str, scenes: dict[str, Scene]) -> None:
    print(f"\n\n| {title} | stack | p50 ms | p95 ms | p95 / p50 | p50 / pam_u2f |\n|---|---|---|---|---|---|")
    for name, scene in scenes.items():
        for stack, figures in scene.items():
            ratio = against(figures, scene["pam_u2f"])
            print(f"| {name} | {stack} | {figures.p50:.1f} | {figures.p95:.1f} | {figures.spread:.2f} | {ratio:.2f} |")


def test_a_touch_at_once(scenes: dict[str, Scene]) -> None:
    show("touched at once", scenes)
    for scene in scenes.values():
        assert against(scene["ours"], scene["pam_u2f"]) <= 1.0 * SLACK
        assert scene["ours"].spread <= 1.5 * SLACK


def test_a_touch_after_a_second(track: KeyTrack) -> None:
    track.delay(DELAY)
    slow = {}
    for name, keys in {ONE: [track.blue], TWO: [track.red, track.blue]}.items():
        track.plug(*keys)
        slow[name] = measured(track, SLOW_ROUNDS, SLOW_COUNT, ("pam_u2f", "ours"))
    track.delay(0.0)
    track.plug(track.blue)
    show(f"touched after {DELAY:.0f} s", slow)
    for scene in slow.values():
        assert against(scene["ours"], scene["pam_u2f"]) <= 1.0 * SLACK
        assert scene["ours"].spread <= 1.5 * SLACK


def test_from_the_keys_answer_to_the_verdict(track: KeyTrack) -> None:
    logins = [track.login() for _ in range(DRIVEN)]
    verdicts = sorted(login.verdict * 1000 for login in logins)
    shares = [login.verdict / login.whole for login in logins]
    print(
        f"\n\nfrom the key's answer to the verdict: {verdicts[0]:.1f} ms at best, {statistics.median(verdicts):.1f} ms "
        f"p50, {percentile(verdicts, 0.95):.1f} ms p95 (budget 5), {statistics.median(shares):.0%} of the login"
    )
    assert statistics.median(shares) <= 0.5


def test_the_engine(track: KeyTrack) -> None:
    """Every login is granted (KeyTrack.run); how long that takes is reported."""
    track.machine.service.stop()
    scene = measured(track, 3, 5, ("permit", "ours"))
    track.machine.service.start()
    over = scene["ours"].p50 - scene["permit"].p50
    print(f"\n\nengine: {over:.0f} ms over the floor of {scene['permit'].p50:.1f} ms (budget 130)")


def test_a_hundred_thousand_users(track: KeyTrack) -> None:
    levels = []
    for first, last in ((0, FEW), (FEW, MANY)):
        track.crowd(first, last)
        levels.append(measured(track, 5, COUNT))
    few, many = levels
    print(f"\n\n| {MANY:,} enrolled users against {FEW} | p50 ms | with {FEW} |\n|---|---|---|")
    for stack in ("pam_u2f", "ours"):
        print(f"| {stack} | {many[stack].p50:.1f} | {few[stack].p50:.1f} |")
    grown = against(many["ours"], many["permit"]) / against(few["ours"], few["permit"])
    print(f"\nours over the floor: {grown:.2f} x")
    assert grown <= 1.1 * SLACK
