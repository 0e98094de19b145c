"""One request of one session: a helper for every device that is there or comes, and what they say, passed on.

A helper has read what a device says, so it is believed as little as the device: its replies are decoded, bear its own
number, and are few.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, get_args

from ..errors import ProtocolError
from .base import (
    HASH_BYTES,
    MAX_CREDENTIAL_ID,
    MAX_CREDENTIALS,
    MAX_PACKET,
    Assert,
    Carries,
    Choose,
    Chosen,
    Failed,
    Failure,
    Holds,
    Idle,
    List,
    Made,
    Make,
    Pin,
    PinWanted,
    Reader,
    Release,
    Reply,
    Request,
    Sign,
    Structure,
    Touch,
    Transport,
    Use,
)
from .codec import decode, encode
from .helper import DONE, WATCHDOG_EXIT, Child, Port

MAX_SECONDS = 180
LATE_SECONDS = 1  # for helpers to say that time is up
FIRST_REQUEST_SECONDS = 5.0
BUSY_SECONDS = 3.0  # as long as a helper waits for a lock
FIRST_WORD_SECONDS = 12  # for a lock, and for a device to say what it is and what it holds
AGAIN_SECONDS = 1.0  # PC/SC misses a card that is taken off and put back quickly
MAX_DEVICES = 8  # at once, two descriptors each
MAX_REPLIES = 64  # of one device
SIGALRM_EXIT = -14  # helper.py: nobody let it have the card

FROM_HELPER = tuple(kind for kind in get_args(Reply) if kind is not Idle)
LOGINS = (Assert, Sign)  # they come first: enrolments of keys and lists leave them the device
WORKING = (Holds, PinWanted, Touch, Chosen, Carries)  # replies that are not the last one


class Children(Protocol):
    """Who watches over processes."""

    def adopt(self, child: Child, heard: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        """Hand on what it says, and its exit status; kill it soon after it was hung up on."""

    def at(self, port: Port) -> Child:
        """A process for the device there, which waits to begin. Raises OSError."""

    def clear(self, port: Port) -> None:
        """A login wants the device there: nobody else may have it."""

    def reserved(self, port: Port) -> bool:
        """Whether a login is at the device there."""


@dataclass(slots=True)
class Helper:
    """The helper of one device.

    Args:
        number: of the device within the request.
        child: None once it has ended and, while a login is at the device, before it has begun.
        silent_until: when it must have begun, have said something next or, once its device is gone, is forgotten.
        replies: it has said.
        wants_pin: it waits for one, or to be let go.
        out: it has said its last word, or needs none.
        gone: its device is, though where it was does not show that yet.
        empty: it is a reader without a card.
    """

    number: int
    child: Child | None
    silent_until: float
    replies: int = 0
    wants_pin: bool = False
    out: bool = False
    gone: bool = False
    empty: bool = False


class Errand:
    """What one connection asks for.

    Args:
        connection: non-blocking, of a peer that may ask.
        children: where helpers are watched.
    """

    def __init__(self, connection: socket.socket, children: Children) -> None:
        self.connection = connection
        self.over = False
        self._children = children
        self._request: Request | None = None
        self._helpers: dict[Port, Helper] = {}
        self._numbers = 0
        self._idle: int | None = None
        self._until = time.monotonic() + FIRST_REQUEST_SECONDS

    # -------------------------------------------------------------------------------------------------- the session

    @property
    def asking(self) -> bool:
        """Whether it has a request, and wants to know what is there."""
        return self._request is not None and not self.over

    @property
    def keys(self) -> list[Port]:
        """Where devices are that have said something, by USB: they will hardly be gone when the next session asks."""
        spoken = (port for port, helper in self._helpers.items() if helper.replies and not helper.gone)
        return [port for port in spoken if port.transport is Transport.USB]

    def receive(self) -> None:
        """Read one packet of the session's."""
        try:
            packet = self.connection.recv(MAX_PACKET + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        try:
            self._take(decode(packet) if packet else None)
        except ProtocolError:
            self.close()

    def close(self) -> None:
        """Hang up on every device; the broker does so on the session."""
        self.over = True
        for helper in self._helpers.values():
            self._drop(helper)

    def _take(self, structure: Structure | None) -> None:
        match structure:
            case Assert() | Make() | List() | Sign() if self._request is None and acceptable(structure):
                self._request = structure
                self._until = time.monotonic() + structure.seconds + LATE_SECONDS
            case Pin() | Use() | Release() if fits(structure, self._request):
                self._forward(structure, [each for each in self._waiting() if each.number == structure.device])
            case Choose() if fits(structure, self._request):
                self._forward(structure, self._waiting())
            case _:
                self.close()

    def _waiting(self) -> list[Helper]:
        return [each for each in self._helpers.values() if each.wants_pin and not each.out]

    def _forward(self, structure: Structure, helpers: list[Helper]) -> None:
        """To those who may have it; a device that is gone by now has said so."""
        for helper in helpers:
            helper.wants_pin = isinstance(structure, Choose)
            if isinstance(structure, Use):
                helper.silent_until = time.monotonic() + FIRST_WORD_SECONDS
            if helper.child:
                helper.child.say(encode(structure))

    def _say(self, reply: Reply) -> None:
        try:
            self.connection.send(encode(reply), socket.MSG_NOSIGNAL)
        except OSError:  # gone, or it leaves its replies unread
            self.close()

    # -------------------------------------------------------------------------------------------------- the devices

    def look(self, ports: frozenset[Port], incomplete: bool, now: float) -> None:
        """Go on with what is there now.

        Args:
            ports: where devices are.
            incomplete: there may be more already.
        """
        if now > self._until:
            self.close()
        if self.over or self._request is None:
            return
        ports = frozenset(port for port in ports if port.takes(self._request))
        for port, helper in list(self._helpers.items()):
            if port not in ports or (helper.gone and now > helper.silent_until):
                self._unplugged(self._helpers.pop(port))
        for port in sorted(ports - self._helpers.keys(), key=repr):
            self._enter(port, now)
        for port, helper in list(self._helpers.items()):
            if not helper.child and not helper.out:
                self._begin(port, helper, self._request, now)
        self._hurry(now)
        if not incomplete:
            self._tell_idle()

    def _enter(self, port: Port, now: float) -> None:
        if sum(not helper.out for helper in self._helpers.values()) < MAX_DEVICES:
            self._numbers += 1
            self._helpers[port] = Helper(self._numbers, None, now + BUSY_SECONDS)

    def _begin(self, port: Port, helper: Helper, request: Request, now: float) -> None:
        if isinstance(request, LOGINS):
            self._children.clear(port)
        elif self._children.reserved(port):
            return
        try:
            child = self._children.at(port)
        except OSError:  # no more processes: another time
            del self._helpers[port]
            return
        helper.child, helper.silent_until = child, now + FIRST_WORD_SECONDS
        child.begin(helper.number, max(1, int(self._until - now)), request)
        self._children.adopt(child, partial(self._heard, helper), partial(self._ended, helper))

    def at(self, port: Port) -> bool:
        """Whether a login is at the device there."""
        return isinstance(self._request, LOGINS) and port in self._helpers and not self._helpers[port].out

    def give_way(self, port: Port) -> None:
        """Leave the device there to a login, unless this is one too; what has not begun to talk begins anew."""
        helper = self._helpers.get(port)
        if not helper or helper.out or isinstance(self._request, LOGINS):
            return
        if helper.replies:
            self._fail(helper, Failure.BUSY)
        else:
            self._drop(self._helpers.pop(port))

    def _unplugged(self, helper: Helper) -> None:
        if not helper.out:
            self._drop(helper)
            self._say(Failed(helper.number, Failure.UNPLUGGED))

    def _hurry(self, now: float) -> None:
        for helper in self._helpers.values():
            if not helper.out and now > helper.silent_until:
                self._fail(helper, Failure.SILENT if helper.child else Failure.BUSY)

    def _tell_idle(self) -> None:
        working = any(not helper.out for helper in self._helpers.values())
        devices = sum(helper.replies > 0 and not helper.gone and not helper.empty for helper in self._helpers.values())
        if working:
            self._idle = None
        elif self._idle != devices:
            self._idle = devices
            self._say(Idle(devices))

    # -------------------------------------------------------------------------------------------------- one helper

    def _heard(self, helper: Helper, packet: bytes) -> None:
        if helper.out:
            return
        helper.replies += 1
        helper.silent_until = math.inf
        try:
            reply = decode(packet)
        except ProtocolError:
            reply = None
        if not isinstance(reply, FROM_HELPER) or reply.device != helper.number or helper.replies > MAX_REPLIES:
            self._fail(helper, Failure.NONSENSE)
            return
        helper.wants_pin = isinstance(reply, PinWanted | Chosen | Carries)
        helper.out = not isinstance(reply, WORKING)
        helper.empty = isinstance(reply, Reader)
        if isinstance(reply, Failed) and reply.why is Failure.UNPLUGGED:
            helper.gone = True
            helper.silent_until = time.monotonic() + AGAIN_SECONDS
        if isinstance(reply, Made | Chosen):  # the touched one is the user's choice
            for other in self._helpers.values():
                if other is not helper:
                    self._drop(other)
        if helper.replies > 1 or not helper.gone:
            self._say(reply)

    def _ended(self, helper: Helper, status: int) -> None:
        helper.child = None
        if helper.out:
            return
        if status == DONE:
            helper.out = True  # none of the devices in question, or let go
        elif status == SIGALRM_EXIT:
            self._fail(helper, Failure.BUSY)
        else:
            self._fail(helper, Failure.SILENT if status == WATCHDOG_EXIT else Failure.NONSENSE)

    def _fail(self, helper: Helper, why: Failure) -> None:
        helper.replies += 1
        self._drop(helper)
        self._say(Failed(helper.number, why))

    def _drop(self, helper: Helper) -> None:
        helper.out = True
        if helper.child:
            helper.child.hang_up()


def acceptable(request: Request) -> bool:
    """Whether a request keeps to what base.py says."""
    if not 0 < request.seconds <= MAX_SECONDS:
        return False
    if isinstance(request, List):
        return True
    if isinstance(request, Sign):
        return len(request.message) == HASH_BYTES and 0 < len(request.slots) == len(set(request.slots))
    wanted = request.wanted if isinstance(request, Assert) else request.excluded
    sizes = all(0 < len(each.credential_id) <= MAX_CREDENTIAL_ID for each in wanted)
    return sizes and len(wanted) <= MAX_CREDENTIALS and len(request.client_data_hash) == HASH_BYTES


def fits(followup: Pin | Choose | Use | Release, request: Request | None) -> bool:
    """Whether it goes on with that request; Use only with a slot that the request names."""
    if isinstance(followup, Pin | Choose):
        return isinstance(request, Assert | Make)
    return isinstance(request, Sign) and (isinstance(followup, Release) or followup.slot in request.slots)
