"""A helper's line to the broker, with the time it has; and the ends that talking to a device may come to."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .base import MAX_PACKET, Failure, Followup, Reply
from .codec import decode, encode

QUIET_SECONDS = 5.0  # for what needs no user
GRACE = 0.15  # for a device to answer CTAPHID_CANCEL; the watchdog ends the process 0.2 s after its client


class Out(Exception):
    """The device is out of this request."""

    def __init__(self, why: Failure) -> None:
        super().__init__(why.name)
        self.why = why


class Left(Exception):
    """Nobody waits for the device any more."""


class Stranger(Exception):
    """What is there is none of the devices in question; nothing is said about it."""


class Line:
    """The connection to the broker. To python-fido2 it is the event that cancels (`is_set`, `wait`).

    Args:
        connection: SOCK_SEQPACKET.
        device: number that the broker gave it.
        seconds: for all of the request.
    """

    def __init__(self, connection: socket.socket, device: int, seconds: float) -> None:
        self.device = device
        self.left = False
        self.touching = False  # whether the user has been asked to
        self._connection = connection
        self._limit = self._end = time.monotonic() + seconds
        self._cancelled = 0.0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLRDHUP)

    def say(self, reply: Reply) -> None:
        """Send a reply. Raises Left."""
        self.tell(encode(reply))

    def tell(self, packet: bytes) -> None:
        """Send a packet. Raises Left."""
        try:
            self._connection.send(packet, socket.MSG_NOSIGNAL)
        except OSError:
            raise Left from None

    def hear(self) -> Followup:
        """Wait for the next one. Raises Left where none comes."""
        ready = select.poll()
        ready.register(self._connection, select.POLLIN)
        packet = b""
        if ready.poll(self.remaining() * 1000):
            packet = self._connection.recv(MAX_PACKET)
        followup = decode(packet) if packet else None
        if not isinstance(followup, Followup):
            raise Left
        return followup

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is done in this block is cancelled after so many seconds, and given up soon after that."""
        before = self._limit
        self._limit = min(self._end, time.monotonic() + seconds)
        self._cancelled = 0.0
        try:
            yield
        finally:
            self._limit = before

    def remaining(self) -> float:
        """Seconds until what runs is to be cancelled."""
        return max(0.0, self._limit - time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the moment from which what runs is to be cancelled; whether that has come."""
        self._poll_for(min(seconds, self.remaining()))
        return self.is_set()

    def is_set(self) -> bool:
        """Whether what runs is to be cancelled."""
        self._poll_for(0)
        return self.left or not self.remaining()

    def check(self) -> None:
        """Give up on a device that was cancelled and did not notice. Raises Left or Out."""
        if not self.is_set():
            return
        self._cancelled = self._cancelled or time.monotonic()
        if time.monotonic() - self._cancelled > GRACE:
            self.give_up()

    def give_up(self) -> None:
        """Raises Left, or Out with the reason why what runs came to no end."""
        if self.left:
            raise Left
        raise Out(Failure.NOT_TOUCHED if self.touching else Failure.SILENT)

    def fileno(self) -> int:
        """For those who poll for its end (POLLRDHUP) beside something else."""
        return self._connection.fileno()

    def _poll_for(self, seconds: float) -> None:
        if not self.left and self._poll.poll(seconds * 1000):
            self.left = True
