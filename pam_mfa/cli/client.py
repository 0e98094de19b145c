"""The manage protocol from the asking side: one REQUEST, then whatever the service wants to know, until DONE.

Nothing here knows how prompts are shown; a `Conversation` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import wire
from ..errors import AbortedError, ProtocolError, RefusedError
from ..peer import peer_uid
from ..wire import Type
from . import paths
from .paths import Paths, only_root_writes
from .plain import one_line

CONNECT_SECONDS = 5
SILENCE_SECONDS = 15  # without any frame the service is gone; it says ALIVE every 4 s
LEAVE_SECONDS = 5  # for an engine to end by itself
TIME = struct.Struct("ll")  # SO_SNDTIMEO: seconds, microseconds

Record = dict[str, Any]


class Conversation(Protocol):
    """Whoever answers for the user. The first two raise AbortedError where the user gives up."""

    def ask(self, text: str) -> str:
        """Ask; the answer may be seen."""

    def ask_secret(self, text: str) -> str:
        """Ask; the answer is not shown."""

    def tell(self, text: str) -> None:
        """Show text."""

    def warn(self, text: str) -> None:
        """Show text that is a warning."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that root asks for."""

    uid: int
    name: str


class NoService(Exception):
    """There is no service on this machine."""


def unavailable(message: str) -> RefusedError:
    """The error for whatever is between us and an answer."""
    return RefusedError("unavailable", message)


@contextlib.contextmanager
def connected(where: Paths) -> Iterator[socket.socket]:
    """A socket to the service or, for root where there is none, to an engine of its own.

    Raises:
        RefusedError: "unavailable", with what to do.
    """
    try:
        channel = open_service(where)
    except NoService:
        if os.geteuid() != 0:
            raise unavailable("the pam-mfa service is not running; ask an administrator to start pam-mfad") from None
        with engine(where) as channel:
            yield channel
        return
    with channel:
        yield channel


def open_service(where: Paths) -> socket.socket:
    """Connect to the service.

    Raises:
        NoService: nobody listens.
        RefusedError: somebody listens who is not to be trusted, or it does not answer.
    """
    path = where.at(paths.MANAGE)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _check_directory(path.parent)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIME.pack(CONNECT_SECONDS, 0))
        channel.connect(str(path))
        _check_listener(channel, path)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        raise NoService from None
    except OSError as error:
        channel.close()
        raise unavailable(f"{path}: {error.strerror}; try again, or restart pam-mfad") from None
    except RefusedError:
        channel.close()
        raise
    return channel


def _check_directory(directory: Path) -> None:
    if not only_root_writes(directory, stat.S_IFDIR):
        raise unavailable(f"others than root may write to {directory}; repair its owner and mode: root, 0755")


def _check_listener(channel: socket.socket, path: Path) -> None:
    if (uid := peer_uid(channel)) != 0:
        raise unavailable(f"{path} belongs to uid {uid}, not to the service; find out who made it")


@contextlib.contextmanager
def engine(where: Paths) -> Iterator[socket.socket]:
    """A socket to an engine that is started for this one request, and ended behind it. For root.

    Raises:
        RefusedError: "unavailable", with the engine's own words where it said why it ended.
    """
    program = where.at(paths.ENGINE)
    _check_program(program)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words, mouth = os.pipe()
    with ours, open(words, "rb", buffering=0) as stderr:
        try:
            pid = _spawn(program, theirs.fileno(), mouth)
        except OSError as error:
            raise unavailable(f"{program}: {error.strerror}; run packaging/install") from None
        finally:
            theirs.close()
            os.close(mouth)
        try:
            yield ours
        except _Silent:
            raise unavailable(f"the engine ended: {_last_words(stderr) or 'it did not say why'}") from None
        finally:
            ours.close()
            _end(pid)


def _check_program(program: Path) -> None:
    """As the module does before it starts an engine."""
    try:
        sound = only_root_writes(program, stat.S_IFREG)
    except OSError as error:
        raise unavailable(f"{program}: {error.strerror}; run packaging/install") from None
    if not sound:
        raise unavailable(f"{program} is no file that only root may write to; run packaging/install again")


def _spawn(program: Path, session: int, stderr: int) -> int:
    """Start the engine with nothing of ours but its socket as fd 3; Ctrl-C at the terminal does not reach it."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
        (os.POSIX_SPAWN_DUP2, session, 3),
    ]
    return os.posix_spawn(program, [str(program), "--manage"], {}, file_actions=actions, setsid=True)


def _end(pid: int) -> None:
    """Wait for the engine, which ends when its socket closes; one that does not is killed."""
    process = os.pidfd_open(pid)
    try:
        if not select.select([process], [], [], LEAVE_SECONDS)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        os.waitpid(pid, 0)
    finally:
        os.close(process)


def _last_words(stderr: Any) -> str:
    if not select.select([stderr], [], [], 1)[0]:
        return ""
    said = stderr.read(4096).decode(errors="replace").strip().split("\n")
    return one_line(said[-1]).removeprefix("pam-mfa: ")


class _Silent(RefusedError):
    """The other end closed or fell silent before DONE."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


def request(
    channel: socket.socket,
    verb: str,
    arguments: Mapping[str, Any],
    conversation: Conversation,
    account: Account | None = None,
) -> Iterator[Record]:
    """Send one request and yield its records as they come.

    Args:
        channel: connected, fresh.
        verb, arguments: as in README.md.
        conversation: answers what the service asks.
        account: only for root, the account in question.

    Raises:
        RefusedError: the service refused, ended or fell silent.
        AbortedError: the user gave up.
        ProtocolError: what came is no frame of this protocol.
    """
    body: Record = {"verb": verb, "args": dict(arguments)}
    if account is not None:
        body["account"] = {"uid": account.uid, "name": account.name}
    channel.settimeout(SILENCE_SECONDS)
    _send(channel, wire.encode(Type.REQUEST, json.dumps(body).encode()))
    while True:
        kind, payload = _receive(channel)
        if kind is Type.DONE:
            _finish(_record(payload))
            return
        if kind is Type.PART:
            yield _record(payload)
        else:
            _converse(channel, kind, payload, conversation)


def _converse(channel: socket.socket, kind: Type, payload: bytes, conversation: Conversation) -> None:
    if kind is Type.ALIVE:
        return
    text = payload.decode(errors="replace")
    if kind is Type.TELL:
        conversation.tell(payload[1:].decode(errors="replace"))
    elif kind is Type.WARN:
        conversation.warn(text)
    elif kind in (Type.ASK, Type.ASK_SECRET):
        _answer(channel, conversation, text, secret=kind is Type.ASK_SECRET)
    else:
        raise ProtocolError(f"{kind.name} has no place in a request")


def _answer(channel: socket.socket, conversation: Conversation, text: str, secret: bool) -> None:
    try:
        answer = _asked(conversation, text, secret)
        while len(answer) > wire.MAX_REPLY:
            conversation.warn(f"That is longer than {wire.MAX_REPLY} bytes.")
            answer = _asked(conversation, text, secret)
    except AbortedError:
        _send(channel, wire.encode(Type.ABORT))
        raise
    _send(channel, wire.encode(Type.REPLY, answer))


def _asked(conversation: Conversation, text: str, secret: bool) -> bytes:
    answer = conversation.ask_secret(text) if secret else conversation.ask(text)
    return answer.encode(errors="surrogateescape")  # bytes that are no text go on as they came


def _send(channel: socket.socket, frame: bytes) -> None:
    """A peer that is gone may have left its reason behind, so a failed send is found out by the next receive."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.send(frame)


def _receive(channel: socket.socket) -> tuple[Type, bytes]:
    try:
        packet = channel.recv(wire.RECEIVE_SIZE)
    except TimeoutError:
        raise _Silent("the pam-mfa service does not answer; run the command again, or restart pam-mfad") from None
    except ConnectionResetError:
        packet = b""
    if not packet:
        raise _Silent("the pam-mfa service ended the request; run the command again, its log says why")
    return wire.decode(packet)


def _record(payload: bytes) -> Record:
    try:
        record = json.loads(payload)
    except ValueError:  # also what is not UTF-8; the text itself is not repeated, it may hold a secret
        raise ProtocolError("a record that is not JSON") from None
    if not isinstance(record, dict):
        raise ProtocolError("a record that is not a JSON object")
    return record


def _finish(done: Record) -> None:
    if done.get("ok") is not True:
        code, message = str(done.get("error", "refused")), str(done.get("message", "refused"))
        raise RefusedError(code, message)
