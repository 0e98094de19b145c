"""What all sessions share: their peer, their deadlines, the frames of a conversation. No loop, no asyncio.

Whoever owns a session - the service's loop, the engine's poll, a test - hands it packets and the time.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from .. import wire
from ..audit import Record
from ..config import Settings
from ..conversation import Aborted, Answer, Ask, AskSecret, Event, Expired, Shown, Skipped, Tell, Wait, Want, Warn
from ..errors import AbortedError, DeadlineError, PamMfaError, PeerFull, ProtocolError
from ..factors.base import Factor
from ..structure import field, structure
from ..throttle import Instant
from .channel import Backend, Channel

FIRST_FRAME_SECONDS = 2
ALIVE_SECONDS = 4


@structure(frozen=False)
class Ground:
    """What all sessions of a process share; `settings` is swapped on reload.

    Args:
        role: "service" or "engine", for the audit record.
        settings: those in force; None where neither the file nor a kept text is any good.
        factors: the registry.
        now: reads both clocks.
        host: this host's name.
        health: what `status` tells root about this process.
        callers: how many logins through root's hosts each user has begun who is not root (PAM_RUSER).
    """

    role: str
    settings: Settings | None
    factors: Mapping[str, Factor]
    now: Callable[[], Instant]
    host: str
    health: Callable[[], Mapping[str, Any]]
    callers: Counter[str] = field(default_factory=Counter)


class Link(Protocol):
    """A session's way to its peer and to the world outside."""

    backend: Backend

    def send(self, frame: bytes) -> None:
        """Hand a frame to the peer. Raises OSError where it is not taken at once: a peer that is stopped or gone."""

    def when_writable(self, call: Callable[[], None]) -> None:
        """Call once the peer takes frames again; at most one call waits."""

    def record(self, record: Record, required: bool, done: Callable[[bool], None]) -> None:
        """Write an audit record. `done` hears whether it is written or, where not `required`, queued."""

    def close(self) -> None:
        """The session is over."""


class Session:
    """One connection.

    Args:
        link: to the peer.
        ground: shared with all others.
        peer_uid: of the peer, as the kernel says.
    """

    def __init__(self, link: Link, ground: Ground, peer_uid: int) -> None:
        self.id = os.urandom(16).hex()
        self.over = False
        self._link = link
        self._ground = ground
        self._peer_uid = peer_uid
        self._started = time.monotonic()
        self._deadline = self._started + FIRST_FRAME_SECONDS
        self._next_alive = float("inf")
        self._channel: Channel[Any] | None = None

    def receive(self, packet: bytes | bytearray | memoryview) -> None:
        """One packet from the peer; an empty one means that the peer is gone."""
        if self.over:
            return
        try:
            if time.monotonic() >= self._deadline:  # what comes late is not evaluated, whoever looks first
                self.stop(Expired())
            elif not packet:
                self.stop(Aborted())
            else:
                self._frame(*wire.decode(packet))
        except PamMfaError as problem:
            self.stop(problem)
        except Exception as problem:  # noqa: BLE001 - one session's fault ends that session, not the service
            self._finish(problem)

    def tick(self, now: float) -> None:
        """Time has passed; `now` is time.monotonic()."""
        if self.over:
            return
        if now >= self._deadline:
            self.stop(Expired())
        elif self._channel is not None and now >= self._channel.wait_ends:
            self._channel.deliver(Expired())
        elif now >= self._next_alive:
            self._next_alive = now + ALIVE_SECONDS
            if self._channel is None or not isinstance(self._channel.want, Ask | AskSecret):  # the peer waits for us
                self._alive()

    @property
    def account(self) -> int | None:
        """The uid of the account that this session is about, where it is known."""
        return None

    @property
    def next_tick(self) -> float:
        """When `tick` has something to do, on time.monotonic()."""
        wait_ends = self._channel.wait_ends if self._channel is not None else float("inf")
        return min(self._deadline, self._next_alive, wait_ends)

    def stop(self, why: Aborted | Expired | PamMfaError) -> None:
        """End the session from outside, with what its flow makes of that."""
        if self._channel is not None:
            self._channel.stop(why)
        else:
            self._finish(error_of(why))

    def _frame(self, kind: wire.Type, payload: bytes) -> None:
        """A frame of the conversation; what introduces it is the subclass's."""
        channel = self._channel
        if channel is None:
            raise ProtocolError(f"{kind.name} before the first frame")
        if kind is wire.Type.REPLY and isinstance(channel.want, Ask | AskSecret) and len(payload) <= wire.MAX_REPLY:
            # A reply in another encoding is a wrong answer, not an error; a password is passed on byte by byte.
            channel.deliver(Answer(payload.decode(errors="surrogateescape")))
        elif kind is wire.Type.SKIP and not payload and isinstance(channel.want, Wait) and channel.want.skippable:
            channel.deliver(Skipped())
        elif kind is wire.Type.ABORT and not payload:
            self.stop(Aborted())
        else:
            raise ProtocolError(f"{kind.name} out of turn")

    def _run(self, channel: Channel[Any], seconds: float) -> None:
        self._deadline = self._started + seconds
        self._next_alive = time.monotonic() + ALIVE_SECONDS
        self._channel = channel
        self._send(wire.encode(wire.Type.ALIVE))
        channel.start()

    def _alive(self) -> None:
        try:
            self._send(wire.encode(wire.Type.ALIVE))
        except PeerFull:
            return  # it has enough to read
        except ProtocolError as problem:
            self.stop(problem)

    def _say(self, want: Want) -> Event | None:
        match want:
            case Ask(text):
                self._send(wire.encode_text(wire.Type.ASK, text))
                return None
            case AskSecret(text):
                self._send(wire.encode_text(wire.Type.ASK_SECRET, text))
                return None
            case Tell(text, skippable):
                self._send(wire.encode_tell(text, skippable))
            case Warn(text):
                self._send(wire.encode_text(wire.Type.WARN, text))
            case _:
                raise ProtocolError(f"{type(want).__name__} has no place in this session")
        return Shown()

    def _send(self, frame: bytes) -> None:
        try:
            self._link.send(frame)
        except BlockingIOError:
            raise PeerFull("the peer leaves its frames unread") from None
        except OSError as problem:
            raise ProtocolError(f"the peer does not take a frame: {type(problem).__name__}") from None

    def _finish(self, end: Any) -> None:
        """The flow has ended, or never began. Ends in `_close`."""
        raise NotImplementedError

    def _close(self, last: bytes = b"") -> None:
        """Send the last frame, to whoever may still be there, and end."""
        self.over = True
        if last:
            with suppress(OSError):
                self._link.send(last)
        self._link.close()

    def _milliseconds(self) -> int:
        return round((time.monotonic() - self._started) * 1000)


def error_of(why: Aborted | Expired | PamMfaError) -> PamMfaError:
    """What a session that was stopped from outside has ended with."""
    if isinstance(why, PamMfaError):
        return why
    return AbortedError("gone") if isinstance(why, Aborted) else DeadlineError("deadline")
