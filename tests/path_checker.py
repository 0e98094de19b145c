"""A path checker in a process of its own: the product's, on another directory, or one whose work is something else.

with running(ca.lay(tmp_path / "ca", ...), tmp_path / "verify.sock") as checker:
    client.ask(request, checker.connect)
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pam_mfa.verify import client, service
from pam_mfa.verify.authorities import Directory
from pam_mfa.verify.base import SECONDS


@dataclass
class Running:
    """One that runs."""

    pid: int
    path: Path

    def connect(self) -> socket.socket:
        """As the session does."""
        return client.connect(self.path)

    def workers(self) -> list[int]:
        """Its children just now."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@contextmanager
def running(
    directory: Path,
    path: Path,
    seconds: float = SECONDS,
    uids: Collection[int] = (0,),
    work: Callable[..., Any] | None = None,
) -> Iterator[Running]:
    """Starts and ends it. `work` stands for service.check in it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(64)
    path.chmod(0o666)
    pid = os.fork()
    if not pid:
        _serve(listener, directory, seconds, uids, work)
    listener.close()
    checker = Running(pid, path)
    try:
        yield checker
    finally:
        _end(checker)


def _end(checker: Running) -> None:
    with suppress(ProcessLookupError):
        os.kill(checker.pid, signal.SIGSTOP)  # it takes no more
        for pid in [*checker.workers(), checker.pid]:
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(checker.pid, 0)


def _serve(
    listener: socket.socket, directory: Path, seconds: float, uids: Collection[int], work: Callable[..., Any] | None
) -> None:
    try:
        if work:
            service.check = work  # type: ignore[attr-defined]
        checker = service.Checker(Directory(directory), uids, seconds)
        listener.setblocking(False)
        while True:
            checker.turn(listener)
    finally:
        os._exit(1)
