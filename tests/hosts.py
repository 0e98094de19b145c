"""PAM hosts for tests: a program in a private machine that logs people in, and what it was told."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from machine import DEADLINE, PROJECT, PYTHON, Machine, wait_for
from people import Person, configure

PROGRAM = str(PROJECT / "tests/pam/host.py")
# pam_debug stands behind the module in service `mfa` and makes IGNORE visible.
SEEN = {"CRED_EXPIRED": "IGNORE"}
PAM_DEBUG = ("auth=cred_expired",)
_RECORD = re.compile(r'(\w+)=("([^"]*)"|\S+)')


@dataclass
class Login:
    """One PAM transaction as its host saw it.

    Args:
        codes: PAM's code for each call, IGNORE where the module said so.
        prompts, shown: what was asked, what was told.
        delays: microseconds that were asked for after a failure.
        took: seconds from its begin to its end.
    """

    codes: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    took: float = 0.0

    @property
    def code(self) -> str:
        """The one code."""
        (code,) = self.codes
        return code


class Host:
    """A host program; a context manager, or close() it. One transaction at a time.

    Args:
        machine: where it runs.
        user: as whom, default root.
        env: added to a bare environment.
        before: words of a shell that run first, e.g. "umask 000".
        closed: standard descriptors it does not have.
        program: run in place of tests/pam/host.py, which it must behave like.
    """

    def __init__(
        self,
        machine: Machine,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
        closed: Sequence[int] = (),
        program: Sequence[str] = (PYTHON, "-I", "-S", "-B", PROGRAM),
    ) -> None:
        # The conversation with the test has descriptors that no login would get.
        script = f'{before}\nexec "$@" 30<&0 31>&1 {" ".join(f"{fd}<&-" for fd in closed)}'
        argv = ["/bin/bash", "-c", script, "host", *program]
        # A session of its own: in a container, the leader of the one that the tests run in may be out of sight.
        self._process = machine.popen(
            argv, user, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._rest = b""
        self._login = Login()
        self._began = 0.0
        self.pid: int = self._process.pid
        assert self._line()["kind"] == "ready"

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, in the middle of a transaction too."""
        self.kill()
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(DEADLINE)

    def begin(
        self,
        user: str,
        service: str = "mfa",
        calls: Sequence[str] = ("authenticate",),
        flags: int = 0,
        **items: str,
    ) -> None:
        """Start a transaction; `items` are tty, rhost, ruser."""
        self._login, self._began = Login(), time.monotonic()
        self._tell(user=user, service=service, calls=list(calls), flags=flags, items=items)

    def prompt(self) -> str:
        """Wait for the next question. Raises AssertionError where the login ends instead."""
        line = self._next()
        assert line["kind"] == "prompt", f"no prompt but {line}"
        return str(line["text"])

    def prompt_or_end(self) -> str | Login:
        """Wait for the next question, or for the end."""
        line = self._next()
        return str(line["text"]) if line["kind"] == "prompt" else self._end(line)

    def answer(self, text: str | None) -> None:
        """Answer it; None is Ctrl-C at the prompt."""
        self._tell(answer=text)

    def end(self) -> Login:
        """Wait for the end of the login, which asks no more."""
        return self._end(self._next())

    @property
    def age(self) -> float:
        """Seconds since the transaction began."""
        return time.monotonic() - self._began

    def login(self, user: str, *answers: str | None, **options: Any) -> Login:
        """A whole login; it may ask less than is answered, and Ctrl-C follows the last answer."""
        self.begin(user, **options)
        given = iter(answers)
        while (line := self._next())["kind"] == "prompt":
            self.answer(next(given, None))
        return self._end(line)

    def together(self, user: str, answers: Sequence[Sequence[str]], services: Sequence[str] = ("mfa",)) -> list[str]:
        """Logins at once, one for each list of answers, the services in turn; the code of each, in any order."""
        self._tell(user=user, services=list(services), answers=[list(some) for some in answers])
        return [SEEN.get(code, code) for code in self._line()["codes"]]

    def perish(self, user: str, code: str, after: float) -> str | None:
        """A login in a process that is killed after so many seconds; its PAM code where it was quicker."""
        self._tell(user=user, service="mfa", code=code, after=after)
        (ended,) = self._line()["codes"]
        return ended  # type: ignore[no-any-return]

    def _end(self, line: Mapping[str, Any]) -> Login:
        assert line["kind"] == "end", f"not the end but {line}"
        self._login.codes = [SEEN.get(code, code) for code in line["codes"]]
        self._login.took = self.age
        return self._login

    def _next(self) -> Mapping[str, Any]:
        """The next line that needs something done; what is shown is noted down."""
        while True:
            line = self._line()
            if line["kind"] == "shown":
                self._login.shown += [line["text"]] if line["text"] not in PAM_DEBUG else []
            elif line["kind"] == "delay":
                self._login.delays += [line["microseconds"]] if line["microseconds"] else []
            else:
                if line["kind"] == "prompt":
                    self._login.prompts.append(line["text"])
                return line

    def _tell(self, **words: Any) -> None:
        os.write(self._process.stdin.fileno(), json.dumps(words).encode() + b"\n")  # type: ignore[union-attr]

    def _line(self) -> Mapping[str, Any]:
        fd = self._process.stdout.fileno()  # type: ignore[union-attr]
        until = time.monotonic() + 2 * DEADLINE
        while b"\n" not in self._rest:
            ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the host program says nothing"
            data = os.read(fd, 65536)
            assert data, f"the host program ended with {self._process.wait(DEADLINE)}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return dict(json.loads(line))


class Scene:
    """One machine in which logins are answered by one side: the service, or the engine where there is no service.

    Args:
        machine: with people in it.
        side: "service" or "engine".
        people: this machine's, by name.
    """

    def __init__(self, machine: Machine, side: str, people: Mapping[str, Person]) -> None:
        self.machine = machine
        self.side = side
        self.people = people
        self.alice = people["alice"]
        self._up = False
        self._host: Host | None = None

    def configure(self, text: str, delay: float = 0.0) -> None:
        """Settings for this machine, before anybody logs in."""
        assert not self._up, "the service has read its settings already"
        configure(self.machine, text, delay)

    def up(self) -> Machine:
        """The machine, with its service running where this is the service's side."""
        if not self._up and self.side == "service":
            self.machine.service.start()
        self._up = True
        return self.machine

    @property
    def host(self) -> Host:
        """A host program of root's, the same for the whole test."""
        if self._host is None:
            self._host = Host(self.up())
        return self._host

    def login(self, user: str, *answers: str | None, **options: Any) -> Login:
        """One login by that host; it was answered by the side that the test is about."""
        before = len(records(self.up()))
        login = self.host.login(user, *answers, **options)
        self.expect_record(before)
        return login

    def expect_record(self, before: int) -> dict[str, str]:
        """The audit record that came after so many others."""
        wait_for("an audit record", lambda: len(records(self.machine)) > before)
        record = records(self.machine)[before]
        assert record["role"] == self.side
        return record

    @property
    def reason(self) -> str:
        """Why the last login ended as it did, by its audit record."""
        return records(self.machine)[-1]["reason"]

    def close(self) -> None:
        """End the host program."""
        if self._host is not None:
            self._host.close()


def records(machine: Machine, event: str = "login") -> list[dict[str, str]]:
    """The audit records of an event so far, field by field; the outcome is field `outcome`."""
    found = []
    for line in machine.journal():
        _, _, message = line.partition(": ")
        if line.startswith("<") and "pam-mfa[" in line and message.startswith(f"{event} "):
            fields = {name: quoted or plain for name, plain, quoted in _RECORD.findall(message)}
            found.append({"outcome": message.split(" ")[1]} | fields)
    return found
