"""A store on a disk without a free byte: store_full_disk.py DIRECTORY grown|short.

DIRECTORY is an empty, small file system of its own. Prints, as JSON, what became of the logins on it. "short" takes
the room in the log away first: the control that shows what it is for.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from stores import SEALER, credential, discard, do, enrol, later, make

from pam_mfa.errors import StoreError
from pam_mfa.store.base import Advance, Attempt, Enrol, FindAccount
from pam_mfa.store.rows import DECOY_UID
from pam_mfa.store.sqlite import SqliteStore

PEOPLE = range(1000, 1200)
ROUNDS = 2000


def user(uid: int) -> str:
    return f"u{uid}"


def fill(directory: Path) -> None:
    """Take every byte that is left."""
    with open(directory / "filling", "wb", buffering=0) as filling:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while filling.write(bytes(size)):
                    pass
            except OSError:
                continue


def login(store: SqliteStore, number: int) -> str:
    """A wrong answer of one user, a right one of the same, one of a stranger."""
    uid = PEOPLE[number % len(PEOPLE)]
    totp, now = credential(f"t{uid}").id, later(number)
    try:
        store.read(FindAccount(uid, user(uid)))
        (wrong,) = do(store, Attempt(uid, "totp", None, now))
        (right,) = do(store, Attempt(uid, "totp", Advance(totp, number + 1), now))
        (stranger,) = do(store, Attempt(DECOY_UID, "totp", None, now))
    except StoreError:
        return "refused"
    return f"{wrong.value} {right.value} {stranger.value}"


def in_a_process(work: Callable[[], object]) -> Any:
    """The result of work done by a process that leaves without closing anything, as service and engine do."""
    result, told = os.pipe()
    child = os.fork()
    if not child:
        os.write(told, json.dumps(work()).encode())
        os._exit(0)
    os.close(told)
    os.waitpid(child, 0)
    with open(result, encoding="ascii") as pipe:
        return json.load(pipe)


def furnish(path: str, *, grown: bool) -> None:
    """Enrol everybody; without the room in the log, if so asked."""
    store = SqliteStore(path, SEALER)
    for uid in PEOPLE:
        codes = credential(f"c{uid}", uid=uid, user=user(uid), factor="recovery")
        enrol(store, credential(f"t{uid}", uid=uid, user=user(uid)), codes)
    if grown:
        store.prepare()
    else:
        discard(store)  # the last connection that is closed takes the log with it


def engine(path: str, start: int, count: int) -> Any:
    """Logins of one other process."""
    return in_a_process(lambda: Counter(login(SqliteStore(path, SEALER), start + number) for number in range(count)))


def service(path: str) -> dict[str, object]:
    """Logins of a process that has the store open all the time, and of others meanwhile."""
    store = SqliteStore(path, SEALER)
    own = Counter(login(store, number) for number in range(ROUNDS))
    others = Counter(engine(path, ROUNDS, ROUNDS))
    for number in range(50):
        others.update(engine(path, 2 * ROUNDS + number, 1))
    large = credential("large", uid=1, user="large", material=bytes(1 << 20))
    try:
        store.apply([(Enrol((large,)),)])
        large_fits = True
    except StoreError:
        large_fits = False
    return {"service": own, "engines beside": others, "large fits": large_fits}


def run(directory: Path, *, grown: bool) -> dict[str, object]:
    path = make(directory / "state")
    in_a_process(lambda: furnish(path, grown=grown))
    fill(directory)
    before = sha256(Path(path).read_bytes()).digest()
    seen: dict[str, Any] = in_a_process(lambda: service(path))
    seen["checkpoints"] = before != sha256(Path(path).read_bytes()).digest()
    alone: Counter[str] = Counter()
    for number in range(50):
        alone.update(engine(path, 3 * ROUNDS + number, 1))
    seen["engines alone"] = alone
    os.unlink(directory / "filling")
    seen["afterwards"] = engine(path, 4 * ROUNDS, 1)
    return seen


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), grown=sys.argv[2] == "grown")))
