"""People with credentials: enrolled the way root does it, with codes that can be given at once.

A time step is accepted once, and never one before it. So whoever enrols proves the step that is just over, and every
TOTP credential has two codes for the rest of its life: of this step and of the next. Nobody waits for a clock.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pyotp
from machine import DEADLINE, Base, Machine

from pam_mfa import wire

PERIOD = 30
BRIEF = 5  # seconds; the module takes no shorter deadline
ENGINE = "/usr/lib/pam-mfa/pam-mfa-engine"
MANAGE = "/run/pam-mfa/manage.sock"
CONFIG = "/etc/pam-mfa/config.toml"
STORE = "/var/lib/pam-mfa/store.db"
NOWHERE_YET = "zeroblob(276)"  # tally.familiar of whoever has proven nothing anywhere
# The control field that the README names, and a stack that shows whether the module said SUCCESS or IGNORE.
CONTROL = "[success=ok ignore=ignore default=die]"
OURS = f"auth {CONTROL} pam_mfa.so\nauth required pam_permit.so\naccount required pam_permit.so\n"
BARE = (
    "auth [success=done ignore=ignore default=die] pam_mfa.so {}\nauth [default=die] pam_debug.so auth=cred_expired\n"
)

Record = Mapping[str, Any]


def step_now() -> int:
    """The time step of this moment."""
    return int(time.time()) // PERIOD


@dataclass
class Token:
    """An authenticator app with one secret."""

    secret: str
    label: str
    used: int = 0

    def at(self, step: int) -> str:
        """The code of one time step; pyotp is the witness, not the code under test."""
        return pyotp.HOTP(self.secret).at(step)

    def fresh(self) -> int | None:
        """A step whose code is right and stays so for half a minute at least; None where both are used up."""
        step = max(self.used + 1, step_now())
        return step if step <= step_now() + 1 else None


@dataclass
class Person:
    """One account and what it has enrolled."""

    user: str
    uid: int
    tokens: list[Token] = field(default_factory=list)
    recovery: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)

    def code(self) -> str:
        """A right code that was never given before. Raises LookupError where all are used up: enrol one more token."""
        for token in self.tokens:
            if (step := token.fresh()) is not None:
                token.used = step
                self.spent.append(token.at(step))
                return self.spent[-1]
        raise LookupError(f"{self.user} has used up both codes of all {len(self.tokens)} tokens")

    def wrong(self) -> str:
        """A code that is not right for any token, now or for some minutes."""
        near = {token.at(step_now() + off) for token in self.tokens for off in range(-4, 20)}
        return next(code for number in range(10**6) if (code := f"{number:06d}") not in near)


class Refused(Exception):
    """A management request that ended in an error; its arguments are the word and the message."""


@contextmanager
def desk(machine: Machine) -> Iterator[socket.socket]:
    """A connection to the service as root, or to an engine where there is no service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(DEADLINE)
        try:
            link.connect(str(machine.path(MANAGE)))
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        else:
            yield link
            return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(DEADLINE)
        number = theirs.fileno()
        script = f'exec "$0" --manage 3<&{number} {number}<&-'
        process = machine.popen(["/bin/bash", "-c", script, ENGINE], pass_fds=(number,))
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()
            process.wait(DEADLINE)


def manage(
    machine: Machine,
    verb: str,
    person: Person | None = None,
    answer: Callable[[list[Record]], str] | None = None,
    **arguments: Any,
) -> list[Record]:
    """One management request as root; `answer` is asked with the records so far. Raises Refused."""
    account = {"uid": person.uid, "name": person.user} if person else None
    request = {"verb": verb, "args": arguments, "account": account}
    records: list[Record] = []
    with desk(machine) as link:
        link.send(wire.encode(wire.Type.REQUEST, json.dumps(request).encode()))
        while True:
            kind, payload = wire.decode(link.recv(wire.RECEIVE_SIZE))
            if kind is wire.Type.PART:
                records.append(json.loads(payload))
            elif kind is wire.Type.DONE:
                end = json.loads(payload)
                if not end["ok"]:
                    raise Refused(end["error"], end["message"])
                return records
            elif kind in (wire.Type.ASK, wire.Type.ASK_SECRET):
                assert answer, f"{verb} asked: {payload.decode()}"
                link.send(wire.encode(wire.Type.REPLY, answer(records).encode()))


def sessions(machine: Machine) -> int:
    """How many sessions the service has, without the one that asks."""
    nobody = Person("nobody-here", 9)  # asking for it leaves no trace anywhere
    return int(manage(machine, "status", nobody)[0]["sessions"]) - 1


def enrol(machine: Machine, person: Person, **options: Any) -> Token:
    """Enrol one more token as root; the person keeps it, and the recovery codes that came with the first one."""
    token = Token("", "")

    def prove(records: list[Record]) -> str:
        token.secret = next(record["secret"] for record in records if record["kind"] == "totp")
        token.used = step_now() - 1
        return token.at(token.used)

    for record in manage(machine, "enroll", person, prove, factor="totp", **options):
        if record["kind"] == "enrolled" and record["factor"] == "totp":
            token.label = record["label"]
        if record["kind"] == "recovery":
            person.recovery = list(record["codes"])
    person.tokens.append(token)
    return token


def account(machine: Machine, user: str) -> Person:
    """An account of the machine, with nothing enrolled."""
    return Person(user, int(machine.run(["/usr/bin/id", "-u", user]).stdout))


def crowd(machine: Machine, count: int) -> list[Person]:
    """Make that many accounts user0, user1 and so on, each with one token. The service should run: it is quicker."""
    people = [Person(f"user{number}", 20000 + number) for number in range(count)]
    lines = "".join(f"{one.user}:x:{one.uid}:{one.uid}::/:/bin/sh\n" for one in people)
    machine.run(["/bin/sh", "-c", "cat >> /etc/passwd"], input=lines)
    for one in people:
        enrol(machine, one)
    return people


class Town:
    """A base of machines whose people have credentials, in this test's own copy; close() it.

    alice has six tokens and bob one, both have recovery codes; carol has nothing. PAM services: `mfa` shows the
    module's own code (hosts.Login.code), `brief` does too within BRIEF seconds, `ours` is the README's line with
    pam_permit behind it.

    Args:
        size: how many accounts more, user0 and so on, with one token each.
    """

    def __init__(self, size: int = 0) -> None:
        self.base = Base()
        self._people: dict[str, Person] = {}
        with Machine(self.base, fill=True) as machine:
            configure(machine)
            machine.write("/etc/pam.d/mfa", BARE.format(""))
            machine.write("/etc/pam.d/ours", OURS)
            machine.write("/etc/pam.d/brief", BARE.format(f"timeout={BRIEF}"))
            machine.service.start()
            for user, tokens in {"alice": 6, "bob": 1, "carol": 0}.items():
                self._people[user] = account(machine, user)
                for _ in range(tokens):
                    enrol(machine, self._people[user])
            self._people |= {one.user: one for one in crowd(machine, size)}
            hear(machine)
            machine.service.stop()

    def close(self) -> None:
        """Forget it."""
        self.base.close()

    def people(self) -> dict[str, Person]:
        """Everybody as on the first day."""
        return deepcopy(self._people)


def configure(machine: Machine, text: str = "", delay: float = 0.0) -> None:
    """Write the settings file, without the delay after a refusal unless told; a running service is not told."""
    machine.write(CONFIG, f"fail_delay = {delay}\n{text}\n[[rule]]\nservices = ['pam-mfa']\nunenrolled = 'allow'\n")


def sql(machine: Machine, statement: str, *values: str) -> str:
    """Do with the store's file what its owner could do by hand; what it selects, as text."""
    code = (
        f"import sqlite3, sys; db = sqlite3.connect({STORE!r}); "
        "print(*db.execute(sys.argv[1], sys.argv[2:]).fetchall(), sep='\\n'); db.commit()"
    )
    return machine.python(code, statement, *values, user="pam-mfa").stdout


def failures(machine: Machine, person: Person, factor: str = "totp") -> int:
    """How many of this account's answers the store has counted as wrong."""
    tally = "SELECT failures - (1 << 62), hex(familiar) FROM tally WHERE uid = ? AND factor = ?"
    others, familiar = ast.literal_eval(sql(machine, tally, str(person.uid), factor))
    return int(others + sum(bytes.fromhex(familiar)[16::69]))


def charge(machine: Machine, person: Person, count: int, factor: str = "totp", familiar: bool = False) -> None:
    """So many failures, the last one so long ago that no wait is left of it.

    Args:
        familiar: let be what the account knows of where it was proven.
    """
    sources = "familiar" if familiar else NOWHERE_YET
    long_ago = f"failures = (1 << 62) + ?, boot_id = printf('%36s', ''), familiar = {sources}"
    sql(machine, f"UPDATE tally SET {long_ago} WHERE uid = ? AND factor = ?", str(count), str(person.uid), factor)


def forgive(machine: Machine) -> None:
    """Forget everybody's failures."""
    sql(machine, f"UPDATE tally SET failures = 1 << 62, familiar = {NOWHERE_YET}")


def hear(machine: Machine) -> None:
    """Everybody has heard of what was enrolled for them. Without a service this empties the store's log."""
    sql(machine, "DELETE FROM notice")


def redact(text: str, people: Mapping[str, Person]) -> str:
    """A transcript without codes and secrets."""
    for person in people.values():
        words = [*person.spent, *person.recovery, *(token.secret for token in person.tokens)]
        for word in sorted(filter(None, words), key=len, reverse=True):
            text = text.replace(word, "<redacted>")
    return text


def secret_bytes(token: Token) -> bytes:
    """The key itself, as it must not lie in any file."""
    return base64.b32decode(token.secret)


def end(process_id: int, number: int) -> None:
    """Send a signal to a process that may have gone."""
    with suppress(ProcessLookupError):
        os.kill(process_id, number)
