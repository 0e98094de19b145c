"""One thread that makes changes durable for everybody who waits, many in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import StoreError
from .base import Attempt, Operation, Store

CAPACITY = 1024
BATCH = 128

Callback = Callable[[tuple[Any, ...] | Exception], None]
_Job = tuple[tuple[Operation, ...], Callback]


class Writer:
    """Group commit: what is queued when the thread wakes shares one transaction and one fsync.

    A batch is complete before its transaction opens, so that nobody's slowness holds the write lock.

    Args:
        store: used by this thread alone; one that opens at its first use and again after an error.
        capacity: how many changes may wait.
    """

    def __init__(self, store: Store, capacity: int = CAPACITY) -> None:
        self._store = store
        self._capacity = capacity
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, operations: tuple[Operation, ...], callback: Callback) -> None:
        """Have operations done in one durable transaction.

        Args:
            callback: called once, on the writer's thread, with the results or with what undid the
                operations; a StoreError where the store is to blame.

        Raises:
            StoreError: too many changes wait already, or the writer was stopped; callback is not called.
        """
        with self._gate:
            if self._stopped:
                raise StoreError("the store is closing")
            if self._jobs.qsize() >= self._capacity:
                raise StoreError("too many changes wait for the store")
            self._jobs.put((operations, callback))

    def stop(self, timeout: float) -> bool:
        """Take no more, finish what waits; whether that took at most `timeout` seconds."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._next()
            for jobs in _apart(batch):
                self._settle(jobs)

    def _next(self) -> tuple[list[_Job], bool]:
        """Everything that waits, at least one; and whether more may come."""
        batch: list[_Job] = []
        job = self._jobs.get()
        with suppress(Empty):
            while job is not None:
                batch.append(job)
                if len(batch) == BATCH:
                    return batch, True
                job = self._jobs.get_nowait()
            return batch, False
        return batch, True

    def _settle(self, batch: list[_Job]) -> None:
        results: list[tuple[Any, ...] | Exception]
        try:
            results = self._store.apply([operations for operations, _ in batch])
        except Exception as error:  # noqa: BLE001 whatever it is, each of them is told, and the thread lives on
            results = [error if isinstance(error, StoreError) else StoreError(repr(error))] * len(batch)
        for (_, callback), result in zip(batch, results, strict=True):
            # A callback whose session has ended (its loop is closed) must not take the others with it.
            with suppress(Exception):
                callback(result)


def _apart(batch: list[_Job]) -> Iterator[list[_Job]]:
    """Answers, then what may need room: a full disk refuses the latter, and must not take the former with it."""
    answers: list[_Job] = []
    others: list[_Job] = []
    for job in batch:
        kind = answers if all(isinstance(operation, Attempt) for operation in job[0]) else others
        kind.append(job)
    return filter(None, (answers, others))
