"""Many answers at the same moment, from many processes (R01, R04, R16)."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from store_racer import CODES, LOGINS, PHONE
from stores import ALICE, DEADLINE, SEALER, ThroughWriter, at, credential, discard, do, enrol, program, start

from pam_mfa.errors import ChangedMeanwhile
from pam_mfa.store.base import Advance, Attempt, Enrol, FindAccount, Remove, Tried, Unlock
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.throttle import FREE

COMPARED = FREE + 1  # the failure that starts the first wait is compared too


@contextmanager
def racers(path: str, count: int, mode: str, kind: str, rounds: int) -> Iterator[Iterator[Counter[str]]]:
    """The results of each round, in which `count` processes answer at once."""
    pipes = [os.pipe(), os.pipe()]
    arguments = [path, mode, kind, str(rounds), *(str(pipe[0]) for pipe in pipes)]
    started = [start(program("store_racer.py", *arguments), pass_fds=[pipe[0] for pipe in pipes]) for _ in range(count)]

    def results() -> Iterator[Counter[str]]:
        for number in range(rounds):
            os.write(pipes[number % 2][1], b"." * count)
            yield Counter(_line(racer) for racer in started)

    yield results()
    for racer in started:
        racer.communicate(timeout=DEADLINE)
        assert racer.returncode == 0
    for fd in (*pipes[0], *pipes[1]):
        os.close(fd)


def _line(racer: subprocess.Popen[str]) -> str:
    assert racer.stdout is not None
    return racer.stdout.readline().strip()


@pytest.fixture
def raced(store_path: str) -> Iterator[SqliteStore]:
    """Alice is enrolled, and the service has the store open."""
    store = SqliteStore(store_path, SEALER)
    enrol(store, PHONE, CODES)
    yield store
    discard(store)


@pytest.mark.parametrize(
    ("count", "mode", "kind", "rounds"),
    [
        (2, "warm", "code", 200),
        (4, "warm", "code", 200),
        (16, "warm", "code", 200),
        (2, "cold", "code", 200),
        (4, "alone", "code", 50),
        (16, "alone", "code", 20),
        (4, "warm", "recovery", 60),
    ],
)
def test_one_code_at_once_is_accepted_exactly_once(
    raced: SqliteStore, count: int, mode: str, kind: str, rounds: int
) -> None:
    if mode == "alone":
        discard(raced)
    with racers(raced._path, count, mode, kind, rounds) as results:
        for number, result in enumerate(results):
            assert result["accepted"] == 1, (number, result)
            assert result["accepted"] + result["replayed"] + result["waiting"] == count, (number, result)


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_guesses_at_once_are_never_compared_more_often_than_the_throttle_allows(raced: SqliteStore, mode: str) -> None:
    with racers(raced._path, 16, mode, "guess", 12) as results:
        for number, result in enumerate(results):
            assert result == {"wrong": COMPARED, "waiting": 16 - COMPARED}, number
            assert do(raced, Unlock(ALICE)) == (1,)


@pytest.mark.parametrize(("mode", "rounds"), [("warm", 100), ("cold", 40), ("alone", 15)])
def test_the_last_login_without_a_credential_is_given_once(raced: SqliteStore, mode: str, rounds: int) -> None:
    if mode == "alone":
        discard(raced)
    with racers(raced._path, 8, mode, "grace", rounds) as results:
        for number, result in enumerate(results):
            assert result == {"left": LOGINS, "none": 8 - LOGINS}, number


def test_guesses_from_connections_of_one_process_are_counted_together(raced: SqliteStore) -> None:
    """As in the service with an engine beside it, but threads: sixteen connections, one barrier."""
    barrier = threading.Barrier(16)
    results: list[Tried] = []

    def guess() -> None:
        store = SqliteStore(raced._path, SEALER)
        store.read(FindAccount(ALICE, "alice"))
        barrier.wait(DEADLINE)
        results.extend(do(store, Attempt(ALICE, "totp", None, at())))
        discard(store)

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert Counter(results) == {Tried.WRONG: COMPARED, Tried.WAITING: 16 - COMPARED}


def test_guesses_through_one_writer_are_counted_together(raced: SqliteStore) -> None:
    through = ThroughWriter(raced._path)
    results = through.apply([(Attempt(ALICE, "totp", None, at()),)] * 16)
    assert Counter(results) == {(Tried.WRONG,): COMPARED, (Tried.WAITING,): 16 - COMPARED}
    through.close()


def test_a_credential_removed_meanwhile_is_accepted_before_or_gone_after(raced: SqliteStore) -> None:
    """R16: it never counts once Remove was acknowledged."""
    for number in range(50):
        doomed = credential(f"doomed{number}", uid=2000, user="dora")
        enrol(raced, doomed)
        removed = threading.Event()
        late: list[bool] = []

        def use(doomed: str = doomed.id, removed: threading.Event = removed, late: list[bool] = late) -> None:
            store = SqliteStore(raced._path, SEALER)
            for step in range(1, 1000):
                was_removed = removed.is_set()
                tried = do(store, Attempt(2000, "totp", Advance(doomed, step), at()))[0]
                late.append(was_removed and tried is Tried.ACCEPTED)
                if tried is Tried.GONE:
                    break
                removed.wait(0.001)  # SQLite serves nobody in turn: whoever asks without a pause may keep others out
            discard(store)

        thread = threading.Thread(target=use)
        thread.start()
        assert do(raced, Remove(2000, doomed.id)) == (True,)
        removed.set()
        thread.join(DEADLINE)
        assert late
        assert not any(late)


def test_of_two_who_enrol_the_same_key_at_once_one_has_it(store_path: str) -> None:
    """K07: from two connections, as the service and an engine have them."""
    barrier = threading.Barrier(2)
    owners: Counter[int] = Counter()

    def enrol_all(uid: int) -> None:
        store = SqliteStore(store_path, SEALER)
        for number in range(50):
            wanted = credential(f"key {number}", uid=uid, user=f"user {uid}")
            barrier.wait(DEADLINE)
            (result,) = store.apply([(Enrol((wanted,), alone=True),)])
            assert result == (None,) or isinstance(result, ChangedMeanwhile)
            owners[number] += result == (None,)
        discard(store)

    threads = [threading.Thread(target=enrol_all, args=[uid]) for uid in (2000, 2001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [owners[number] for number in range(50)] == [1] * 50
