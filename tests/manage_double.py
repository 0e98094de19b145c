"""A stand-in for the manage side of the service: a real socket, real frames, and answers that a test writes down."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from pam_mfa import wire
from pam_mfa.wire import Type

DEADLINE = 20  # seconds; for whatever should have happened long before

Script = Callable[["Peer", dict[str, Any]], None]


class GaveUp(Exception):
    """The client sent ABORT, or went away."""


class Peer:
    """One connection, as the service sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(DEADLINE)

    def send(self, kind: Type, payload: bytes = b"") -> None:
        """Any frame."""
        self.connection.send(wire.encode(kind, payload))

    def send_raw(self, packet: bytes) -> None:
        """Any bytes as one packet."""
        self.connection.send(packet)

    def receive(self) -> tuple[Type, bytes]:
        """The next frame. Raises GaveUp at the end."""
        packet = self.connection.recv(wire.RECEIVE_SIZE)
        if not packet:
            raise GaveUp
        return wire.decode(packet)

    def request(self) -> dict[str, Any]:
        """The REQUEST that every connection begins with."""
        kind, payload = self.receive()
        assert kind is Type.REQUEST
        found: dict[str, Any] = json.loads(payload)
        return found

    def ask(self, text: str, secret: bool = True) -> str:
        """One prompt and its answer. Raises GaveUp."""
        self.send(Type.ASK_SECRET if secret else Type.ASK, text.encode())
        kind, payload = self.receive()
        if kind is not Type.REPLY:
            raise GaveUp
        return payload.decode()

    def tell(self, text: str) -> None:
        """TELL."""
        self.connection.send(wire.encode_tell(text))

    def part(self, **record: Any) -> None:
        """One record."""
        self.send(Type.PART, json.dumps(record).encode())

    def done(self, error: str | None = None, message: str = "") -> None:
        """The end."""
        answer = {"ok": True} if error is None else {"ok": False, "error": error, "message": message}
        self.send(Type.DONE, json.dumps(answer).encode())


class Double:
    """The service: listens at `root`/run/pam-mfa/manage.sock and plays `script` for every connection.

    Args:
        root: stands for "/".
        script: gets the peer and its request; it may end without DONE, as a dying service does.
    """

    def __init__(self, root: Path, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.uids: list[int] = []
        self.gave_up = threading.Event()
        self.failures: list[BaseException] = []
        directory = root / "run/pam-mfa"
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.path = directory / "manage.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        os.chmod(self.path, 0o666)
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self) -> Double:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE)
        self.listener.close()
        self.path.unlink(missing_ok=True)
        if error is None and self.failures:
            raise self.failures[0]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._play(Peer(connection))

    def _play(self, peer: Peer) -> None:
        credentials = peer.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.uids.append(int.from_bytes(credentials[4:8], "little"))
        try:
            request = peer.request()
            self.requests.append(request)
            self.script(peer, request)
        except (GaveUp, BrokenPipeError):
            self.gave_up.set()
        except BaseException as failure:  # noqa: BLE001 - raised again where the test is
            self.failures.append(failure)
