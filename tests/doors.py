"""Both ways to a session over real sockets, in this process: the service's event loop, and the engine's poll."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from flows import FACTORS, recovery, totp
from stores import SEALER, discard, enrol, make

from pam_mfa import wire
from pam_mfa.audit import Fields, Log
from pam_mfa.config import Settings
from pam_mfa.factors.totp import Parameters
from pam_mfa.outcome import Outcome
from pam_mfa.rules import Match, Rule
from pam_mfa.service import system
from pam_mfa.service.direct import DirectBackend
from pam_mfa.service.loop import KINDS, LoopBackend, Server
from pam_mfa.service.session import Ground
from pam_mfa.service.single import EngineLink, drive
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.writer import Writer
from pam_mfa.structure import replace
from pam_mfa.trail import Trail

DEADLINE = 60.0  # seconds; for whatever should have happened long before
NONCE = bytes(range(50, 66))
PHONE = totp()


class Shelf:
    """A log sink that keeps what it is given, on whichever thread."""

    def __init__(self) -> None:
        self.written: list[Fields] = []
        self.works = True

    def write(self, fields: Fields) -> bool:
        if self.works:
            self.written.append(fields)
        return self.works

    def close(self) -> None:
        """Nothing."""


class Caller:
    """A shim, or the command, at one socket."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.settimeout(DEADLINE)
        self.seen: list[tuple[wire.Type, bytes]] = []

    def send(self, kind: wire.Type, payload: bytes = b"") -> Caller:
        """Send a frame to a session that may have ended."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.link.send(wire.encode(kind, payload))
        return self

    def hello(self, user: str, uid: int | None, service: str = "sudo", **more: Any) -> Caller:
        """Say HELLO."""
        self.link.send(wire.encode_hello(wire.Hello(NONCE, service, user, uid, **more)))
        return self

    def request(self, verb: str, account: Mapping[str, Any] | None = None, **args: Any) -> Caller:
        """Send REQUEST."""
        request = {"verb": verb, "args": args, "account": account}
        return self.send(wire.Type.REQUEST, json.dumps(request).encode())

    def next(self) -> tuple[wire.Type, str]:
        """The next frame that is not ALIVE, as text. Raises EOFError at the end."""
        while True:
            try:
                packet = self.link.recv(wire.RECEIVE_SIZE)
            except ConnectionResetError:
                packet = b""
            if not packet:
                raise EOFError
            kind, payload = wire.decode(packet)
            self.seen.append((kind, payload))
            if kind is not wire.Type.ALIVE:
                return kind, payload[kind is wire.Type.TELL :].decode(errors="replace")

    def prompt(self) -> str:
        """The next frame, which is a prompt; texts before it are passed over."""
        kind, text = self.next()
        while kind in (wire.Type.TELL, wire.Type.WARN, wire.Type.PART):
            kind, text = self.next()
        assert kind in (wire.Type.ASK, wire.Type.ASK_SECRET), (kind, text)
        return text

    def answer(self, *texts: str) -> Caller:
        """Answer that many prompts."""
        for text in texts:
            self.prompt()
            self.send(wire.Type.REPLY, text.encode())
        return self

    def end(self) -> list[tuple[wire.Type, bytes]]:
        """Everything up to the end of the connection."""
        with suppress(EOFError):
            while True:
                self.next()
        return self.seen

    @property
    def result(self) -> tuple[Outcome, int, bytes]:
        """Outcome, delay and nonce of the RESULT that ends the session."""
        kind, payload = self.end()[-1]
        assert kind is wire.Type.RESULT, self.seen
        code, delay, nonce = wire.RESULT.unpack(payload)
        return Outcome(code), delay, nonce

    @property
    def outcome(self) -> Outcome:
        """The outcome of the RESULT that ends the session."""
        return self.result[0]

    @property
    def done(self) -> dict[str, Any]:
        """The content of the DONE that ends the session."""
        kind, payload = self.end()[-1]
        assert kind is wire.Type.DONE, self.seen
        content = json.loads(payload)
        assert isinstance(content, dict)
        return content

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The records so far."""
        return [json.loads(payload) for kind, payload in self.seen if kind is wire.Type.PART]

    @property
    def told(self) -> list[str]:
        """The messages so far."""
        return [payload[1:].decode() for kind, payload in self.seen if kind is wire.Type.TELL]


class Door(Protocol):
    """Where callers come in."""

    name: str
    ground: Ground
    shelf: Shelf

    def call(self, kind: str = "priv") -> Caller:
        """A new connection: "priv", "user" or "manage"."""

    def close(self) -> None:
        """Wait until every session has ended."""


def make_ground(role: str, settings: Settings) -> Ground:
    """Everything sessions share, with the system's clocks."""
    return Ground(role, settings, FACTORS, system.now, "host.example", lambda: {"role": role})


# The kernel notes who called connect(). A process of its own does: a thread could not change its uid alone.
CONNECT = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(sys.argv[1])
socket.send_fds(socket.socket(fileno=int(sys.argv[3])), [b"x"], [link.fileno()])
"""


def connect(path: str, uid: int) -> socket.socket:
    """A connection whose peer has that uid."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["/usr/bin/python3", "-IS", "-c", CONNECT, path, str(uid), str(theirs.fileno())]
        subprocess.run(command, check=True, pass_fds=[theirs.fileno()], timeout=DEADLINE)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=fd)


class LoopDoor:
    """The service's server on its loop, in a thread of its own."""

    name = "loop"

    def __init__(self, folder: Path, path: str, settings: Settings) -> None:
        self.shelf, self.ground = Shelf(), make_ground("service", settings)
        self._folder, self._callers = folder, list[Caller]()
        self._loop = asyncio.new_event_loop()
        self._reader, self._written = SqliteStore(path, SEALER), SqliteStore(path, SEALER)
        self._writer, self._trail = Writer(self._written), Trail(Log([self.shelf]))
        self._listeners = {name: self._listen(name) for name in KINDS}
        self.backend = LoopBackend(self._loop, self._reader, self._writer)
        self.server = Server(self._loop, self._listeners, self.ground, self.backend, self._trail)
        self._loop.call_soon(self.server.start)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _listen(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self._folder / name))
        os.chmod(self._folder / name, 0o666)
        listener.listen(512)
        return listener

    def call(self, kind: str = "priv", uid: int = 0) -> Caller:
        """A new connection, as another user's where `uid` is his."""
        self._callers.append(Caller(connect(str(self._folder / kind), uid)))
        return self._callers[-1]

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Run something on the loop's thread and return its value."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE)

    def close(self) -> None:
        for caller in self._callers:
            caller.link.close()
        self.on_loop(self._leave)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._writer.submit((), lambda _: discard(self._written))
        assert self._writer.stop(DEADLINE)
        assert self._trail.stop(DEADLINE)
        self._loop.close()

    def _leave(self) -> None:
        self.server.stop_accepting()
        for listener in self._listeners.values():
            listener.close()
        discard(self._reader)


class EngineDoor:
    """An engine for each caller, in a thread of its own."""

    name = "engine"

    def __init__(self, folder: Path, path: str, settings: Settings) -> None:
        self.shelf, self.ground = Shelf(), make_ground("engine", settings)
        self._path, self._callers, self._threads = path, list[Caller](), list[threading.Thread]()

    def call(self, kind: str = "priv", uid: int = 0) -> Caller:
        assert uid == 0, "only root starts engines"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._threads.append(threading.Thread(target=self._engine, args=(kind, theirs), daemon=True))
        self._threads[-1].start()
        self._callers.append(Caller(ours))
        return self._callers[-1]

    def _engine(self, kind: str, connection: socket.socket) -> None:
        store = SqliteStore(self._path, SEALER)
        with connection:
            link = EngineLink(connection, Log([self.shelf]), None)
            link.backend = DirectBackend(store, link.devices, connection)
            drive(KINDS[kind](link, self.ground, 0), link)
        discard(store)

    def close(self) -> None:
        for caller in self._callers:
            caller.link.close()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


DOORS: dict[str, type[LoopDoor] | type[EngineDoor]] = {"loop": LoopDoor, "engine": EngineDoor}


@contextmanager
def opened(name: str, path: str, settings: Settings | None = None) -> Iterator[LoopDoor | EngineDoor]:
    """A door to sessions on the store at `path`."""
    with TemporaryDirectory(prefix="door-") as folder:
        os.chmod(folder, 0o755)
        door = DOORS[name](Path(folder), path, settings or Settings())
        try:
            yield door
        finally:
            door.close()


def furnished(folder: Path) -> str:
    """The path of a store where alice has a phone and recovery codes."""
    path = make(folder / "state")
    store = SqliteStore(path, SEALER)
    store.prepare(["totp", "recovery"])
    enrol(store, PHONE, recovery())
    discard(store)
    return path


def code(steps: int = 0) -> str:
    """A code of alice's phone, for the real clock."""
    parameters = Parameters.unpack(PHONE.material)
    return parameters.code(int(time.time()) // parameters.period + steps)


def settings(door: Door, **changes: Any) -> None:
    """Change what is in force behind a door."""
    assert door.ground.settings is not None
    door.ground.settings = replace(door.ground.settings, **changes)


def exempt(group: str) -> tuple[Rule, ...]:
    """Rules that let a group by."""
    return (Rule(exempt=True, match=Match(groups=(group,))),)
