"""One of several processes that give answers at the same moment: store_racer.py PATH MODE KIND ROUNDS GO GO.

MODE is "warm" (one connection, the service), "cold" (a process and a connection for each answer, the engine beside
the service) or "alone" (the same where there is no service).
Each round begins with a byte from one of the two pipes GO in turn; the racers share them.
"""

from __future__ import annotations

import os
import sys

from stores import ALICE, SEALER, credential, do, later

from pam_mfa.errors import StoreError
from pam_mfa.store.base import Advance, Attempt, Burn, FindAccount, Grace, Use
from pam_mfa.store.sqlite import SqliteStore

PHONE = credential("phone")
CODES = credential("codes", factor="recovery")
HOUR = 3600
LOGINS = 3


def answer(store: SqliteStore, kind: str, number: int) -> str:
    """What becomes of this round's answer; every round is an hour later than the one before."""
    uses: dict[str, tuple[str, Use | None]] = {
        "code": ("totp", Advance(PHONE.id, number + 1)),
        "recovery": ("recovery", Burn(CODES.id, number)),
        "guess": ("totp", None),
    }
    factor, use = uses.get(kind, ("", None))
    try:
        if kind == "grace":  # a number of logins a round
            (left,) = do(store, Grace(ALICE, LOGINS * (number + 1)))
            return "none" if left is None else "left"
        store.read(FindAccount(ALICE, "alice"))
        (tried,) = do(store, Attempt(ALICE, factor, use, later(HOUR * number)))
    except StoreError as error:
        return f"{error.reason}:{error}".replace(" ", "_")
    return str(tried.value)


def in_a_process(path: str, kind: str, number: int) -> str:
    """The same from a process that opens the store for this answer alone and leaves without closing it."""
    result, told = os.pipe()
    child = os.fork()
    if not child:
        os.write(told, answer(SqliteStore(path, SEALER), kind, number).encode())
        os._exit(0)
    os.close(told)
    os.waitpid(child, 0)
    with open(result, encoding="utf-8") as pipe:
        return pipe.read() or "died"


def main(path: str, mode: str, kind: str, rounds: str, *go: str) -> None:
    """Say what became of each round, a line each."""
    store = SqliteStore(path, SEALER)
    for number in range(int(rounds)):
        os.read(int(go[number % 2]), 1)
        print(answer(store, kind, number) if mode == "warm" else in_a_process(path, kind, number), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
