"""The writer thread: who waits together is written together, and nothing ends the thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from pam_mfa.errors import StoreError
from pam_mfa.store import writer
from pam_mfa.store.base import Attempt, Operation, Query, Remove
from pam_mfa.store.writer import Writer
from pam_mfa.throttle import Instant

DEADLINE = 20.0
Answers = SimpleQueue[tuple[Any, ...] | Exception]


class Gated:
    """A store that waits at its gate inside every batch, and fails when told to."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.error: Exception | None = None

    def read(self, query: Query) -> Any:
        raise NotImplementedError

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        self.batches.append(len(batch))
        self.entered.release()
        assert self.gate.acquire(timeout=DEADLINE)
        if self.error is not None:
            raise self.error
        return list(batch)


@pytest.fixture
def store() -> Gated:
    return Gated()


@pytest.fixture
def made(store: Gated) -> Iterator[Writer]:
    made = Writer(store, capacity=200)
    yield made
    store.gate.release(1000)
    assert made.stop(DEADLINE)


def numbered(number: int) -> tuple[Operation, ...]:
    return (Remove(number, ""),)


def enter(store: Gated, made: Writer, answers: Answers) -> None:
    """Have the thread inside a batch of one."""
    made.submit(numbered(0), answers.put)
    assert store.entered.acquire(timeout=DEADLINE)


def test_what_waits_meanwhile_is_one_batch_in_order(store: Gated, made: Writer) -> None:
    answers: Answers = SimpleQueue()
    enter(store, made, answers)
    for number in range(1, 20):
        made.submit(numbered(number), answers.put)
    store.gate.release(2)
    assert [answers.get(timeout=DEADLINE) for _ in range(20)] == [numbered(number) for number in range(20)]
    assert store.batches == [1, 19]


def test_a_batch_has_a_limit(store: Gated, made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH", 8)
    answers: Answers = SimpleQueue()
    enter(store, made, answers)
    for number in range(1, 18):
        made.submit(numbered(number), answers.put)
    store.gate.release(4)
    assert [answers.get(timeout=DEADLINE) for _ in range(18)] == [numbered(number) for number in range(18)]
    assert store.batches == [1, 8, 8, 1]


def test_answers_come_on_the_writers_thread(store: Gated, made: Writer) -> None:
    names: SimpleQueue[str] = SimpleQueue()
    store.gate.release()
    made.submit(numbered(1), lambda results: names.put(threading.current_thread().name))
    assert names.get(timeout=DEADLINE) == "store-writer"


def test_a_full_queue_is_a_store_error_and_empties_again(store: Gated, made: Writer) -> None:
    answers: Answers = SimpleQueue()
    enter(store, made, answers)
    for number in range(200):
        made.submit(numbered(number), answers.put)
    with pytest.raises(StoreError):
        made.submit(numbered(1), answers.put)
    store.gate.release(1000)
    for _ in range(201):
        assert not isinstance(answers.get(timeout=DEADLINE), Exception)
    made.submit(numbered(2), answers.put)
    assert answers.get(timeout=DEADLINE) == numbered(2)


def test_what_may_need_room_takes_no_answer_with_it(
    store: Gated, made: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk refuses whole batches: logins go on, and only what they would leave behind does not."""
    answers: Answers = SimpleQueue()
    other: Answers = SimpleQueue()
    enter(store, made, answers)
    monkeypatch.setattr(store, "apply", lambda batch: full_for_changes(store, batch))
    answer = (Attempt(1, "totp", None, Instant(1, 1, "boot")),)
    for _ in range(3):
        made.submit(numbered(1), other.put)
        made.submit(answer, answers.put)
    store.gate.release(3)
    assert [answers.get(timeout=DEADLINE) for _ in range(4)] == [numbered(0), answer, answer, answer]
    assert all(isinstance(other.get(timeout=DEADLINE), StoreError) for _ in range(3))


def full_for_changes(store: Gated, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
    """A disk that has room for what answers overwrite."""
    store.error = StoreError("full") if any(isinstance(operations[0], Remove) for operations in batch) else None
    return Gated.apply(store, batch)


@pytest.mark.parametrize("error", [StoreError("full"), ValueError("a bug"), MemoryError()])
def test_an_error_of_the_batch_is_everybodys(store: Gated, made: Writer, error: Exception) -> None:
    answers: Answers = SimpleQueue()
    store.error = error
    enter(store, made, answers)
    made.submit(numbered(1), answers.put)
    store.gate.release(2)
    for _ in range(2):
        assert isinstance(answers.get(timeout=DEADLINE), StoreError)
    store.error = None
    store.gate.release()
    made.submit(numbered(2), answers.put)
    assert answers.get(timeout=DEADLINE) == numbered(2)


def test_a_callback_that_raises_takes_nobody_with_it(store: Gated, made: Writer) -> None:
    answers: Answers = SimpleQueue()
    enter(store, made, answers)

    def broken(results: object) -> None:
        raise RuntimeError("the loop is closed")

    made.submit(numbered(1), broken)
    made.submit(numbered(2), answers.put)
    store.gate.release(2)
    assert [answers.get(timeout=DEADLINE) for _ in range(2)] == [numbered(0), numbered(2)]


def test_stop_finishes_what_waits_and_takes_no_more(store: Gated, made: Writer) -> None:
    answers: Answers = SimpleQueue()
    enter(store, made, answers)
    for number in range(1, 150):
        made.submit(numbered(number), answers.put)
    assert not made.stop(0)
    with pytest.raises(StoreError):
        made.submit(numbered(1), answers.put)
    store.gate.release(1000)
    assert made.stop(DEADLINE)
    assert [answers.get_nowait() for _ in range(150)] == [numbered(number) for number in range(150)]


def test_stop_of_an_idle_writer_returns_at_once(made: Writer) -> None:
    assert made.stop(DEADLINE)
    assert made.stop(0)
