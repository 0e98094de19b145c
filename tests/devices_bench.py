"""A workbench for the device service: virtual keys on each transport, a broker that sees them, sessions that ask it."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from machine import wait_for
from vdev.authenticator import Authenticator
from vdev.fido_card import FidoApplet
from vdev.iso7816 import Card
from vdev.keys import Keys
from vdev.memory import Memory
from vdev.pcscd import Pcscd, Reader

from pam_mfa.devices.base import (
    Assert,
    Failed,
    Failure,
    Followup,
    Made,
    Make,
    Pin,
    PinWanted,
    Reply,
    Request,
    Verification,
    Wanted,
)
from pam_mfa.devices.client import Client

DEADLINE = 20.0  # seconds; for whatever should have happened long before
RP_ID = "host.example"
HASH = hashlib.sha256(b"client data").digest()
PROGRAM = Path(__file__).with_name("device_broker.py")

R = TypeVar("R")


class Key(Protocol):
    """A key on some transport; what it can do is what vdev.keys.Key can."""

    def insert(self) -> None: ...
    def remove(self) -> None: ...
    def inject(self, **faults: Any) -> None: ...
    def touch(self) -> None: ...
    def set(self, **changes: int) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def trace(self, clear: bool = False) -> list[dict[str, Any]]: ...


class OwnKey:
    """The part that is alike for keys which live in this process."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.authenticator = Authenticator(hashlib.sha256(name.encode()).digest(), **options)

    def inject(self, **faults: Any) -> None:
        """Change some faults."""
        self.authenticator.faults.set(**faults)

    def touch(self) -> None:
        """Touch it, where it waits for that."""
        self.authenticator.touch()

    def set(self, **changes: int) -> None:
        """Set its sign count (`counter`) or tries (`pin_tries`)."""
        for name, value in changes.items():
            setattr(self.authenticator, name, value)

    def state(self) -> dict[str, Any]:
        """awaiting, counter, pin_tries."""
        return {name: getattr(self.authenticator, name) for name in ("awaiting", "counter", "pin_tries")}

    def trace(self, clear: bool = False) -> list[dict[str, Any]]:
        """What it was asked so far."""
        trace = list(self.authenticator.trace)
        if clear:
            self.authenticator.trace.clear()
        return trace


class MemoryKey(OwnKey):
    """A key on a socket pair, which a socket in a folder hands out."""

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self._path = folder / name
        self._memory: Memory | None = None

    def insert(self) -> None:
        """Plug it in."""
        self._memory = Memory(self.authenticator)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(self._path))
        self._door.listen()
        threading.Thread(target=self._give, args=[self._door, self._memory], daemon=True).start()

    def remove(self) -> None:
        """Pull it out; twice is once."""
        if self._memory:
            self._path.unlink()
            self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
            self._memory.remove()
            self._memory.client.close()
            self._memory = None

    def _give(self, door: socket.socket, memory: Memory) -> None:
        with suppress(OSError):
            while True:
                visitor, _ = door.accept()
                with visitor:
                    _discard(memory.client)
                    socket.send_fds(visitor, [b"x"], [memory.client.fileno()])


def _threads(pid: int) -> int:
    """Of a process; none where it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _discard(connection: socket.socket) -> None:
    """What the last client left unread: a node that is opened anew has none of it."""
    with suppress(BlockingIOError):
        while connection.recv(65536, socket.MSG_DONTWAIT):
            pass


class CardKey(OwnKey):
    """A key in a reader."""

    def __init__(self, reader: Reader, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.reader = reader
        self.card = Card(FidoApplet(self.authenticator))

    def insert(self) -> None:
        """Put it in."""
        self.reader.insert(self.card)

    def remove(self) -> None:
        """Take it out; twice is once."""
        self.reader.remove(wait=False)


class Session:
    """One request; a context manager that hangs up."""

    def __init__(self, path: Path) -> None:
        self.client = Client(path)
        self.replies: list[Reply] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, request: Request | Followup) -> Self:
        """Send it."""
        self.client.send(request)
        return self

    def reply(self, deadline: float = DEADLINE) -> Reply:
        """The next one. Raises TimeoutError, Gone."""
        end = time.monotonic() + deadline
        while (reply := self.client.receive()) is None:
            if not select.select([self.client], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no reply after {self.replies}")
        self.replies.append(reply)
        return reply

    def until(self, kind: type[R], deadline: float = DEADLINE) -> R:
        """The next one of that kind. Raises TimeoutError, Gone, and AssertionError where the device is out instead."""
        while not isinstance(reply := self.reply(deadline), kind):
            assert not isinstance(reply, Failed), (reply, self.replies)
        return reply

    def failure(self, deadline: float = DEADLINE) -> Failure:
        """Why the next device is out."""
        return self.until(Failed, deadline).why

    def only(self, kind: type[R]) -> R:
        """The one of that kind that was said."""
        (found,) = (reply for reply in self.replies if isinstance(reply, kind))
        return found


class Bench:
    """Keys of one transport, and a broker.

    Args:
        transport: "memory", "hidraw" or "pcsc".
        folder: for sockets.
        place: where the keys are: Keys, Pcscd, or None for memory.
    """

    def __init__(self, transport: str, folder: Path, place: Keys | Pcscd | None) -> None:
        self.transport = transport
        self._place = place
        self._folder = folder / "keys"
        self._folder.mkdir()
        self._path = folder / "device.sock"
        self._keys: list[Key] = []
        self._broker = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key in self._keys:
            key.remove()
        self._broker.terminate()
        self._broker.wait(DEADLINE)

    def key(self, name: str, insert: bool = True, **options: Any) -> Any:
        """A key that is there, or to be inserted; `options` are fields of vdev.model.Model."""
        key: Key
        match self._place:
            case None:
                key = MemoryKey(self._folder, name, **options)
            case Keys():
                key = self._place.key(f"{self._folder.parent.name} {name}", insert=False, **options)
            case Pcscd():
                key = CardKey(self._place.readers[len(self._keys)], name, **options)
        self._keys.append(key)
        if insert:
            key.insert()
        return key

    def session(self, request: Request | None = None) -> Session:
        """A connection to the broker, that asks for something."""
        session = Session(self._path)
        return session.ask(request) if request else session

    def helpers(self) -> list[int]:
        """Process ids of those that do something: such a process has a watchdog, which is a thread."""
        return [pid for pid in self.children() if _threads(pid) > 1]

    def children(self) -> list[int]:
        """Process ids of the broker's children, those that wait for the next session included."""
        text = Path(f"/proc/{self._broker.pid}/task/{self._broker.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def stop(self) -> None:
        """Ask all of its processes to end."""
        for pid in (*self.children(), self._broker.pid):
            os.kill(pid, signal.SIGTERM)

    def make(self, pin: str | None = None, **changes: Any) -> Made:
        """A credential on the only key there is, whose user touches it."""
        with self.session(make(**changes)) as session:
            if pin is not None:
                session.until(PinWanted)
                session.ask(Pin(1, pin))
            return session.until(Made)

    def _start(self) -> subprocess.Popen[bytes]:
        environment: Mapping[str, str] = {}
        if isinstance(self._place, Keys):
            environment = self._place.environment()
        elif isinstance(self._place, Pcscd):
            environment = self._place.environment
        command = [sys.executable, str(PROGRAM), *([] if self._place else [str(self._folder)])]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self._path))
            listener.listen(16)
            return subprocess.Popen(command, stdin=listener.fileno(), env=os.environ | environment)


def make(**changes: Any) -> Make:
    """A request for a credential."""
    fields: dict[str, Any] = {
        "client_data_hash": HASH,
        "rp_id": RP_ID,
        "rp_name": "Host",
        "user_handle": b"1000",
        "user_name": "alice",
        "algorithms": (-7, -8, -257),
        "excluded": (),
        "discoverable": False,
        "verification": Verification.DISCOURAGED,
        "seconds": 30,
    }
    return Make(**(fields | changes))


def assertion(*made: Made | Wanted, **changes: Any) -> Assert:
    """A request for a signature with one of these credentials."""
    wanted = tuple(each if isinstance(each, Wanted) else Wanted(RP_ID, credential_id(each)) for each in made)
    fields: dict[str, Any] = {
        "client_data_hash": HASH,
        "wanted": wanted,
        "verification": Verification.DISCOURAGED,
        "seconds": 30,
    }
    return Assert(**(fields | changes))


def credential_id(made: Made) -> bytes:
    """Out of the authenticator data (WebAuthn section 6.5.1)."""
    data = made.authenticator_data
    return data[55 : 55 + int.from_bytes(data[53:55], "big")]


def wait_for_user(key: Key) -> None:
    """Until a key waits for its user."""
    wait_for("a key that waits for its user", lambda: key.state()["awaiting"])


@contextmanager
def memory_watched(bench: Bench) -> Iterator[list[int]]:
    """The most data that any helper had, in bytes: each is looked at all the time."""
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for pid in bench.helpers():
                most[0] = max(most[0], data_size(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def data_size(pid: int) -> int:
    """VmData of a process, 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData")), 0)
