"""Audit for the service: records wait in a bounded queue for a thread that writes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .audit import Fields, Log, Record, render, render_alert, render_lost

QUEUE_SIZE = 1000
# The thread lets records gather for a moment: woken for each, it would take the interpreter from logins.
LINGER_SECONDS = 0.1

Callback = Callable[[bool], None]


class Trail:
    """A bounded queue and one thread that writes, so that the event loop never does.

    Args:
        log: where the records go; from now on the thread's alone.
        size: how many records may wait.
        linger: seconds that a record may wait for others; nobody waits for it meanwhile.
    """

    def __init__(self, log: Log, size: int = QUEUE_SIZE, linger: float = LINGER_SECONDS) -> None:
        self._log = log
        self._size = size
        self._linger = linger
        self._queue: deque[tuple[Callable[[], Fields], Callback | None]] = deque()
        self._changed = threading.Condition()
        self._pressing = False
        self._stopping = False
        self._lost = 0
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many records could not be written since the start."""
        with self._changed:
            return self._lost

    def put(self, record: Record) -> bool:
        """Queue a record. False, and counted as lost, where the queue is full or stopped."""
        return self._put(partial(render, record), None)

    def alert(self, text: str) -> bool:
        """Queue something that an administrator must act on at once."""
        return self._put(partial(render_alert, text), None, pressing=True)

    def put_and_wait(self, record: Record, callback: Callback) -> None:
        """Queue a record and be called exactly once with whether it was written.

        The call comes from the writing thread, or at once from this one where the queue is full or stopped.
        """
        if not self._put(partial(render, record), callback, pressing=True):
            callback(False)

    def stop(self, timeout: float) -> bool:
        """Write what is queued, for at most `timeout` seconds; whether nothing was left."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
            self._lost += len(left)
        for _, callback in left:
            _call(callback, False)
        return not left and not self._thread.is_alive()

    def _put(self, fields: Callable[[], Fields], callback: Callback | None, pressing: bool = False) -> bool:
        with self._changed:
            if self._stopping or len(self._queue) >= self._size:
                self._lost += 1
                return False
            self._queue.append((fields, callback))
            self._pressing |= pressing
            if pressing or len(self._queue) == 1:
                self._changed.notify()
            return True

    def _next(self) -> tuple[Callable[[], Fields], Callback | None] | None:
        """The record to be written now; None after the last one."""
        with self._changed:
            if not self._queue:
                self._pressing = False
                self._changed.wait_for(lambda: self._queue or self._stopping)
                self._changed.wait_for(lambda: self._pressing or self._stopping, self._linger)
            return self._queue.popleft() if self._queue else None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            fields, callback = job
            self._tell_lost()
            written = self._send(fields)
            with self._changed:
                self._lost += not written
            _call(callback, written)
        self._tell_lost()
        self._log.close()

    def _tell_lost(self) -> None:
        lost = self.lost
        if lost > self._told and self._send(partial(render_lost, lost - self._told)):
            self._told = lost

    def _send(self, fields: Callable[[], Fields]) -> bool:
        try:
            return self._log.send(fields())
        except Exception:  # noqa: BLE001 - whatever is wrong with one record, the next must still be written
            return False


def _call(callback: Callback | None, written: bool) -> None:
    # A callback whose event loop is closed must not end the thread that writes everybody's records.
    with suppress(Exception):
        if callback is not None:
            callback(written)
