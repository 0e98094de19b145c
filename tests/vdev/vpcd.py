"""A card in a reader of vpcd's, the virtual reader driver: the card is its TCP client.

Both ways: length u16, then so many bytes. One byte from the driver is a control code, more are a command APDU.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from .iso7816 import Card

OFF, ON, RESET, ATR = 0x00, 0x01, 0x02, 0x04
AGAIN_SECONDS = 0.05


class Contact:
    """A card that is in a reader; close() it to take it out.

    Args:
        card: the card.
        connection: to the driver.
    """

    def __init__(self, card: Card, connection: socket.socket) -> None:
        self.card = card
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        card.insert()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take it out, also in the middle of a command, also by what the card itself does. Twice is once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.card.remove()
        while self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(AGAIN_SECONDS)
            self.card.remove()  # a command may have begun since

    def swap(self, card: Card) -> None:
        """Another card instead, too fast for the driver to see; it answers the command that runs, if one does."""
        self.card.remove()
        self.card.power_off()
        card.insert()
        self.card = card

    def _serve(self) -> None:
        with self._socket:
            with contextlib.suppress(OSError):
                while message := self._receive():
                    self._obey(message)
            self.card.power_off()

    def _receive(self) -> bytes:
        head = self._read(2)
        return self._read(int.from_bytes(head, "big")) if head else b""

    def _read(self, length: int) -> bytes:
        """So many bytes, b"" at the end. vpcd sends length and body apart, which costs 40 ms without the quick ACK."""
        data = b""
        while len(data) < length:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not (more := self._socket.recv(length - len(data))):
                return b""
            data += more
        return data

    def _obey(self, message: bytes) -> None:
        """Raises OSError where the driver is gone."""
        if len(message) > 1:
            card = self.card
            answer = card.exchange(message)
            self._send(answer if card is self.card else self.card.exchange(message))
        elif message[0] == ATR:
            self.card.faults.power()
            self._send(self.card.atr)
        elif message[0] == RESET:
            self.card.reset()
        else:
            self.card.power_off()

    def _send(self, data: bytes) -> None:
        self._socket.sendall(struct.pack(">H", len(data)) + data)
