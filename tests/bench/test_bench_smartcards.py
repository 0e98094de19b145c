"""How soon a card is noticed, beside another client of pcscd's, and how long its signature takes; printed with -s."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices_bench import Bench
from smartcards import KINDS, SIGN, piv, use
from vdev.iso7816 import Card
from vdev.pcscd import Pcscd, Reader

from pam_mfa.devices.base import Carries, Idle, Signed

SLACK = 3  # the other client only hears of the card; we have read it, too
ROUNDS = 16
COUNT = 10
APART = 0.13  # seconds; or all cards would come at the same point between two looks of pcscd's


@pytest.fixture
def bench(tmp_path: Path, pcscd: Pcscd) -> Iterator[Bench]:
    """A broker that sees the virtual readers."""
    with Bench("pcsc", tmp_path, pcscd) as bench:
        yield bench


def report(what: str, seconds: list[float]) -> float:
    """Print median and maximum; returns the median."""
    found = statistics.median(seconds)
    print(f"\n{what:48} p50 {found * 1e3:4.0f} ms, max {max(seconds) * 1e3:4.0f} ms", end="")
    return found


def test_a_card_is_noticed(bench: Bench, readers: list[Reader]) -> None:
    """Reader.insert returns when another client has been told of the card."""
    ours, others = [], []
    for number in range(ROUNDS):
        with bench.session(SIGN) as session:
            session.until(Idle)
            start = time.perf_counter()
            readers[0].insert(Card(piv()))
            others.append(time.perf_counter() - start)
            session.until(Carries)
            ours.append(time.perf_counter() - start)
        readers[0].remove()
        time.sleep(APART * (number % 4))
    other = report("a card comes: another client is told", others)
    assert report("a card comes: its certificate is here", ours) < SLACK * other


def test_a_card_signs(bench: Bench, readers: list[Reader]) -> None:
    for kind in KINDS:
        readers[0].insert(Card(piv(kind)))
        asked, signed = [], []
        for _ in range(COUNT):
            with bench.session(SIGN) as session:
                start = time.perf_counter()
                session.until(Carries)
                asked.append(time.perf_counter() - start)
            with bench.session(SIGN) as session:
                use(session)
                start = time.perf_counter()
                session.until(Signed)
                signed.append(time.perf_counter() - start)
        report(f"{kind}: from the request to the certificate", asked)
        report(f"{kind}: from the PIN to the signature", signed)
        readers[0].remove()
