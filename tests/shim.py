"""The shim in a test: built with a host program, facing a service that follows a script."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pam_mfa import wire
from pam_mfa.errors import PamMfaError
from pam_mfa.outcome import Outcome

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "native"
SOURCES = ["pam_mfa.c", "relay.c", "spawn.c", "wire.c"]
WARN = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
LINK = ["-Wl,-z,relro,-z,now,-z,nodelete,-z,defs", f"-Wl,--version-script,{NATIVE / 'pam_mfa.map'}"]
COMPILERS = {
    "gcc": ["gcc"],
    "clang": ["clang"],
    "address": ["clang", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["clang", "-fsanitize=thread"],
}
DEADLINE = 60.0  # seconds; far above every wait of a test, so that only a hang meets it

SUCCESS, AUTH_ERR, UNAVAILABLE, MAXTRIES, CONV_ERR, AUTHTOK_ERR, IGNORE, ABORT = 0, 7, 9, 11, 19, 20, 25, 26
ECHO_OFF, ECHO_ON, ERROR_MSG, TEXT_INFO = 1, 2, 3, 4

# IGNORE never leaves a stack; pam_debug behind the module tells it from success.
_IGNORED = 16
_STACK = """auth [success=done ignore=ignore default=die] {module}
auth [default=die] pam_debug.so auth=cred_expired
account [success=done ignore=ignore default=die] {module}
account [default=die] pam_debug.so acct=cred_expired
session [success=done ignore=ignore default=die] {module}
session [default=die] pam_debug.so open_session=cred_expired close_session=cred_expired
password [success=done ignore=ignore default=die] {module}
"""


@dataclass(frozen=True)
class Build:
    """Where one compiler's module, host program and stub engine are."""

    module: Path
    host: Path
    stub: Path


@functools.cache
def build(compiler: str = "gcc") -> Build:
    """Compiles the module, the host program and the stub engine, once for each process of the test run.

    Args:
        compiler: one of COMPILERS.
    """
    command = [*COMPILERS[compiler], *WARN]
    folder = Path(tempfile.mkdtemp(prefix="pam-mfa-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Build(folder / "pam_mfa.so", folder / "host", folder / "pam-mfa-stub")
    here = Path(__file__).parent / "native"
    link = LINK if len(command) == 1 + len(WARN) else []  # a sanitizer's symbols are in the host program
    shim = [*(str(NATIVE / name) for name in SOURCES), "-fPIC", "-shared", "-fvisibility=hidden", *link]
    _run(*command, *shim, "-o", str(made.module), "-lpam")
    host = [str(here / "host.c"), str(here / "host_process.c")]
    _run(*command, "-rdynamic", *host, "-o", str(made.host), "-lpam", "-ldl", "-lpthread")
    _run("gcc", *WARN, f"-I{NATIVE}", str(here / "stub.c"), str(NATIVE / "wire.c"), "-o", str(made.stub))
    return made


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Ran:
    """What one run of the host program said."""

    lines: list[str]
    returncode: int

    def of(self, word: str) -> list[str]:
        """The rest of every line that starts with this word."""
        return [line[len(word) + 1 :] for line in self.lines if line.split(" ", 1)[0] == word]

    def codes(self, word: str = "auth") -> list[int]:
        """The PAM codes of every such step, as the module returned them."""
        return [IGNORE if int(code) == _IGNORED else int(code) for code in self.of(word)]

    @property
    def code(self) -> int:
        """The PAM code of the one authentication."""
        (code,) = self.codes()
        return code

    @property
    def took(self) -> float:
        """Seconds of the last call of libpam."""
        return int(self.of("took")[-1]) / 1000

    @property
    def shown(self) -> list[tuple[int, str]]:
        """Style and text of every message of the conversation."""
        parts = [line.split(" ") for line in self.of("conv")]
        assert all(count == "1" for count, _, _ in parts)
        shown = [(int(style), bytes.fromhex(text).decode()) for _, style, text in parts]
        return [message for message in shown if "cred_expired" not in message[1]]  # that is pam_debug

    @property
    def log(self) -> list[str]:
        """The module's lines for syslog, without the priority."""
        return [line.split(" ", 1)[1] for line in self.of("log") if "pam_mfa(" in line]

    @property
    def priorities(self) -> list[int]:
        """The priorities of those lines."""
        return [int(line.split(" ", 1)[0]) for line in self.of("log") if "pam_mfa(" in line]


class Peer:
    """The service's end of one session."""

    def __init__(self, connection: socket.socket, hellos: list[wire.Hello]) -> None:
        self.connection = connection
        self.hello = wire.Hello(b"", "", "")
        self._hellos = hellos

    def greet(self) -> wire.Hello:
        """Takes HELLO and says ALIVE, as the service does."""
        self.take_hello()
        self.send(wire.encode(wire.Type.ALIVE))
        return self.hello

    def take_hello(self) -> wire.Hello:
        """Takes HELLO."""
        kind, payload = self.frame()
        assert kind is wire.Type.HELLO
        self.hello = wire.decode_hello(payload)
        self._hellos.append(self.hello)
        return self.hello

    def frame(self) -> tuple[wire.Type, bytes]:
        """The shim's next frame; at its end an empty packet, which decode refuses."""
        return wire.decode(self.connection.recv(wire.RECEIVE_SIZE))

    def gone(self) -> bool:
        """Whether the shim has left (waits for it)."""
        return self.connection.recv(wire.RECEIVE_SIZE) == b""

    def send(self, packet: bytes) -> None:
        """Sends a packet as it is."""
        self.connection.send(packet)

    def send_late(self, packet: bytes) -> None:
        """Sends a packet to a shim that may have left by now."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(packet)

    def settle(self) -> None:
        """Waits until the shim has read everything. A shim that leaves with something unread resets the
        connection, and what it said last is lost."""
        assert eventually(lambda: not any(fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))))

    def ask(self, text: str = "Code: ") -> bytes:
        """Asks and returns the answer."""
        self.send(wire.encode_text(wire.Type.ASK_SECRET, text))
        kind, payload = self.frame()
        assert kind is wire.Type.REPLY
        return payload

    def result(self, outcome: Outcome, delay_ms: int = 0) -> None:
        """Ends the session."""
        self.send(wire.encode_result(outcome, delay_ms, self.hello.nonce))


Script = Callable[[Peer], None]


def grant(peer: Peer) -> None:
    """A service that lets everybody in: the control of every test that refuses."""
    peer.greet()
    peer.result(Outcome.GRANTED)


@dataclass
class Lab:
    """One host program's surroundings: a socket with a scripted service, an engine, a PAM stack.

    Args:
        folder: an empty, root-owned directory.
        compiler: who built the module, one of COMPILERS.
    """

    folder: Path
    compiler: str = "gcc"
    errors: list[BaseException] = field(default_factory=list)
    hellos: list[wire.Hello] = field(default_factory=list)
    _listener: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.build = build(self.compiler)
        self.run = self.folder / "run"
        self.run.mkdir(mode=0o755)
        self.socket = self.run / "priv.sock"
        self.engine = self.folder / "pam-mfa-stub"
        self.confdir = self.folder / "pam.d"
        self.confdir.mkdir()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None and self.errors:
            raise self.errors[0]

    def serve(self, script: Script, listener_uid: int = 0, backlog: int = 64) -> None:
        """Answers every connection with the script, each in a thread of its own."""
        self._listener = listener = self.listen(listener_uid, backlog)
        self._spawn(self._accept, listener, script)

    def listen(self, uid: int = 0, backlog: int = 64) -> socket.socket:
        """A listening socket; the kernel notes the uid of whoever calls listen()."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.socket))
        self.socket.chmod(0o666)
        os.seteuid(uid)
        try:
            listener.listen(backlog)
        finally:
            os.seteuid(0)
        return listener

    def install_stub(self, mode: str) -> None:
        """Puts the stub engine into place."""
        shutil.copy(self.build.stub, self.engine)
        self.engine.with_name(self.engine.name + ".mode").write_text(mode)

    @property
    def report(self) -> list[str] | None:
        """What the stub engine wrote down, None when it was not started."""
        path = self.engine.with_name(self.engine.name + ".report")
        return path.read_text().splitlines() if path.exists() else None

    def stack(self, service: str, arguments: str) -> None:
        """Writes the PAM stack of a service."""
        module = f"{self.build.module} socket={self.socket} engine={self.engine} {arguments}"
        (self.confdir / service).write_text(_STACK.format(module=module))

    def start(
        self, *steps: str, user: str = "root", service: str = "test", arguments: str = ""
    ) -> subprocess.Popen[str]:
        """Starts the host program."""
        self.stack(service, arguments)
        command = [str(self.build.host), str(self.confdir), service, user, *steps]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"LANG": "C.UTF-8"}
        )

    def host(self, *steps: str, user: str = "root", service: str = "test", arguments: str = "") -> Ran:
        """Runs the host program to its end."""
        return finish(self.start(*steps, user=user, service=service, arguments=arguments))

    def stop(self) -> None:
        """Stops listening and waits for every session."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for thread in list(self._threads):
            thread.join(DEADLINE)

    def _spawn(self, call: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, script: Script) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE)
            self._spawn(self._session, connection, script)

    def _session(self, connection: socket.socket, script: Script) -> None:
        peer = Peer(connection, self.hellos)
        try:
            script(peer)
        except (AssertionError, OSError, PamMfaError) as error:
            self.errors.append(error)
        finally:
            connection.close()


def finish(host: subprocess.Popen[str]) -> Ran:
    """Waits for the host program's end."""
    try:
        output, _ = host.communicate(timeout=DEADLINE)
    finally:
        host.kill()
    return Ran(output.splitlines(), host.returncode)


def until_line(host: subprocess.Popen[str], word: str) -> list[str]:
    """Reads the host program's lines up to one that starts with this word."""
    assert host.stdout is not None
    lines = []
    for line in host.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(word):
            return lines
    raise AssertionError(f"the host ended before {word!r}: {lines}")


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true before a deadline that only a hang meets."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
