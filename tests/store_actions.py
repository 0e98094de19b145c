"""Changes of a store by a process of their own, to be traced, killed and starved.

They say "done" of a change that was acknowledged and "refused" of a StoreError; a refused one is tried again.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from stores import ALICE, SEALER, at, credential, do, enrol

from pam_mfa.errors import StoreError
from pam_mfa.store.base import (
    Advance,
    Attempt,
    Burn,
    Enrol,
    FindAccount,
    KeepConfig,
    KeptConfig,
    Operation,
    Remove,
    Store,
    Tried,
    Unlock,
)
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.store.sqlite_setup import create

PHONE = credential("phone", mark=10)
SECOND = credential("second")
CODES = credential("codes", factor="recovery")
FRESH = credential("fresh", factor="recovery")
BOBS = credential("bobs", uid=1001, user="bob")
CAROLS = credential("carols", uid=1002, user="carol")
CAROLS_CODES = credential("carols codes", uid=1002, user="carol", factor="recovery")
PEOPLE = (FindAccount(ALICE, "alice"), FindAccount(1001, "bob"), FindAccount(1002, "carol"))

ACTIONS: dict[str, tuple[Operation, ...]] = {
    "accepted": (Attempt(ALICE, "totp", Advance(PHONE.id, 11), at()),),
    "burnt": (Attempt(ALICE, "recovery", Burn(CODES.id, 3), at()),),
    "wrong": (Attempt(ALICE, "totp", None, at()),),
    "enrolled": (Enrol((CAROLS, CAROLS_CODES)),),
    "rotated": (Enrol((FRESH,), frozenset({"recovery"})),),
    "removed": (Remove(ALICE, SECOND.id),),
    "account removed": (Remove(1001, BOBS.id),),
    "unlocked": (Unlock(ALICE, ((PHONE.id, 5),)),),
    "kept": (KeepConfig("new = 1\n"),),
}
CHECKPOINT = "accepted with a checkpoint"


def people(path: str) -> None:
    """Fill a new store with what the actions change."""
    store = SqliteStore(path, SEALER)
    enrol(store, PHONE, SECOND, CODES)
    enrol(store, BOBS)
    for _ in range(3):
        assert do(store, Attempt(ALICE, "totp", None, at()), KeepConfig("old = 1\n")) == (Tried.WRONG, None)


def state(store: Store) -> tuple[Any, ...]:
    """All that the store knows."""
    return (*map(store.read, PEOPLE), store.read(KeptConfig()))


def act(path: str, action: str) -> str:
    """Do it; "done" or "refused"."""
    store = _stores.setdefault(path, SqliteStore(path, SEALER))
    try:
        if action == "created":
            create(path, SEALER)
        elif action == "prepared":
            store.prepare(["agent"])
        elif action == CHECKPOINT:
            store.read(KeptConfig())
            assert store._db is not None
            store._db.execute("PRAGMA wal_autocheckpoint = 1")
            do(store, *ACTIONS["accepted"])
        else:
            do(store, *ACTIONS[action])
    except StoreError:
        return "refused"
    return "done"


_stores: dict[str, SqliteStore] = {}


def serve() -> None:
    """For each line "path<TAB>action": fork, say the process id, wait for a line, let it go, say how it ended."""
    while line := sys.stdin.readline():
        path, action = line.rstrip("\n").split("\t")
        go, going = os.pipe()
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            os.read(go, 1)
            act_twice(path, action, tell)
        print(child, flush=True)
        sys.stdin.readline()
        os.write(going, b".")
        _, status = os.waitpid(child, 0)
        os.close(tell)
        with open(told, encoding="ascii") as words:
            print(os.waitstatus_to_exitcode(status), *words.read().split(), flush=True)
        os.close(go)
        os.close(going)


def act_twice(path: str, action: str, tell: int) -> None:
    """Act, once more if refused, and leave as the service and the engine do."""
    signal.alarm(60)
    word = act(path, action)
    os.write(tell, f"{word} ".encode())
    if word == "refused":
        os.write(tell, act(path, action).encode())
    os._exit(0)


if __name__ == "__main__":
    serve()
