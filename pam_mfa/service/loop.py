"""The service's event loop: sockets in, sessions out. The only file of the session's side that knows asyncio."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .. import wire
from ..audit import Record
from ..conversation import BreakGlass, CheckPassword, CheckPath, Commit, Event, Locate, LookUp, Read
from ..errors import Gone, LookupFailed, StoreError
from ..peer import peer_uid
from ..store.base import Store
from ..store.writer import Writer
from ..trail import Trail
from . import glass, password, paths, system
from .budget import Budget
from .channel import Backend, Done, found, stored
from .devices import Devices, Line, Pending, absent
from .manage import Management
from .session import Ground, Session
from .transaction import Transaction

KINDS: dict[str, type[Session]] = {"priv": Transaction, "user": Transaction, "manage": Management}
# Sessions on user and manage from which on only root's hosts are served, and how many one other user may have.
SHARED_CAP = 256
USER_CAP = 16
# The same for those of them who ask the device service, which takes 32 at once: logins of root's hosts find room.
SHARED_LINES = 8
USER_LINES = 2
PAUSE_SECONDS = 0.1
SWEEP_SECONDS = 0.5
LOOK_UP_THREADS = 8
PASSWORD_THREADS = 4
PATH_THREADS = 8
GLASS_THREADS = 2
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Completions:
    """Results from other threads, handed to the loop with one wake-up for all that are there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ready: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # costs less than call_soon_threadsafe
        loop.add_reader(self._bell, self._drain)

    def put(self, call: Callable[[], None]) -> None:
        """From any thread: run `call` on the loop."""
        with self._lock:
            self._ready.append(call)
            first = len(self._ready) == 1
        if first:
            os.eventfd_write(self._bell, 1)

    def _drain(self) -> None:
        os.eventfd_read(self._bell)
        with self._lock:
            calls, self._ready = self._ready, []
        for call in calls:
            call()


class LoopBackend:
    """Does the wants of all flows without blocking the loop; devices are each session's own.

    Args:
        reader: the loop's own connection; reading a WAL database waits for nobody.
        writer: the one thread that changes the store.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, reader: Store, writer: Writer) -> None:
        self._loop = loop
        self._reader = reader
        self._writer = writer
        self._completions = Completions(loop)
        # Names are what users themselves make us ask for, groups what root's hosts do: neither waits for the other.
        self._names = ThreadPoolExecutor(LOOK_UP_THREADS, "names")
        self._groups = ThreadPoolExecutor(LOOK_UP_THREADS, "groups")
        self._places = ThreadPoolExecutor(LOOK_UP_THREADS, "places")
        self._passwords = ThreadPoolExecutor(PASSWORD_THREADS, "password")
        self._paths = ThreadPoolExecutor(PATH_THREADS, "paths")
        self._glass = ThreadPoolExecutor(GLASS_THREADS, "glass")
        self._checking: set[str] = set()

    def read(self, want: Read, done: Done) -> None:
        try:
            value = self._reader.read(want.query)  # type: ignore[arg-type]
        except StoreError as problem:
            value = problem
        done(found(value))

    def commit(self, want: Commit, done: Done) -> None:
        put = self._completions.put
        self._writer.submit(want.operations, lambda results: put(partial(done, stored(results))))  # type: ignore[arg-type]

    def look_up(self, want: LookUp, done: Done) -> None:
        pool = self._names if want.user is None else self._groups
        self._in_thread(pool, partial(system.look_up, want), done, system.LOOK_UP_SECONDS)

    def locate(self, peer: socket.socket, want: Locate, done: Done) -> None:
        """Ask logind for the process at the other end of a connection."""
        self._in_thread(self._places, partial(system.locate, want, peer), done, system.LOOK_UP_SECONDS)

    def check_password(self, want: CheckPassword, done: Done) -> None:
        if want.user in self._checking:  # also one whose asker has left: nobody can keep all threads busy
            done(LookupFailed("a check of this account's password is running"))
            return
        self._checking.add(want.user)

        def checked() -> Event:
            try:
                return password.check(want)
            finally:
                self._completions.put(partial(self._checking.discard, want.user))

        self._in_thread(self._passwords, checked, done, password.SECONDS + 1)

    def check_path(self, want: CheckPath, done: Done) -> None:
        self._in_thread(self._paths, partial(paths.check, want), done, paths.SECONDS)

    def break_glass(self, want: BreakGlass, done: Done) -> None:
        self._in_thread(self._glass, partial(glass.break_glass, want), done, glass.SECONDS)

    def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], Event], done: Done, seconds: float) -> None:
        """A thread that hangs is left behind; whoever waits for it goes on after `seconds`."""
        future = pool.submit(work)

        def give_up() -> None:
            future.cancel()  # what no thread has begun by now would only keep those waiting who come after
            done(LookupFailed("no answer in time"))

        def finished() -> None:
            late.cancel()
            if not future.cancelled():
                done(future.exception() or future.result())

        late = self._loop.call_later(seconds, give_up)
        future.add_done_callback(lambda _: self._completions.put(finished))


class LinkBackend:
    """What all sessions share, and the devices and the peer of one."""

    def __init__(self, shared: LoopBackend, devices: Devices, peer: socket.socket) -> None:
        self.read = shared.read
        self.commit = shared.commit
        self.look_up = shared.look_up
        self.locate = partial(shared.locate, peer)
        self.check_password = shared.check_password
        self.check_path = shared.check_path
        self.break_glass = shared.break_glass
        self.wait = devices.wait
        self.hang_up = devices.hang_up


class LoopLink:
    """One connection of the service."""

    def __init__(self, server: Server, connection: socket.socket, name: str, uid: int) -> None:
        self._devices = Devices(self._connect, self._watch, self._touch)
        self.backend: Backend = LinkBackend(server.backend, self._devices, connection)
        self.shared = name != "priv"
        self.uid = uid
        self.session: Session | None = None
        self._server = server
        self._connection = connection

    def send(self, frame: bytes) -> None:
        self._connection.send(frame, socket.MSG_NOSIGNAL)

    def when_writable(self, call: Callable[[], None]) -> None:
        self._server.when_writable(self._connection, call)

    def record(self, record: Record, required: bool, done: Callable[[bool], None]) -> None:
        trail, completions = self._server.trail, self._server.completions
        if required:
            trail.put_and_wait(record, lambda written: completions.put(partial(done, written)))
        else:
            done(trail.put(record))

    def close(self) -> None:
        self._devices.close()
        self._server.forget(self, self._connection)
        self._connection.close()

    @property
    def asking(self) -> bool:
        """Whether this is a user's own session, and asks the device service."""
        return self.shared and self.uid != 0 and self._devices.asking

    def _connect(self) -> Line:
        if self.shared and self.uid != 0:
            self._server.spare_line(self.uid)
        return self._server.devices()

    def _watch(self, line: Line, on: bool) -> None:
        self._server.watch(line, self._devices.readable if on else None)

    def _touch(self, waits: bool) -> None:
        if self.session is not None and self.session.account is not None:
            self._server.pending.change(self.session.account, 1 if waits else -1)

    def readable(self) -> None:
        """A packet is there, or the end."""
        buffer, session = self._server.buffer, self.session
        if session is None:
            return
        try:
            size = self._connection.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        session.receive(buffer[:size])
        buffer[:size] = bytes(size)  # it may have held a code or a password
        if not size and not session.over:
            self._server.hear_no_more(self._connection)


class Server:
    """Accepts on all sockets, within its caps; an error of one connection ends that connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: dict[str, socket.socket],
        ground: Ground,
        backend: LoopBackend,
        trail: Trail,
        devices: Callable[[], Line] = absent,
    ) -> None:
        self.backend = backend
        self.trail = trail
        self.completions = Completions(loop)
        self.buffer = memoryview(bytearray(wire.RECEIVE_SIZE))
        self.links: dict[int, LoopLink] = {}
        self._loop = loop
        self._listeners = listeners
        self._ground = ground
        self.devices = devices
        self.pending = Pending()
        self._shared = 0
        self._per_uid: Counter[int] = Counter()
        self._budget = Budget()
        self._accepting: set[str] = set()
        self._stopping = False
        self._sweeping = False

    def start(self) -> None:
        """Accept on every socket."""
        self.pending.clear()
        for name, listener in self._listeners.items():
            listener.setblocking(False)
            self._resume(name)

    def stop_accepting(self) -> None:
        """Leave new connections to whoever listens next."""
        self._stopping = True
        for name in list(self._accepting):
            self._pause(name)

    def spare_line(self, uid: int) -> None:
        """Raises Gone where a user may not ask the device service just now."""
        asking = [link.uid for link in self.links.values() if link.asking]
        if len(asking) >= SHARED_LINES or asking.count(uid) >= USER_LINES:
            raise Gone("device_service_busy")

    def watch(self, line: Line, call: Callable[[], None] | None) -> None:
        """Call whenever the device service has said something on a line; None: no more."""
        if call is None:
            self._loop.remove_reader(line.fileno())
        else:
            self._loop.add_reader(line.fileno(), call)

    def hear_no_more(self, connection: socket.socket) -> None:
        """A peer is gone before its session is over: the end stays readable, and would keep the loop turning."""
        self._loop.remove_reader(connection.fileno())

    def when_writable(self, connection: socket.socket, call: Callable[[], None]) -> None:
        """Call once when a connection takes frames again."""

        def ready() -> None:
            self._loop.remove_writer(connection.fileno())
            call()

        self._loop.add_writer(connection.fileno(), ready)

    def forget(self, link: LoopLink, connection: socket.socket) -> None:
        """A link has closed."""
        self._loop.remove_reader(connection.fileno())
        self._loop.remove_writer(connection.fileno())
        self.links.pop(id(link), None)
        self._shared -= link.shared
        self._per_uid[link.uid] -= 1
        if not self._per_uid[link.uid]:
            del self._per_uid[link.uid]
        if self._shared < SHARED_CAP and len(self._accepting) < len(self._listeners):
            for name in self._listeners:
                self._resume(name)

    def _resume(self, name: str) -> None:
        if name not in self._accepting and not self._stopping:
            self._accepting.add(name)
            self._loop.add_reader(self._listeners[name].fileno(), self._accept, name)

    def _pause(self, name: str) -> None:
        if name in self._accepting:
            self._accepting.discard(name)
            self._loop.remove_reader(self._listeners[name].fileno())

    def _accept(self, name: str) -> None:
        """One connection at a time: the loop comes back for the next, after a look at everybody else's."""
        if name != "priv" and self._shared >= SHARED_CAP:
            return self._pause(name)
        try:
            connection, _ = self._listeners[name].accept()
        except OSError as problem:
            if problem.errno in EXHAUSTED:  # the caller waits in the backlog until something was closed
                self._pause(name)
                self._loop.call_later(PAUSE_SECONDS, self._resume, name)
            return
        self._welcome(name, connection)

    def _welcome(self, name: str, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            uid = peer_uid(connection)
            if uid != 0 and (self._per_uid[uid] >= USER_CAP or not self._budget.take(uid, time.monotonic())):
                return connection.close()
            link = LoopLink(self, connection, name, uid)
            link.session = KINDS[name](link, self._ground, uid)
            self._loop.add_reader(connection.fileno(), link.readable)
        except OSError:
            return connection.close()
        self.links[id(link)] = link
        self._shared += link.shared
        self._per_uid[uid] += 1
        link.readable()  # the first frame is usually there already
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Deadlines and signs of life; one timer for all sessions, and none while there is no session."""
        now = time.monotonic()
        for link in list(self.links.values()):
            if link.session is not None and link.session.next_tick <= now:
                link.session.tick(now)
        self._sweeping = bool(self.links)
        if self._sweeping:
            self._loop.call_later(SWEEP_SECONDS, self._sweep)
