"""A PAM host inside a private machine, told what to do by lines of JSON on descriptor 30 (see tests/hosts.py).

Run with /usr/bin/python3 -I -S -B; `together` runs many logins at once, in threads that give their answers in the same
instant: libpam and the module are called without Python's lock.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from itertools import cycle
from typing import Any

sys.path.insert(0, "/usr/lib/pam-mfa/site")

from pam_mfa.pam import Code, PamError, Style, Transaction

CALLS = ("authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok")


# Not the standard descriptors: a test may close those.
ORDERS = open(30, encoding="utf-8")  # noqa: SIM115
REPORT = open(31, "w", encoding="utf-8")  # noqa: SIM115


def say(**words: Any) -> None:
    """One line to the test."""
    print(json.dumps(words), file=REPORT, flush=True)


def converse(style: Style, text: str) -> str | None:
    """Prompts are the test's to answer; texts it only hears."""
    if style in (Style.SECRET, Style.PROMPT):
        say(kind="prompt", style=style.name, text=text)
        return json.loads(ORDERS.readline())["answer"]  # type: ignore[no-any-return]
    say(kind="shown", style=style.name, text=text)
    return None


def transact(order: dict[str, Any]) -> None:
    """One transaction with the calls that were ordered."""

    def delayed(code: Code, microseconds: int) -> None:
        say(kind="delay", code=code.name, microseconds=microseconds)

    try:
        with Transaction(order["service"], order["user"], converse, on_delay=delayed, **order["items"]) as transaction:
            codes = [getattr(transaction, call)(order["flags"]).name for call in order["calls"] if call in CALLS]
            say(kind="end", codes=codes, user=transaction.user)
    except PamError as problem:
        say(kind="end", codes=[problem.code.name], user=None)


class Gate:
    """Opens when everybody is at the prompt or has been turned away before it."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._change = threading.Condition()

    def arrive(self, wait: bool) -> None:
        """One more; with `wait` stay until the last one is there."""
        with self._change:
            self._left -= 1
            self._change.notify_all()
            while wait and self._left > 0:
                self._change.wait()


def attempt(user: str, service: str, answers: list[str], gate: Gate, codes: list[str]) -> None:
    """One of many: the first answer waits at the gate, the conversation ends with the last one."""
    given = iter(answers)
    at_gate = False

    def answer(style: Style, text: str) -> str | None:
        nonlocal at_gate
        if style not in (Style.SECRET, Style.PROMPT):
            return None
        if not at_gate:
            at_gate = True
            gate.arrive(wait=True)
        return next(given, None)

    code = Code.SYSTEM_ERR
    try:
        with Transaction(service, user, answer) as transaction:
            code = transaction.authenticate()
    finally:
        if not at_gate:
            gate.arrive(wait=False)
        codes.append(code.name)


def together(order: dict[str, Any]) -> None:
    """Several logins of one user at once, one for each list of answers."""
    gate, codes = Gate(len(order["answers"])), list[str]()
    threads = [
        threading.Thread(target=attempt, args=(order["user"], service, answers, gate, codes), daemon=True)
        for answers, service in zip(order["answers"], cycle(order["services"]), strict=False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(kind="end", codes=codes, user=order["user"])


def perish(order: dict[str, Any]) -> None:
    """A login in a process of its own, which is killed after a while."""
    child = os.fork()
    if child == 0:
        with Transaction(order["service"], order["user"], lambda style, text: order["code"]) as transaction:
            os._exit(transaction.authenticate())
    with os.fdopen(os.pidfd_open(child)) as ended:
        select.select([ended], [], [], order["after"])
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    say(kind="end", codes=[Code(status).name if status >= 0 else None], user=order["user"])


def main() -> None:
    """Until the end of the orders."""
    say(kind="ready")
    while line := ORDERS.readline():
        order = json.loads(line)
        (together if "answers" in order else perish if "after" in order else transact)(order)


if __name__ == "__main__":
    main()
