"""The session's side of the path checker: one connection, one request, one answer. It blocks, within a few seconds."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ..errors import Gone, ProtocolError
from ..peer import peer_uid
from .base import MAX_PACKET, SECONDS, Check, Checked, Trust
from .codec import CODEC

PATH = "/run/pam-mfa/verify.sock"
ROOT = 0
GRACE = 1.0  # for a checker that has only just begun


def connect(path: str | os.PathLike[str] = PATH) -> socket.socket:
    """A connection to pam-mfa-verify.

    Whose socket lies at a path is the kernel's word: root made it, be it systemd or the service's own C part before it
    dropped root. Another's verdicts would be anybody's.

    Raises Gone.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(SECONDS)
        connection.connect(os.fspath(path))
        if peer_uid(connection) != ROOT:
            raise Gone("path_checker_untrusted")
    except OSError as problem:
        connection.close()
        raise Gone("path_checker_busy" if isinstance(problem, BlockingIOError) else "no_path_checker") from None
    except BaseException:
        connection.close()
        raise
    return connection


def ask(request: Check, connected: Callable[[], socket.socket] = connect, seconds: float = SECONDS + GRACE) -> Checked:
    """The verdict. Raises nothing: where there is none it is UNKNOWN, and its reason says why.

    Args:
        connected: opens a connection to the checker. Raises Gone.
        seconds: to wait for the answer.
    """
    try:
        return _asked(CODEC.encode(request), connected, seconds)
    except Gone as problem:
        reason = problem.reason
    except ProtocolError:
        reason = "path_checker_nonsense"
    except TimeoutError:
        reason = "path_checker_silent"
    except OSError:
        reason = "path_checker_gone"
    return Checked(Trust.UNKNOWN, reason)


def _asked(packet: bytes, connected: Callable[[], socket.socket], seconds: float) -> Checked:
    with connected() as connection:
        connection.settimeout(seconds)
        connection.send(packet, socket.MSG_NOSIGNAL)
        answer = connection.recv(MAX_PACKET + 1)
    if not answer:  # killed at its deadline
        raise Gone("path_checker_gone")
    verdict = CODEC.decode(answer)
    if not isinstance(verdict, Checked):
        raise ProtocolError("no verdict")
    return verdict
