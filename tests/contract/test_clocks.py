"""Clocks that jump, at service and engine (F19, F20): no old code comes back, no wait ends early or lasts for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import DOORS, EngineDoor, LoopDoor, opened
from flows import ALICE, Clock, code_at, totp, wrong_for
from machine import wait_for
from stores import SEALER, discard, enrol, make, raw

from pam_mfa.audit import Fields
from pam_mfa.factors.base import SET_BACK
from pam_mfa.outcome import Outcome
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.throttle import FIRST_WAIT, FREE, LIMIT
from pam_mfa.wire import Type

PHONE = totp()
ACCOUNT = {"uid": ALICE, "name": "alice"}
DAY, YEAR = 86_400, 365 * 86_400
OTHER_BOOT = "3f1c9d0e-0000-4000-8000-000000000002"
ABOUT = ("REASON", "FACTOR", "CREDENTIAL", "LABEL")
JUMPS = [-YEAR, -DAY, -1, DAY, YEAR, 50 * YEAR]


class Watched:
    """alice at one door, with both clocks in the test's hands."""

    def __init__(self, door: LoopDoor | EngineDoor, path: str) -> None:
        self.path, self.clock, self._door, self._logins = path, Clock(), door, 0
        door.ground.now = self.clock

    def answered(self, *codes: str) -> bool:
        """Whether these answers open; else the login is given up."""
        self._logins += 1
        one = self._door.call().hello("alice", ALICE).answer(*codes)
        kind, _ = one.next()
        while kind in (Type.TELL, Type.WARN):
            kind, _ = one.next()
        if kind is not Type.RESULT:
            one.send(Type.ABORT)
        return one.outcome is Outcome.GRANTED

    def right(self) -> bool:
        """Whether the code that an app shows just now opens."""
        return self.answered(code_at(PHONE, self.clock()))

    def fail(self, count: int) -> None:
        """So many wrong answers."""
        for _ in range(count):
            assert not self.answered(wrong_for(PHONE, self.clock()))

    def unlock(self) -> dict[str, object]:
        """As root."""
        return self._door.call("manage").request("unlock", ACCOUNT).done

    def alerts(self) -> list[dict[str, str]]:
        """What administrators were told so far: why, and about what."""
        wait_for("the records of all logins", lambda: len(self._records("login")) == self._logins)
        told = self._records("alert")
        return [{name: fields[f"PAM_MFA_{name}"] for name in ABOUT} for fields in told]

    def _records(self, event: str) -> list[Fields]:
        return [fields for fields in self._door.shelf.written if fields.get("PAM_MFA_EVENT") == event]

    def reboot(self, wall: int) -> None:
        """Begin another boot, with the wall clock as the hardware has it."""
        self.clock.wall, self.clock.boot, self.clock.boot_id = wall, 0, OTHER_BOOT


@pytest.fixture(params=DOORS)
def alice(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    path = make(tmp_path / "state")
    store = SqliteStore(path, SEALER)
    store.prepare(["totp"])
    enrol(store, PHONE)
    discard(store)
    with opened(request.param, path) as door:
        yield Watched(door, path)


def test_f19_a_clock_that_is_set_back_brings_no_code_back(alice: Watched) -> None:
    start = alice.clock.wall
    used = code_at(PHONE, alice.clock())
    assert alice.right()
    for wall in (start - 30, start - DAY, start - YEAR, 0):
        alice.clock.wall = wall
        assert not alice.right()
    alice.clock.wall = start
    assert not alice.answered(used)
    alice.clock.wall += 30
    assert alice.right()


@pytest.mark.parametrize("back", [DAY, YEAR, SET_BACK + 1])
def test_f19_an_administrator_hears_of_a_clock_that_was_set_back(alice: Watched, back: int) -> None:
    assert alice.right()
    assert alice.alerts() == []
    alice.clock.wall -= back
    assert not alice.right()
    assert alice.alerts() == [{"REASON": "clock_back", "FACTOR": "totp", "LABEL": PHONE.label, "CREDENTIAL": PHONE.id}]


def test_f19_an_administrator_hears_it_once_in_a_login_and_not_after_an_unlock(alice: Watched) -> None:
    """Also where a second credential was used by a clock that ran ahead, and is not used since."""
    assert alice.right()
    alice.clock.wall -= DAY
    assert not alice.answered(*["000000"] * 3)
    assert len(alice.alerts()) == 1
    assert alice.unlock() == {"ok": True}
    alice.clock.sleep(60)
    assert alice.right()
    assert len(alice.alerts()) == 1


@pytest.mark.parametrize("step", [-SET_BACK, -1, DAY])
def test_f19_nobody_is_woken_by_a_clock_that_was_corrected(alice: Watched, step: int) -> None:
    assert alice.right()
    alice.clock.wall += step
    alice.fail(1)
    assert alice.alerts() == []


@pytest.mark.parametrize("jump", JUMPS)
def test_f19_within_a_boot_no_clock_that_is_set_changes_a_wait(alice: Watched, jump: int) -> None:
    alice.fail(FREE + 1)
    alice.clock.wall += jump
    assert not alice.right()
    alice.clock.boot += FIRST_WAIT - 1
    assert not alice.right()
    alice.clock.boot += 1
    assert alice.right()


@pytest.mark.parametrize("jump", [-50 * YEAR, *JUMPS[:3]])
def test_f20_a_clock_that_was_ahead_locks_nobody_out_for_longer_than_the_wait(alice: Watched, jump: int) -> None:
    """It ran ahead when the wait began, and a reboot brought it back."""
    alice.fail(FREE + 1)
    alice.reboot(max(0, alice.clock.wall + jump))
    assert not alice.right()
    alice.clock.sleep(FIRST_WAIT - 1)
    assert not alice.right()
    alice.clock.sleep(1)
    assert alice.right()


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("reboots", [False, True])
def test_f20_no_clock_unlocks_what_is_disabled(alice: Watched, jump: int, reboots: bool) -> None:
    raw(alice.path, f"UPDATE tally SET failures = (1 << 62) + {LIMIT} WHERE uid = {ALICE}")
    if reboots:
        alice.reboot(alice.clock.wall + jump)
    alice.clock.wall += 0 if reboots else jump
    alice.clock.boot += YEAR
    assert not alice.right()
    assert alice.unlock() == {"ok": True}
    assert alice.right()


def test_f20_what_was_used_up_by_a_clock_that_ran_ahead_root_alone_takes_back(alice: Watched) -> None:
    alice.clock.wall += YEAR
    assert alice.right()
    alice.clock.wall -= YEAR
    for _ in range(2):
        assert not alice.right()
        alice.clock.sleep(DAY)
    assert alice.unlock() == {"ok": True}
    alice.clock.sleep(60)  # the mark came down to the last step that the clock explained
    assert alice.right()
