"""The service's audit trail: a bounded queue that loses nothing silently, and one thread that nothing ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from machine import wait_for

from pam_mfa.audit import Fields, Log, Record
from pam_mfa.outcome import Outcome
from pam_mfa.trail import Trail

DEADLINE = 20.0


def record(user: str = "alice") -> Record:
    return Record("login", Outcome.DENIED, "wrong_code", "service", "sshd", user, 1000, "0123abcd", 412)


class Memory:
    """A sink that a test can stop, break and read."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.works = True
        self.raises = False
        self.written: list[Fields] = []
        self.closed = False

    def write(self, fields: Fields) -> bool:
        self.entered.release()
        assert self.gate.wait(DEADLINE)
        if self.raises:
            raise ValueError("a bug")
        if self.works:
            self.written.append(fields)
        return self.works

    def close(self) -> None:
        self.closed = True

    def users(self) -> list[str | None]:
        return [fields.get("PAM_MFA_USER") for fields in self.written]

    def lost_lines(self) -> list[str]:
        return [fields["PAM_MFA_LOST"] for fields in self.written if "PAM_MFA_LOST" in fields]


class Called:
    """A callback that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[bool, str]] = []
        self.event = threading.Event()

    def __call__(self, written: bool) -> None:
        self.calls.append((written, threading.current_thread().name))
        self.event.set()

    def wait(self) -> tuple[bool, str]:
        assert self.event.wait(DEADLINE)
        (call,) = self.calls
        return call


@pytest.fixture
def memory() -> Iterator[Memory]:
    sink = Memory()
    yield sink
    sink.gate.set()


def hold(trail: Trail, memory: Memory) -> None:
    """Stop the writing thread in the middle of one record."""
    memory.gate.clear()
    assert trail.put(record(user="held"))
    assert memory.entered.acquire(timeout=DEADLINE)


def test_records_come_out_in_their_order(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    users = [f"u{number}" for number in range(500)]
    assert all(trail.put(record(user=user)) for user in users)
    assert trail.stop(DEADLINE) is True
    assert memory.users() == users
    assert memory.closed
    assert trail.lost == 0


def test_records_of_many_threads_are_all_there(memory: Memory) -> None:
    trail = Trail(Log([memory]), size=10_000)
    threads = [
        threading.Thread(target=lambda name=name: [trail.put(record(user=f"{name}-{n}")) for n in range(200)])
        for name in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert trail.stop(DEADLINE) is True
    assert sorted(str(user) for user in memory.users()) == sorted(
        f"{name}-{n}" for name in range(8) for n in range(200)
    )


def test_a_full_queue_refuses_and_counts_and_says_so_later(memory: Memory) -> None:
    trail = Trail(Log([memory]), size=3)
    hold(trail, memory)
    assert [trail.put(record(user=f"u{n}")) for n in range(5)] == [True, True, True, False, False]
    assert trail.lost == 2
    memory.gate.set()
    assert trail.stop(DEADLINE) is True
    assert [user for user in memory.users() if user] == ["held", "u0", "u1", "u2"]
    assert memory.lost_lines() == ["2"]
    assert memory.written[1]["MESSAGE"] == "2 audit records were lost"
    assert memory.written[1]["PRIORITY"] == "4"


def test_the_default_queue_holds_a_thousand(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    hold(trail, memory)
    assert all(trail.put(record()) for _ in range(1000))
    assert trail.put(record()) is False
    memory.gate.set()
    assert trail.stop(DEADLINE) is True
    assert len(memory.written) == 1002


def broken(memory: Memory, how: str) -> None:
    memory.works, memory.raises = how == "works", how == "raises"


@pytest.mark.parametrize("how", ["refuses", "raises"])
def test_records_that_cannot_be_written_are_counted_until_it_works_again(memory: Memory, how: str) -> None:
    trail = Trail(Log([memory]))
    broken(memory, how)
    for lost in (1, 2):
        called = Called()
        trail.put_and_wait(record(), called)
        assert called.wait() == (False, "audit")
        assert trail.lost == lost
    broken(memory, "works")
    assert trail.put(record(user="after"))
    assert trail.stop(DEADLINE) is True
    assert memory.lost_lines() == ["2"]
    assert memory.users() == [None, "after"]


def test_what_cannot_be_rendered_is_lost_and_ends_nothing(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    called = Called()
    trail.put_and_wait(None, called)  # type: ignore[arg-type]
    assert called.wait() == (False, "audit")
    assert trail.put(record())
    assert trail.stop(DEADLINE) is True
    assert memory.users() == [None, "alice"]


def test_the_number_of_lost_records_is_told_once_and_grows_from_there(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    for _ in range(2):
        memory.works = False
        for _ in range(3):
            called = Called()
            trail.put_and_wait(record(), called)
            assert called.wait()[0] is False
        memory.works = True
        called = Called()
        trail.put_and_wait(record(), called)
        assert called.wait()[0] is True
    assert trail.stop(DEADLINE) is True
    assert memory.lost_lines() == ["3", "3"]
    assert trail.lost == 6


def test_losses_are_told_at_the_end_where_no_record_follows(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    memory.works = False
    called = Called()
    trail.put_and_wait(record(), called)
    called.wait()
    memory.works = True
    assert trail.stop(DEADLINE) is True
    assert memory.lost_lines() == ["1"]


def test_put_and_wait_answers_after_the_record_is_written(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    memory.gate.clear()
    called = Called()
    trail.put_and_wait(record(), called)
    assert memory.entered.acquire(timeout=DEADLINE)
    assert called.calls == []
    memory.gate.set()
    assert called.wait() == (True, "audit")
    assert len(memory.written) == 1
    trail.stop(DEADLINE)
    assert len(called.calls) == 1


def test_put_and_wait_is_false_at_once_where_the_queue_is_full_or_stopped(memory: Memory) -> None:
    trail = Trail(Log([memory]), size=1)
    hold(trail, memory)
    assert trail.put(record())
    full, stopped = Called(), Called()
    trail.put_and_wait(record(), full)
    assert full.calls == [(False, threading.current_thread().name)]
    memory.gate.set()
    trail.stop(DEADLINE)
    trail.put_and_wait(record(), stopped)
    assert stopped.calls == [(False, threading.current_thread().name)]
    assert trail.put(record()) is False
    assert trail.alert("late") is False


def test_a_stop_that_takes_too_long_answers_everybody_false(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    hold(trail, memory)
    waiting = [Called() for _ in range(3)]
    for called in waiting:
        trail.put_and_wait(record(), called)
    assert trail.stop(0.01) is False
    assert [called.calls[0][0] for called in waiting] == [False, False, False]
    assert trail.lost == 3
    memory.gate.set()
    trail._thread.join(DEADLINE)
    assert [len(called.calls) for called in waiting] == [1, 1, 1]
    assert memory.users() == ["held", None]  # and the line about those that were lost


def test_a_callback_that_fails_ends_nothing(memory: Memory) -> None:
    trail = Trail(Log([memory]))

    def closed_loop(written: bool) -> None:
        raise RuntimeError("Event loop is closed")

    trail.put_and_wait(record(), closed_loop)
    called = Called()
    trail.put_and_wait(record(), called)
    assert called.wait()[0] is True
    assert trail.stop(DEADLINE) is True


def test_alerts_go_the_same_way(memory: Memory) -> None:
    trail = Trail(Log([memory]))
    assert trail.alert("config.toml: audit: unknown")
    assert trail.stop(DEADLINE) is True
    assert memory.written[0]["MESSAGE"] == "config.toml: audit: unknown"
    assert memory.written[0]["PRIORITY"] == "1"


def wait_until_it_lingers(trail: Trail) -> None:
    """After a record was put: until the thread waits again, now for others. A Condition tells nobody else."""
    wait_for("the thread to linger", lambda: trail._changed._waiters)  # type: ignore[attr-defined]


def test_records_gather_until_somebody_waits_for_one(memory: Memory) -> None:
    trail = Trail(Log([memory]), linger=DEADLINE * 10)
    memory.gate.set()
    answers: list[bool] = []
    answered = threading.Event()
    assert trail.put(record(user="first"))
    wait_until_it_lingers(trail)
    assert trail.put(record(user="second"))
    assert not memory.written

    def done(written: bool) -> None:
        answers.append(written)
        answered.set()

    trail.put_and_wait(record(user="third"), done)
    assert answered.wait(DEADLINE)
    assert memory.users() == ["first", "second", "third"]
    assert answers == [True]


@pytest.mark.parametrize("end", ["alert", "stop"])
def test_neither_an_alert_nor_the_end_waits_for_others(memory: Memory, end: str) -> None:
    trail = Trail(Log([memory]), linger=DEADLINE * 10)
    assert trail.put(record(user="first"))
    wait_until_it_lingers(trail)
    if end == "alert":
        assert trail.alert("the store is damaged")
        assert memory.entered.acquire(timeout=DEADLINE)
        memory.gate.set()
    else:
        memory.gate.set()
    assert trail.stop(DEADLINE) is True
    assert memory.users()[0] == "first"
