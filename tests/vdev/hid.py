"""CTAPHID, the device's side (CTAP 2.1 section 11.2): 64-byte reports in and out, messages to an Authenticator."""

from __future__ import annotations

import functools
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .authenticator import Authenticator

REPORT = 64
BROADCAST = 0xFFFFFFFF
FIRST_CHANNEL = 0x00BEEF01

PING, MSG, INIT, WINK, CBOR, CANCEL, KEEPALIVE, ERROR = 0x01, 0x03, 0x06, 0x08, 0x10, 0x11, 0x3B, 0x3F
CAPABILITIES = 0x0D  # wink, CBOR, no MSG (CTAP1)
INIT_PACKET = 0x80

INVALID_COMMAND, INVALID_LENGTH, INVALID_SEQUENCE, CHANNEL_BUSY, INVALID_CHANNEL = 0x01, 0x03, 0x04, 0x06, 0x0B
MAX_MESSAGE = 7609


def reports(channel: int, command: int, data: bytes, misnumber: bool = False) -> Iterator[bytes]:
    """The 64-byte reports of one message; `misnumber` its continuation packets to break it."""
    head = struct.pack(">IBH", channel, INIT_PACKET | command, len(data))
    yield (head + data[: REPORT - 7]).ljust(REPORT, b"\0")
    step = REPORT - 5
    for number, start in enumerate(range(REPORT - 7, len(data), step)):
        head = struct.pack(">IB", channel, (number + misnumber) & 0x7F)
        yield (head + data[start : start + step]).ljust(REPORT, b"\0")


@dataclass
class Message:
    """One that is being received."""

    channel: int
    command: int
    length: int
    data: bytes
    sequence: int = 0


class Hid:
    """One key on USB. Give its reports to `receive`, from one thread; requests run in a second one.

    Args:
        send: writes one 64-byte report to the client; may raise OSError where the client is gone.
    """

    def __init__(self, authenticator: Authenticator, send: Callable[[bytes], None]) -> None:
        self.authenticator = authenticator
        self._write = send
        self.next_channel = FIRST_CHANNEL  # the next client gets it
        self._message: Message | None = None
        self._requests: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self._busy_for: int | None = None  # channel of the request that runs
        self._cancelled = False
        self._closed = False
        self._sending = threading.Lock()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Pull it out: a request that runs ends without an answer."""
        self._closed = True
        self.authenticator.stir()
        self._requests.put(None)
        self._worker.join()

    def receive(self, report: bytes) -> None:
        """One report from the client: 64 bytes, or 65 with the report id in front as hidraw takes them."""
        report = report[1:] if len(report) == REPORT + 1 else report
        if len(report) < 7 or self.authenticator.faults.mute:
            return
        channel, kind = struct.unpack_from(">IB", report)
        if kind & INIT_PACKET:
            self._begin(channel, kind & ~INIT_PACKET, report)
        else:
            self._continue(channel, kind, report[5:])

    # ----------------------------------------------------------------------------------------------------- receiving

    def _begin(self, channel: int, command: int, report: bytes) -> None:
        (length,) = struct.unpack_from(">H", report, 5)
        if command == CANCEL:
            self._cancel(channel)
        elif length > MAX_MESSAGE:
            self._error(channel, INVALID_LENGTH)
        elif self._message and self._message.channel != channel:
            self._error(channel, CHANNEL_BUSY)
        else:
            self._message = Message(channel, command, length, report[7:])
            self._complete()

    def _continue(self, channel: int, sequence: int, data: bytes) -> None:
        message = self._message
        if message is None or message.channel != channel:
            return
        if message.sequence != sequence:
            self._message = None
            self._error(channel, INVALID_SEQUENCE)
            return
        message.sequence += 1
        message.data += data
        self._complete()

    def _complete(self) -> None:
        message = self._message
        if message and len(message.data) >= message.length:
            self._message = None
            self._take(message.channel, message.command, message.data[: message.length])

    def _take(self, channel: int, command: int, data: bytes) -> None:
        if command == INIT:
            self._init(channel, data)
        elif not FIRST_CHANNEL <= channel < self.next_channel:
            self._error(channel, INVALID_CHANNEL)
        elif command in (PING, WINK):
            self._send(channel, command, data if command == PING else b"")
        elif command == CBOR:
            self._request(channel, data)
        else:
            self._error(channel, INVALID_COMMAND)

    def _init(self, channel: int, nonce: bytes) -> None:
        if len(nonce) != 8:
            self._error(channel, INVALID_LENGTH)
            return
        given = channel
        if channel == BROADCAST:
            given, self.next_channel = self.next_channel, self.next_channel + 1
        else:
            self._cancel(channel)  # INIT on a channel aborts what runs on it
        self._send(channel, INIT, nonce + struct.pack(">IBBBBB", given, 2, 5, 4, 3, CAPABILITIES))

    def _request(self, channel: int, data: bytes) -> None:
        faults = self.authenticator.faults
        if faults.busy or self._busy_for is not None:
            faults.busy = max(0, faults.busy - 1)
            self._error(channel, CHANNEL_BUSY)
            return
        self._cancelled, self._busy_for = False, channel
        self._requests.put((channel, data))

    def _cancel(self, channel: int) -> None:
        if channel == self._busy_for:
            self._cancelled = True
            self.authenticator.trace.append({"cancel": True})
            self.authenticator.stir()

    # ----------------------------------------------------------------------------------------------------- answering

    def _work(self) -> None:
        while request := self._requests.get():
            channel, data = request
            if data and data[0] in self.authenticator.faults.silent:
                self._busy_for = None
                continue
            answer = self.authenticator.process(data, functools.partial(self._waiting, channel))
            self._flood(channel)
            for number in range(self.authenticator.faults.foreign):
                self._send(channel ^ 0x01000000 + number, CBOR, answer)
            self._busy_for = None
            self._send(channel, CBOR, answer)

    def _waiting(self, channel: int, status: int) -> bool:
        self._send(channel, KEEPALIVE, bytes([status]))
        return self._cancelled or self._closed

    def _flood(self, channel: int) -> None:
        while self.authenticator.faults.flood and not self._closed:
            self._send(channel, KEEPALIVE, bytes([self.authenticator.faults.keepalive]))
            time.sleep(0.001)

    def _error(self, channel: int, code: int) -> None:
        self._send(channel, ERROR, bytes([code]))

    def _send(self, channel: int, command: int, data: bytes) -> None:
        with self._sending:
            for report in reports(channel, command, data, self.authenticator.faults.wrong_sequence):
                if self._closed:
                    return
                try:
                    self._write(report)
                except OSError:
                    return  # nobody listens any more
