"""The device side of the control channel: a unix stream socket, a line of JSON for each request and each answer.

Request: {"verb": ..., "key": name, ...}. Answer: {"answer": ...} or {"problem": text}. The verbs are the methods of
`Control` that are called `do_...`; the client is keys.py. Bytes are written as hexadecimal digits.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self

from .authenticator import Authenticator
from .faults import ANSWERS, Faults

BYTES = ("user_handle", "credential_id", "public_key")
NUMBERED = ("think", "status", "answer")  # by the number of a command


class Plugged(Protocol):
    """A key in its place."""

    def remove(self) -> None:
        """Pull it out."""


Plug = Callable[[str, Authenticator], Plugged]


class Key:
    """One key, in its place or not."""

    def __init__(self, name: str, authenticator: Authenticator) -> None:
        self.name = name
        self.authenticator = authenticator
        self.plugged: Plugged | None = None


class Control:
    """Serves a control socket in threads of its own until it is left; every user may connect.

    Args:
        path: of the socket.
        plug: puts a key in its place, under its name.
    """

    def __init__(self, path: str, plug: Plug) -> None:
        self._path = path
        self._plug = plug
        self._keys: dict[str, Key] = {}
        self._lock = threading.Lock()  # one request at a time
        self._server = _server(path, self._answer)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        os.unlink(self._path)
        for name in list(self._keys):
            self.do_remove(name)

    def _answer(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        verb = getattr(self, f"do_{request.pop('verb')}")
        try:
            with self._lock:
                return {"answer": verb(request.pop("key"), **request)}
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as problem:
            return {"problem": repr(problem)}

    # --------------------------------------------------------------------------------------------------------- verbs

    def do_key(self, key: str, seed: str, insert: bool, options: dict[str, Any]) -> None:
        """Make a key, and plug it in where `insert`."""
        if key in self._keys:
            raise ValueError(f"there is a key {key} already")
        if "aaguid" in options:
            options["aaguid"] = bytes.fromhex(options["aaguid"])
        self._keys[key] = Key(key, Authenticator(bytes.fromhex(seed), **options))
        if insert:
            self.do_insert(key)

    def do_insert(self, key: str) -> None:
        """Plug it in. It may be in already."""
        found = self._keys[key]
        found.plugged = found.plugged or self._plug(key, found.authenticator)

    def do_remove(self, key: str) -> None:
        """Pull it out. It may be out already."""
        found = self._keys[key]
        if found.plugged:
            found.plugged.remove()
            found.plugged = None

    def do_inject(self, key: str, faults: dict[str, Any]) -> None:
        """Change some faults."""
        self._keys[key].authenticator.faults.set(**{name: _fault(name, value) for name, value in faults.items()})

    def do_heal(self, key: str) -> None:
        """No faults any more."""
        self._keys[key].authenticator.faults = Faults()

    def do_touch(self, key: str) -> None:
        """Touch it, where it waits for that."""
        self._keys[key].authenticator.touch()

    def do_set(self, key: str, **changes: int) -> None:
        """Set its sign count (`counter`) or tries (`pin_tries`)."""
        for name, value in changes.items():
            if name not in ("counter", "pin_tries"):
                raise KeyError(name)
            setattr(self._keys[key].authenticator, name, value)

    def do_state(self, key: str) -> dict[str, Any]:
        """Whether it is plugged in, waits for its user, its sign count and its tries."""
        found = self._keys[key]
        device = found.authenticator
        return {
            "plugged": found.plugged is not None,
            "awaiting": device.awaiting,
            "counter": device.counter,
            "pin_tries": device.pin_tries,
        }

    def do_trace(self, key: str, clear: bool) -> list[dict[str, Any]]:
        """What it was asked so far; with `clear` it forgets that."""
        trace = self._keys[key].authenticator.trace
        found = list(trace)
        if clear:
            del trace[: len(found)]
        return found


def _fault(name: str, value: Any) -> Any:
    if name in BYTES and value is not None:
        return bytes.fromhex(value)
    if name not in NUMBERED:
        return value
    return {int(number): _canned(item) for number, item in value.items()}


def _canned(item: Any) -> Any:
    return bytes.fromhex(item) if isinstance(item, str) and item not in ANSWERS else item


def _server(path: str, answer: Callable[[bytes], dict[str, Any]]) -> socketserver.ThreadingUnixStreamServer:
    class Lines(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(json.dumps(answer(line)).encode() + b"\n")

    socketserver.ThreadingUnixStreamServer.daemon_threads = True
    server = socketserver.ThreadingUnixStreamServer(path, Lines)
    os.chmod(path, 0o777)
    return server
