"""A network namespace with pcscd in it, and the only way into it: run by pcscd.py as a program of its own.

vpcd listens on every address there is, where anybody could insert a card; so pcscd and vpcd live in a namespace with a
lone loopback. Requests come on the SOCK_SEQPACKET socket that is this process's standard input, one JSON object each,
and each is answered by one. When that socket ends, also because the tests died, pcscd and the namespace end.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from ctypes import byref, c_char_p, c_long, c_ubyte, c_ulong, c_void_p
from pathlib import Path
from typing import Any, TypeVar

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
PR_SET_PDEATHSIG = 1
PCSCD, NO_POLKIT = "/usr/sbin/pcscd", "--disable-polkit"
FIRST_PASSED_FD = 3  # sd_listen_fds(3)
SCARD_SCOPE_SYSTEM = 2
STATE_EMPTY, STATE_PRESENT = 0x10, 0x20
MAX_LIST = 4096
BREATH = 0.005  # seconds between two looks at what gives no event

T = TypeVar("T")
libc = ctypes.CDLL(None, use_errno=True)


class ReaderState(ctypes.Structure):
    """SCARD_READERSTATE."""

    _fields_ = [
        ("reader", c_char_p),
        ("user_data", c_void_p),
        ("known", c_ulong),
        ("now", c_ulong),
        ("atr_length", c_ulong),
        ("atr", c_ubyte * 33),
    ]


class Client:
    """As much of a PC/SC client as it takes to know which cards are there. Every method raises OSError."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libpcsclite.so.1")
        self._context = c_long()
        self._call("SCardEstablishContext", c_ulong(SCARD_SCOPE_SYSTEM), None, None, byref(self._context))

    def close(self) -> None:
        self._call("SCardReleaseContext", self._context)

    def readers(self) -> list[str]:
        """Their names, in their order."""
        names, size = ctypes.create_string_buffer(MAX_LIST), c_ulong(MAX_LIST)
        self._call("SCardListReaders", self._context, None, names, byref(size))
        return [name.decode() for name in names.raw[: size.value].split(b"\0") if name]

    def wait(self, reader: str, wanted: int, end: float) -> int:
        """Until one of the bits `wanted` is in the reader's state, or time.monotonic() is `end`; returns the state.

        A card whose reset fails is shown as gone before pcscd has noticed, and one that came meanwhile would never be
        seen: so the number of times that a card came or went has to fit.
        """
        state = ReaderState(reader.encode())
        while True:
            left = max(0, int((end - time.monotonic()) * 1000))
            self._call("SCardGetStatusChange", self._context, c_ulong(left), byref(state), c_ulong(1))
            if state.now & wanted and (state.now >> 16) % 2 == bool(state.now & STATE_PRESENT):
                return int(state.now)
            state.known = state.now

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = c_long
        code = function(*arguments) & 0xFFFFFFFF
        if code:
            raise OSError(f"{name}: {code:08X}")


class Namespace:
    """What is in the namespace.

    Args:
        path: of pcscd's socket.
        readers: the directory with pcscd's reader configuration.
    """

    def __init__(self, path: str, readers: str) -> None:
        self._path = path
        self._readers = readers
        self._pid = 0
        known = subprocess.run([PCSCD, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self._options = [NO_POLKIT] if NO_POLKIT in known else []  # newer ones ask it, and there is none here

    def start(self, refuse: bool = False) -> dict[str, Any]:
        """Start pcscd, or what refuses everybody, also again; its socket is there at once."""
        self.stop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            os.chmod(self._path, 0o666)  # as systemd's unit makes it
            listener.listen()
            self._pid = os.fork()
            if not self._pid:
                self._become(listener, self._refuse if refuse else self._run)
        return {"pid": self._pid}

    def stop(self) -> dict[str, Any]:
        """Kill pcscd; its socket is gone as well."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        Path(self._path).unlink(missing_ok=True)
        return {}

    def names(self, count: int, seconds: float) -> dict[str, Any]:
        """The names of `count` readers, once they are there. Raises OSError."""

        def listed() -> list[str]:
            with contextlib.closing(Client()) as client:
                names = client.readers()
            return names if len(names) >= count else []

        return {"names": self._until(listed, seconds)}

    def wait(self, reader: str, present: bool, seconds: float) -> dict[str, Any]:
        """Until the reader holds a card, or none. Raises OSError."""
        wanted = STATE_PRESENT if present else STATE_EMPTY
        with contextlib.closing(Client()) as client:
            return {"state": client.wait(reader, wanted, time.monotonic() + seconds)}

    def connect(self, port: int, seconds: float) -> socket.socket:
        """A connection to a reader's driver. Raises OSError."""
        return self._until(lambda: socket.create_connection(("127.0.0.1", port)), seconds)

    def _become(self, listener: socket.socket, service: Callable[[socket.socket], None]) -> None:
        """In the child: end with the parent, and not by the tests' Ctrl-C."""
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            service(listener)
        finally:
            os._exit(127)

    def _run(self, listener: socket.socket) -> None:
        os.dup2(listener.fileno(), FIRST_PASSED_FD)
        os.set_inheritable(FIRST_PASSED_FD, True)
        environment = os.environ | {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execve(PCSCD, [PCSCD, "--foreground", "--config", self._readers, *self._options], environment)

    def _refuse(self, listener: socket.socket) -> None:
        """Hang up with something unread, as a pcscd does on whom polkit does not let in (pcsc-lite 2.3.3).

        By the reset its client knows; hung up on before it has said all, it takes pcscd for absent.
        """
        while True:
            with listener.accept()[0] as client:
                size, _command = struct.unpack("=II", client.recv(8, socket.MSG_WAITALL))
                client.recv(size - 1, socket.MSG_WAITALL)

    def _until(self, attempt: Callable[[], T], seconds: float) -> T:
        """The first true result of `attempt`. Raises its OSError, or TimeoutError, after that many seconds."""
        end = time.monotonic() + seconds
        while True:
            problem: OSError = TimeoutError(f"not within {seconds} s")
            try:
                if result := attempt():
                    return result
            except OSError as error:
                problem = error
            if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
                self._pid = 0
                raise OSError("pcscd ended")
            if time.monotonic() > end:
                raise problem
            time.sleep(BREATH)


def loopback_up() -> None:
    """Raise the `lo` of the new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def reply(control: socket.socket, answer: dict[str, Any] | socket.socket) -> None:
    """One answer; a socket goes along with an empty one."""
    if isinstance(answer, socket.socket):
        with answer:
            fds = array.array("i", [answer.fileno()])
            control.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    else:
        control.send(json.dumps(answer).encode())


def main() -> None:
    """See the module's text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    namespace = Namespace(*sys.argv[1:3])
    os.environ["PCSCLITE_CSOCK_NAME"] = sys.argv[1]
    loopback_up()
    while request := control.recv(65536):
        arguments = json.loads(request)
        try:
            answer = getattr(namespace, arguments.pop("do"))(**arguments)
        except OSError as error:
            answer = {"error": str(error)}
        reply(control, answer)
    namespace.stop()


if __name__ == "__main__":
    main()
