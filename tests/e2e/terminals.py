"""Programs on terminals inside a private machine, with transcripts for whoever has to find out why a test failed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
from e2e.script import Script, as_typed, compare, joined, redacted
from machine import DEADLINE, PASSWORDS, PROJECT, Machine
from people import Person

FOLDER = PROJECT / "build/transcripts"


class Terminal:
    """One program on a terminal of its own.

    Args:
        machine: where it runs.
        argv: the program.
        user: as whom.
        shown: the command in the transcript, where that is not `argv`.
    """

    def __init__(self, machine: Machine, argv: Sequence[str], user: str | None, shown: str = "") -> None:
        self.script = Script(shown or as_typed(argv), user)
        self.over = False  # its end was waited for
        self._interrupted = False
        self._argv = list(argv)
        self._child: Any = machine.spawn(argv, user, timeout=DEADLINE, logfile=None)
        self._child.logfile_read = self.script
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
        if hidden:
            assert self._child.waitnoecho(DEADLINE), "the terminal does not hide what is typed"
            self.script.typed_unseen()
        self._child.sendline(text)

    def which(self, *texts: str) -> str:
        """Wait for one of several texts, or for the program's end, which is the empty text."""
        found = self._child.expect_exact([*texts, pexpect.EOF])
        self.over = found == len(texts)
        return [*texts, ""][int(found)]

    def interrupt(self) -> None:
        """Ctrl-C; `end` repeats it: a program that has shown its prompt and does not read yet forgets it."""
        self._interrupted = True
        self._child.sendintr()

    def hang_up(self, number: int) -> None:
        """End the program from outside."""
        self._child.kill(number)

    def end(self) -> tuple[int, str]:
        """Wait for the program's end: exit status (negative: the signal) and what it said since the last wait."""
        watch = Watch()
        while self._interrupted and not self.over and watch.seconds < DEADLINE:
            self.over = self._child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=1) == 0
            if not self.over:
                self._child.sendintr()
        if not self.over:
            self._child.expect(pexpect.EOF)
            self.over = True
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
        return self.script.text

    def close(self) -> None:
        """End it."""
        self._child.close(force=True)


class Terminals:
    """All terminals of one test, and how long things took."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._open: list[Terminal] = []
        self._scripts = [Script()]

    def run(self, argv: Sequence[str], user: str | None = "alice", shown: str = "") -> Terminal:
        """Start a program."""
        self._open.append(Terminal(self.machine, argv, user, shown))
        self._scripts.append(self._open[-1].script)
        return self._open[-1]

    def happened(self, what: str) -> None:
        """Something was done that no terminal shows."""
        self._scripts[-1].happened(what)

    @contextmanager
    def story(self, name: str) -> Iterator[None]:
        """What happens within looks as transcripts/NAME.txt says; every terminal that is opened there also ends there.

        Raises AssertionError with the difference.
        """
        opened, begun = len(self._open), len(self._scripts)
        self._scripts.append(Script())  # for what happens before the first terminal is opened
        yield
        assert all(terminal.over for terminal in self._open[opened:]), "a terminal is still in use"
        compare(name, self._scripts[begun:])

    def close(self) -> None:
        """End all."""
        for terminal in self._open:
            terminal.close()

    def save(self, name: str) -> Path:
        """Keep the transcripts of a test that failed, and the machine's log."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{re.sub('[^a-zA-Z0-9_.-]+', '_', name)}.txt"
        log = redacted("\n".join(self.machine.journal()))
        path.write_text(f"{joined(self._scripts)}\n{log}")
        return path


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
