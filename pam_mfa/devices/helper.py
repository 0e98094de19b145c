"""The process that talks to one device: forked without exec, confined, and gone when it is done or out of time.

What a device says is parsed here and nowhere else. Whatever that leads to ends this process and nothing beside it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from fido2 import cbor
from fido2.ctap import CtapError

from .._native._watchdog import lib
from .base import (
    HASH_BYTES,
    MAX_PACKET,
    Assert,
    Asserted,
    Failed,
    Failure,
    Holds,
    Request,
    Transport,
    Verification,
    Wanted,
)
from .codec import decode, encode
from .ctap import Info, decoded, failure
from .line import Left, Line, Out, Stranger

TASK = struct.Struct(">ii")  # device, seconds; the request follows
MAX_DATA = 64 * 1024 * 1024
WATCHDOG_EXIT = 3
CRASHED = 4
DONE = 0


class Port(Protocol):
    """Where a device is, or may be: a value that tells it from the one that was there before."""

    @property
    def transport(self) -> Transport:
        """How it is connected."""

    def takes(self, request: Request) -> bool:
        """Whether what is there is asked that at all."""

    def serve(self, request: Request, line: Line) -> None:
        """Do what is asked, in a helper; the last thing said is the outcome.

        Raises Left, Stranger, Out, CtapError, OSError and anything else.
        """


class Child:
    """A process of ours, seen from the broker.

    Args:
        pid: of the process; `process` is its pidfd.
        connection: to it, non-blocking.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        try:
            self.process = os.pidfd_open(pid)
        except OSError:  # there are no descriptors: nobody could say when it ends
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            connection.close()
            raise
        self.connection = connection
        self.hung_up = False

    def hear(self) -> bytes | None:
        """The next packet, b"" once there will be none, None while there is none."""
        try:
            return self.connection.recv(MAX_PACKET)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def say(self, packet: bytes) -> None:
        """Send one; whether it arrives is seen by what comes back."""
        with suppress(OSError):
            self.connection.send(packet, socket.MSG_NOSIGNAL)

    def begin(self, device: int, seconds: int, request: Request) -> None:
        """Have one that waits do what is asked.

        Args:
            device: the number that it has within the request.
            seconds: after which the process ends, done or not.
        """
        self.say(TASK.pack(device, seconds) + encode(request))

    def hang_up(self) -> None:
        """Have it cancel what its device does, and end. Twice is once."""
        if not self.hung_up:
            self.hung_up = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit status, negative for a signal, once `process` is readable; all of it is cleaned up."""
        _, status = os.waitpid(self.pid, 0)
        self.connection.close()
        os.close(self.process)
        return os.waitstatus_to_exitcode(status)


def fork(work: Callable[[Line], None], seconds: int) -> Child:
    """Have a confined process do some work, for so many seconds at most. Raises OSError."""
    return _fork(lambda connection: work(_line(connection, 0, seconds)))


def wait_at(port: Port) -> Child:
    """A confined process that waits to be told what to do with the device in a port (`Child.begin`). Raises OSError."""

    def work(connection: socket.socket) -> None:
        rehearse()
        if task := connection.recv(TASK.size + MAX_PACKET):
            device, seconds = TASK.unpack_from(task)
            attend(port, cast(Request, decode(task[TASK.size :])), _line(connection, device, seconds))

    return _fork(work)


def _fork(work: Callable[[socket.socket], None]) -> Child:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if not pid:
        _run(work, theirs)
    theirs.close()
    ours.setblocking(False)
    return Child(pid, ours)


def _run(work: Callable[[socket.socket], None], connection: socket.socket) -> None:
    """The child's whole life."""
    status = CRASHED
    try:
        _confine(connection.fileno())
        with suppress(Left):
            work(connection)
        status = DONE
    finally:  # never back into the broker's code, whatever happened
        os._exit(status)


def _confine(connection: int) -> None:
    os.closerange(3, connection)
    os.closerange(connection + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for all of a service at once; the broker's end leaves time for a cancel
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA, MAX_DATA))


def _line(connection: socket.socket, device: int, seconds: int) -> Line:
    """To the broker, from now on for so many seconds."""
    if lib.watchdog_arm(connection.fileno(), seconds + 1):
        raise OSError("no watchdog")
    return Line(connection, device, seconds)


def rehearse() -> None:
    """Read and write once what requests and answers are made of.

    A page that is shared with the broker is copied when it is first touched: now, and not while a user waits.
    """
    Info.read(decoded(cbor.encode({0x01: ["FIDO_2_1"], 0x03: bytes(16), 0x04: {"up": True}, 0x06: [2], 0x09: ["usb"]})))
    wanted = (Wanted("example.com", b"id"),)
    decode(encode(Assert(bytes(HASH_BYTES), wanted, Verification.DISCOURAGED, 1)))
    encode(Holds(0, Transport.USB, "", (b"id",)))
    encode(Asserted(0, Transport.USB, "example.com", b"id", bytes(HASH_BYTES), b"", b""))


def attend(port: Port, request: Request, line: Line) -> None:
    """Do what is asked with the device in a port; every end of that is one reply. Raises Left."""
    why = _serve(port, request, line)
    if why is not None:
        line.say(Failed(line.device, why))


def _serve(port: Port, request: Request, line: Line) -> Failure | None:
    """Why there is no answer, if there is none."""
    try:
        port.serve(request, line)
    except Left:
        raise
    except Stranger:
        return None
    except Out as out:
        return out.why
    except CtapError as error:
        return failure(error, line)
    except OSError:
        return Failure.UNPLUGGED
    except Exception:  # noqa: BLE001 - the border to the device: what it says leads to errors of every kind
        return Failure.NONSENSE
    return None
