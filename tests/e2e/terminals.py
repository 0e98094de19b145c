"""Programs on terminals inside a private machine, with transcripts for whoever has to find out why a test failed."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pexpect
from machine import DEADLINE, PASSWORDS, PROJECT, Machine
from people import Person

FOLDER = PROJECT / "build/transcripts"
# Codes, seeds, QR codes and recovery codes, whoever's they are.
_SECRETS = re.compile(
    r"otpauth://\S+|(?:[0-9A-Z]{4}[- ]){5,7}[0-9A-Z]{4}|\b[A-Z2-7]{32}\b|\b[0-9]{6,8}\b|^.*[\u2580-\u259f].*$",
    re.MULTILINE,
)


class Terminal:
    """One program on a terminal of its own.

    Args:
        machine: where it runs.
        argv: the program.
        user: as whom.
    """

    def __init__(self, machine: Machine, argv: Sequence[str], user: str | None) -> None:
        self._seen = io.StringIO()
        self._argv = list(argv)
        self._over = False
        self._child: Any = machine.spawn(argv, user, timeout=DEADLINE, logfile=None)
        self._child.logfile_read = self._seen
        self.pid: int = self._child.pid

    def expect(self, text: str) -> None:
        """Wait for literal text. Raises pexpect.EOF or TIMEOUT."""
        self._child.expect_exact(text)

    def match(self, pattern: str) -> str:
        """Wait for what a regular expression describes; returns its first group."""
        self._child.expect(pattern)
        return str(self._child.match[1])

    def answer(self, prompt: str, text: str) -> None:
        """Wait for a prompt, then for the terminal to hide what is typed, and type it."""
        self.expect(prompt)
        self.type(text, hidden=True)

    def type(self, text: str, hidden: bool = False) -> None:
        """Type a line; with `hidden` not before the terminal hides it."""
        assert not hidden or self._child.waitnoecho(DEADLINE), "the terminal does not hide what is typed"
        self._child.sendline(text)

    def which(self, *texts: str) -> str:
        """Wait for one of several texts, or for the program's end, which is the empty text."""
        found = self._child.expect_exact([*texts, pexpect.EOF])
        self._over = found == len(texts)
        return [*texts, ""][int(found)]

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._child.sendintr()

    def hang_up(self, number: int) -> None:
        """End the program from outside."""
        self._child.kill(number)

    def end(self) -> tuple[int, str]:
        """Wait for the program's end: exit status (negative: the signal) and what it said since the last wait."""
        if not self._over:
            self._child.expect(pexpect.EOF)
        said = str(self._child.before)
        self._child.close()
        status = self._child.exitstatus
        return (status if status is not None else -int(self._child.signalstatus)), said

    def ends_with(self, status: int) -> str:
        """As `end`, where the status is known; raises AssertionError with what it said instead."""
        found, said = self.end()
        assert found == status, f"{self._argv} ended with {found}: {said}"
        return said

    @property
    def transcript(self) -> str:
        """What it said, without secrets."""
        return redacted(f"$ {' '.join(self._argv)}\n{self._seen.getvalue()}")

    def close(self) -> None:
        """End it."""
        self._child.close(force=True)


class Terminals:
    """All terminals of one test, and how long things took."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._open: list[Terminal] = []

    def run(self, argv: Sequence[str], user: str | None = "alice") -> Terminal:
        """Start a program."""
        self._open.append(Terminal(self.machine, argv, user))
        return self._open[-1]

    def close(self) -> None:
        """End all."""
        for terminal in self._open:
            terminal.close()

    def save(self, name: str) -> Path:
        """Keep the transcripts of a test that failed, and the machine's log."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{re.sub('[^a-zA-Z0-9_.-]+', '_', name)}.txt"
        log = redacted("\n".join(self.machine.journal()))
        path.write_text("\n\n".join([*(terminal.transcript for terminal in self._open), log]))
        return path


def redacted(text: str) -> str:
    """Without anything that could open something."""
    for password in PASSWORDS.values():
        text = text.replace(password, "<password>")
    return _SECRETS.sub("<redacted>", text)


class Watch:
    """How long ago something was done; for tests that compare two times."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start


def password(person: Person) -> str:
    """Of the account."""
    return PASSWORDS[person.user]
