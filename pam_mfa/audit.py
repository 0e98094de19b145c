"""One audit record for each attempt: to journald, else syslog, else standard error.

Every text in a record may come from an attacker, so it is escaped to one line of ASCII and bounded before it goes
anywhere. A Record has no field that a code, a PIN or a seed could be put into.
"""

from __future__ import annotations

import os
import re
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from .outcome import Outcome
from .structure import structure

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
NAME = "pam-mfa"
AUTHPRIV = 10  # syslog facility, RFC 5424 section 6.2.1
ALERT, WARNING, NOTICE = 1, 4, 5
FIELD_LIMIT = 256
ALERT_LIMIT = 2000
PATIENCE = 0.5
PLAIN = re.compile(r"[ !#-\[\]-~]*", re.ASCII)  # printable ASCII without quote and backslash
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CONCERNING = frozenset({Outcome.LOCKED, Outcome.UNAVAILABLE})

Fields = Mapping[str, str]


@structure
class Record:
    """What happened, for the log.

    Args:
        event: "login", the management request ("enroll", "remove" and so on), "attempt": a break-glass code that was
            not taken, or "alert": what a session met on its way that an administrator must know at once.
        outcome: how it ended; None for a management request that was carried out, and for an alert.
        reason: one machine-readable word.
        role: who wrote this: "service", "engine" or "manage".
        service, user, uid, rhost, tty: as in wire.Hello.
        session: id of the session.
        duration_ms: from its start to its end, in milliseconds.
        factor, credential, label: what was used, where something was.
        subject: whose that was, where it was not the user's own.
        note: why, by the word of whoever did it.
    """

    event: str
    outcome: Outcome | None
    reason: str
    role: str
    service: str
    user: str
    uid: int | None
    session: str
    duration_ms: int
    rhost: str = ""
    tty: str = ""
    factor: str | None = None
    credential: str | None = None
    label: str | None = None
    subject: str | None = None
    note: str | None = None


def escape(text: str, limit: int = FIELD_LIMIT) -> str:
    """One line of printable ASCII of at most `limit` characters, then "..." where it was cut.

    Quote, backslash and everything else outside printable ASCII become \\xNN, \\uNNNN or \\UNNNNNNNN.
    """
    if len(text) <= limit and PLAIN.fullmatch(text):
        return text
    pieces: list[str] = []
    left = limit
    for char in text:
        piece = char if PLAIN.fullmatch(char) else _code(ord(char))
        left -= len(piece)
        if left < 0:
            return "".join(pieces) + "..."
        pieces.append(piece)
    return "".join(pieces)


def render(record: Record) -> Fields:
    """The journal fields of a record; those that are not known are left out."""
    outcome = "DONE" if record.outcome is None else record.outcome.name
    known = {
        "EVENT": record.event,
        "OUTCOME": outcome,
        "REASON": record.reason,
        "ROLE": record.role,
        "SERVICE": record.service,
        "USER": record.user,
        "UID": _number(record.uid),
        "SUBJECT": record.subject,
        "RHOST": record.rhost,
        "TTY": record.tty,
        "FACTOR": record.factor,
        "CREDENTIAL": record.credential,
        "LABEL": record.label,
        "NOTE": record.note,
        "SESSION": record.session,
        "DURATION_MS": _number(record.duration_ms),
    }
    own = {f"PAM_MFA_{name}": escape(value) for name, value in known.items() if value}
    priority = WARNING if record.outcome in CONCERNING else NOTICE
    if record.event == "alert":
        priority = ALERT
    return _common(_message(own), priority) | own


def render_alert(text: str) -> Fields:
    """The journal fields of something that an administrator must act on at once."""
    return _common(escape(text, ALERT_LIMIT), ALERT)


def render_lost(count: int) -> Fields:
    """The journal fields that stand for records which could not be written."""
    return _common(f"{count} audit records were lost", WARNING) | {"PAM_MFA_LOST": str(count)}


class Sink(Protocol):
    """Where records go."""

    def write(self, fields: Fields) -> bool:
        """Whether the record was handed over."""

    def close(self) -> None:
        """Give the file descriptor back."""


class Datagram:
    """A log socket: one datagram for each record, connected again when its reader was restarted.

    Args:
        path: of the socket.
        form: renders the fields into one datagram.
        patience: seconds to wait for a full socket; once it was in vain, none until a record gets through.
    """

    def __init__(self, path: str, form: Callable[[Fields], bytes], patience: float = 0.0) -> None:
        self._path = path
        self._form = form
        self._patience = patience
        self._full = False
        self._socket: socket.socket | None = None

    def write(self, fields: Fields) -> bool:
        """Whether the socket took the record."""
        data = self._form(fields)
        for _ in range(2 if self._socket else 1):  # a reader that was restarted refuses the old connection once
            try:
                self._connected().send(data)
            except (BlockingIOError, TimeoutError):
                self.close()
                self._full = True
                return False
            except OSError:
                self.close()
            else:
                self._full = False
                return True
        return False

    def close(self) -> None:
        """Close the connection; the next record opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.connect(self._path)
        self._socket.settimeout(0.0 if self._full else self._patience)
        return self._socket


class Stream:
    """Standard error, for containers. The null device takes everything and keeps nothing: not written."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd

    def write(self, fields: Fields) -> bool:
        """Whether the line went out; a pipe that nobody empties is not waited for."""
        try:
            found = os.fstat(self._fd)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
                return False
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if poll.poll(0) != [(self._fd, select.POLLOUT)]:
                return False
            line = f"{NAME}: {fields['MESSAGE']}\n".encode("ascii")
            return os.write(self._fd, line) == len(line)
        except OSError:
            return False

    def close(self) -> None:
        """Nothing: it is not ours."""


class Log:
    """The first sink that takes a record gets it. Not thread-safe."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, record: Record) -> bool:
        """Whether the record was written."""
        return self.send(render(record))

    def alert(self, text: str) -> bool:
        """Whether an alert was written."""
        return self.send(render_alert(text))

    def send(self, fields: Fields) -> bool:
        """Whether any sink took these fields."""
        return any(sink.write(fields) for sink in self._sinks)

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()


def system_log(journal: str = JOURNAL, syslog: str = SYSLOG, stderr: int = 2, patience: float = PATIENCE) -> Log:
    """The log of this machine.

    Args:
        journal, syslog: paths of the sockets.
        stderr: file descriptor of the last resort.
        patience: seconds to wait for a full socket.
    """
    return Log([Datagram(journal, journal_form, patience), Datagram(syslog, syslog_form, patience), Stream(stderr)])


def journal_form(fields: Fields) -> bytes:
    """journald's native protocol; no value holds a newline, so each field is one line."""
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode("ascii")


def syslog_form(fields: Fields) -> bytes:
    """A line as syslog(3) writes it to /dev/log (RFC 3164 section 4.1 without the host name)."""
    now = time.localtime()
    when = f"{MONTHS[now.tm_mon - 1]} {now.tm_mday:2d} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
    level = AUTHPRIV * 8 + int(fields["PRIORITY"])
    return f"<{level}>{when} {NAME}[{os.getpid()}]: {fields['MESSAGE']}".encode("ascii")


def _common(message: str, priority: int) -> dict[str, str]:
    return {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": NAME,
        "SYSLOG_FACILITY": str(AUTHPRIV),
        "SYSLOG_PID": str(os.getpid()),
    }


def _message(own: Fields) -> str:
    """One line for people. What the attacker chose comes last and in quotes: it can imitate nothing before it."""
    words = [own["PAM_MFA_EVENT"], own["PAM_MFA_OUTCOME"]]
    ours = ("REASON", "ROLE", "UID", "FACTOR", "CREDENTIAL", "SESSION", "DURATION_MS")
    foreign = ("SERVICE", "USER", "SUBJECT", "RHOST", "TTY", "LABEL", "NOTE")
    words += [f"{name.lower()}={own[key]}" for name in ours if (key := f"PAM_MFA_{name}") in own]
    words += [f'{name.lower()}="{own[key]}"' for name in foreign if (key := f"PAM_MFA_{name}") in own]
    return " ".join(words)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _code(point: int) -> str:
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
