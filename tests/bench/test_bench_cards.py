"""Logins by smartcard beside Debian's pam_p11: the same virtual card, the same rounds; printed with -s.

pam_p11 signs a SHA-1, which a P-256 key of PIV does not take: it is measured with RSA.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest
from machine import Base
from vdev import pcscd as vdev_pcscd

from .card_track import CardTrack, Timed, missing
from .test_bench_keys import Figures, Scene, against, percentile

SLACK = 1.5
ROUNDS, COUNT = 5, 8
DRIVEN = 30
REVOKED = 10_000
STACKS = {"rsa-2048": ("permit", "pam_p11", "ours"), "p-256": ("permit", "ours")}


@pytest.fixture(scope="module", params=list(STACKS))
def track(machine_base: Base, request: pytest.FixtureRequest) -> Iterator[CardTrack]:
    if lack := vdev_pcscd.missing() or missing():
        pytest.skip(lack)
    with CardTrack(machine_base, request.param) as track:
        yield track


def driven(track: CardTrack) -> list[Timed]:
    track.login()
    return [track.login() for _ in range(DRIVEN)]


def show(title: str, logins: list[Timed]) -> None:
    for name in ("verdict", "whole"):
        times = [getattr(login, name) * 1000 for login in logins]
        print(f"| {title} | {name} | {statistics.median(times):.1f} | {percentile(times, 0.95):.1f} |")


def test_the_same_card(track: CardTrack) -> None:
    """A new process for each login; then what the service itself takes; then with a CA."""
    scene: Scene = {stack: Figures() for stack in STACKS[track.kind]}
    for _ in range(ROUNDS):
        for stack, figures in scene.items():
            figures.rounds.append(track.run(stack, COUNT))
    other = scene.get("pam_p11", scene["ours"])
    print(f"\n\n| {track.kind} | p50 ms | p95 ms | p50 / pam_p11 |\n|---|---|---|---|")
    for stack, figures in scene.items():
        ratio = f"{against(figures, other):.2f}" if "pam_p11" in scene else "-"
        print(f"| {stack} | {figures.p50:.1f} | {figures.p95:.1f} | {ratio} |")
    print("\n| trust | | p50 ms | p95 ms |\n|---|---|---|---|")
    pinned = driven(track)
    show("pinned", pinned)
    track.chain(REVOKED)
    chained = driven(track)
    show(f"chain, {REVOKED} revoked", chained)
    assert against(scene["ours"], other) <= SLACK
