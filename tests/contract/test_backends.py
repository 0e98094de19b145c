"""One login is one login: the same scripts through the service's loop and through the engine's poll, same ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from doors import DEADLINE, DOORS, NONCE, PHONE, Caller, EngineDoor, LoopDoor, code, exempt, furnished, opened, settings
from flows import ALICE, CODES, NOBODY, totp
from stores import SEALER, discard

from pam_mfa.conversation import CheckPassword, LookedUp, LookUp
from pam_mfa.errors import LookupFailed
from pam_mfa.outcome import Outcome
from pam_mfa.rules import Rule, Unenrolled
from pam_mfa.service import system
from pam_mfa.service.devices import Devices, absent
from pam_mfa.service.direct import DirectBackend
from pam_mfa.store.base import Enrol, FindAccount
from pam_mfa.store.rows import Account
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.wire import Type

ACCOUNT = {"uid": ALICE, "name": "alice"}
Door = LoopDoor | EngineDoor


@pytest.fixture
def path(tmp_path: Path) -> str:
    return furnished(tmp_path)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, path: str) -> Iterator[Door]:
    with opened(request.param, path) as one:
        yield one


def wrong() -> str:
    near = {code(steps) for steps in range(-5, 10)}
    return next(one for number in range(100) if (one := f"{number:06d}") not in near)


def records(door: Door, count: int) -> list[dict[str, str]]:
    end = time.monotonic() + DEADLINE
    while len(door.shelf.written) < count and time.monotonic() < end:
        time.sleep(0.002)
    return [dict(fields) for fields in door.shelf.written]


# -------------------------------------------------------------------------------------------------- login


def test_right_once(door: Door) -> None:
    given = code()
    first = door.call().hello("alice", ALICE).answer(given)
    assert first.result == (Outcome.GRANTED, 0, NONCE)
    assert [kind.name for kind, _ in first.seen] == ["ALIVE", "ASK_SECRET", "RESULT"]
    assert door.call().hello("alice", ALICE).answer(given, given, given).result == (Outcome.TRIES_SPENT, 2000, NONCE)
    granted, refused = records(door, 2)
    assert granted["PAM_MFA_OUTCOME"] == "GRANTED"
    assert granted["PAM_MFA_CREDENTIAL"] == PHONE.id
    assert granted["PAM_MFA_ROLE"] == door.ground.role
    assert refused["PAM_MFA_REASON"] == "replayed"


def test_a_recovery_code_tells_what_is_left(door: Door) -> None:
    one = door.call().hello("alice", ALICE).answer(CODES[0].lower())
    assert one.outcome is Outcome.GRANTED
    assert one.told == ["Recovery code used: 9 left."]


SCRIPTS: dict[str, tuple[Callable[[Caller], Caller], Outcome]] = {
    "wrong": (lambda one: one.hello("alice", ALICE).answer(wrong(), "", "x"), Outcome.TRIES_SPENT),
    "third time": (lambda one: one.hello("alice", ALICE).answer(wrong(), "x", code()), Outcome.GRANTED),
    "unknown": (lambda one: one.hello("mallory", None).answer("", code(), ""), Outcome.TRIES_SPENT),
    "unenrolled": (lambda one: one.hello("dave", NOBODY).answer("", code(), ""), Outcome.TRIES_SPENT),
    "another name": (lambda one: one.hello("mallory", ALICE), Outcome.UNAVAILABLE),
    "gives up": (lambda one: one.hello("alice", ALICE).send(Type.ABORT), Outcome.ABORTED),
    "second HELLO": (lambda one: one.hello("alice", ALICE).hello("alice", ALICE), Outcome.UNAVAILABLE),
    "skips": (lambda one: one.hello("alice", ALICE).send(Type.SKIP), Outcome.UNAVAILABLE),
    "REPLY first": (lambda one: one.send(Type.REPLY, b"123456"), Outcome.UNAVAILABLE),
    "long REPLY": (lambda one: one.hello("alice", ALICE).send(Type.REPLY, b"1" * 513), Outcome.UNAVAILABLE),
    "REQUEST": (lambda one: one.send(Type.REQUEST, b'{"verb": "list"}'), Outcome.UNAVAILABLE),
    "AUTHINFO": (lambda one: one.hello("alice", ALICE, authinfo=1).send(Type.AUTHINFO, b"publickey x").answer(code()),
                 Outcome.GRANTED),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_ends_the_same_at_every_door(door: Door, script: str) -> None:
    run, outcome = SCRIPTS[script]
    assert run(door.call()).outcome is outcome


@pytest.mark.parametrize("packet", [b"\x01", b"\x01\x01\xff\xff", b"\0" * 4101, b"x" * 9000, b"\x01\x7f\0\0"])
def test_what_is_no_frame_is_unavailable(door: Door, packet: bytes) -> None:
    one = door.call()
    one.link.send(packet)
    assert one.outcome is Outcome.UNAVAILABLE


def test_who_goes_away_leaves_a_record_and_nothing_else(door: Door) -> None:
    one = door.call().hello("alice", ALICE)
    one.prompt()
    one.link.close()
    (record,) = records(door, 1)
    assert record["PAM_MFA_OUTCOME"] == "ABORTED"


def test_who_says_nothing_is_told_so(door: Door) -> None:
    assert door.call().outcome is Outcome.UNAVAILABLE


def test_exemptions_ask_the_real_user_database(door: Door) -> None:
    settings(door, rules=exempt("root"))
    assert door.call().hello("root", 0).outcome is Outcome.EXEMPT
    assert door.call().hello("daemon", 1).answer("", "", "").outcome is Outcome.TRIES_SPENT
    assert door.call().hello("alice", ALICE).outcome is Outcome.UNAVAILABLE  # there is no alice here: whose groups?
    settings(door, rules=(), policy=Rule(unenrolled=Unenrolled.ALLOW))
    assert door.call().hello("dave", NOBODY).outcome is Outcome.EXEMPT
    assert door.call().hello("mallory", None).answer("", "", "").outcome is Outcome.TRIES_SPENT


def test_a_user_database_that_hangs_is_unavailable(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(system, "LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr(
        system, "look_up", lambda want: free.wait(DEADLINE) and LookedUp("root", frozenset({"root"}), 0)
    )
    settings(door, rules=exempt("root"))
    assert door.call().hello("root", 0).outcome is Outcome.UNAVAILABLE
    free.set()


@pytest.mark.parametrize("problem", [LookupFailed("x"), RuntimeError("x"), SystemExit(0)], ids=repr)
def test_a_user_database_that_fails_is_unavailable(
    door: Door, problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(want: LookUp) -> None:
        raise problem

    monkeypatch.setattr(system, "LOOK_UP_SECONDS", 0.5)
    monkeypatch.setattr(system, "look_up", fails)
    settings(door, rules=exempt("root"))
    assert door.call().hello("root", 0).outcome is Outcome.UNAVAILABLE


def test_the_engine_checks_no_passwords(path: str) -> None:
    answers: list[Any] = []

    def done(answer: Any) -> bool:
        answers.append(answer)
        return True

    with socket.socket() as peer:
        backend = DirectBackend(SqliteStore(path, SEALER), lambda: Devices(absent), peer)
        backend.check_password(CheckPassword("alice", "x"), done)
    assert [type(answer) for answer in answers] == [LookupFailed]


@pytest.mark.parametrize("rule", [Rule(), Rule(unenrolled=Unenrolled.ALLOW)])
def test_a_store_that_is_gone_is_unavailable_until_it_is_back(door: Door, path: str, rule: Rule) -> None:
    settings(door, policy=rule)
    away = Path(f"{path}.away")
    for _ in range(2):
        Path(path).rename(away)
        assert door.call().hello("alice", ALICE).outcome is Outcome.UNAVAILABLE
        assert door.call().hello("dave", NOBODY).outcome is Outcome.UNAVAILABLE
        away.rename(path)
        assert door.call().hello("alice", ALICE).answer("x", "", "").outcome is Outcome.TRIES_SPENT


def test_a_store_that_goes_while_its_user_types_refuses(door: Door, path: str) -> None:
    one = door.call().hello("alice", ALICE)
    one.prompt()
    Path(path).rename(f"{path}.away")
    assert one.send(Type.REPLY, code().encode()).outcome is Outcome.UNAVAILABLE


def test_a_record_that_cannot_be_written_refuses_where_it_is_required(door: Door) -> None:
    settings(door, audit_required=True)
    assert door.call().hello("alice", ALICE).answer(code(-1)).outcome is Outcome.GRANTED
    door.shelf.works = False
    assert door.call().hello("alice", ALICE).answer(code()).outcome is Outcome.UNAVAILABLE
    settings(door, audit_required=False)
    assert door.call().hello("alice", ALICE).answer(code(1)).outcome is Outcome.GRANTED


@pytest.mark.parametrize("count", [2, 8, 16])
def test_one_code_in_many_sessions_at_once_is_accepted_once(door: Door, count: int) -> None:
    """R04."""
    given, callers = code(), [door.call().hello("alice", ALICE) for _ in range(count)]
    for one in callers:
        one.prompt()
    for one in callers:
        one.send(Type.REPLY, given.encode())
    for one in callers:
        kind, _ = one.next()
        if kind is not Type.RESULT:
            one.send(Type.ABORT)
    assert [one.outcome for one in callers].count(Outcome.GRANTED) == 1


def test_many_guesses_at_once_get_no_more_tries(door: Door, path: str) -> None:
    """R01: five are free whoever gives them, the sixth starts the wait."""
    callers = [door.call().hello("alice", ALICE) for _ in range(16)]
    for one in callers:
        one.answer(wrong())
    for one in callers:
        one.prompt()  # its first answer is counted
    for one in callers:
        one.send(Type.REPLY, code().encode())
    assert all(one.answer("x").outcome is Outcome.TRIES_SPENT for one in callers)
    store = SqliteStore(path, SEALER)
    account = store.read(FindAccount(ALICE, "alice"))
    discard(store)
    assert isinstance(account, Account)
    assert account.tallies["totp"].failures == 6


# --------------------------------------------------------------------------------------------- management


def test_a_credentials_whole_life(door: Door) -> None:
    one = door.call("manage").request("enroll", ACCOUNT, factor="totp", label="tablet")
    one.prompt()
    uri = one.parts[0]["uri"]
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP)
    one.send(Type.REPLY, app.now().encode())
    assert one.done == {"ok": True}
    assert [part["kind"] for part in one.parts] == ["totp", "enrolled"]

    def labels() -> list[str]:
        listing = door.call("manage").request("list", ACCOUNT)
        assert listing.done == {"ok": True}
        return [part["label"] for part in listing.parts]

    assert labels() == ["phone", "tablet", "recovery codes"]
    assert door.call("manage").request("rename", ACCOUNT, credential="tablet", label="slate").done == {"ok": True}
    assert labels() == ["phone", "slate", "recovery codes"]
    assert door.call("manage").request("remove", ACCOUNT, credential="slate").done == {"ok": True}
    assert labels() == ["phone", "recovery codes"]
    fresh = door.call("manage").request("recovery", ACCOUNT, renew=True)
    assert fresh.done == {"ok": True}
    assert door.call().hello("alice", ALICE).answer(CODES[0], "", "").outcome is Outcome.TRIES_SPENT
    assert door.call("manage").request("unlock", ACCOUNT).done == {"ok": True}
    assert door.call().hello("alice", ALICE).answer(fresh.parts[-1]["codes"][0]).outcome is Outcome.GRANTED


REQUESTS: dict[str, tuple[Callable[[Caller], Caller], str]] = {
    "no request": (lambda one: one.send(Type.REQUEST, b"{}"), "invalid"),
    "no verb": (lambda one: one.request("explode"), "invalid"),
    "HELLO": (lambda one: one.hello("alice", ALICE), "invalid"),
    "no account": (lambda one: one.request("list", {"uid": -1, "name": "x"}), "invalid"),
    "no credential": (lambda one: one.request("remove", ACCOUNT, credential="x"), "not_found"),
    "gives up": (lambda one: one.request("enroll", ACCOUNT, factor="totp").send(Type.ABORT), "aborted"),
    "wrong code": (lambda one: one.request("enroll", ACCOUNT, factor="totp").answer("", "", ""), "refused"),
    "another name": (lambda one: one.request("list", {"uid": ALICE, "name": "mallory"}), "unavailable"),
}


@pytest.mark.parametrize("script", REQUESTS)
def test_a_request_ends_the_same_at_every_door(door: Door, script: str) -> None:
    run, error = REQUESTS[script]
    done = run(door.call("manage")).done
    assert (done["ok"], done["error"]) == (False, error)


@pytest.mark.parametrize("count", [50, 3000])
def test_all_accounts_are_listed_whoever_is_slow(door: Door, path: str, count: int) -> None:
    """More than a socket holds; the reader begins when the session cannot go on."""
    store = SqliteStore(path, SEALER)
    people = [totp(f"p{n:05}", 10_000 + n, f"user{n}") for n in range(count)]
    assert not [end for end in store.apply([(Enrol((one,)),) for one in people]) if isinstance(end, Exception)]
    discard(store)
    one = door.call("manage").request("accounts")
    assert door.call("manage").request("list", ACCOUNT).done == {"ok": True}
    assert one.done == {"ok": True}
    assert [part["uid"] for part in one.parts] == [ALICE, *(10_000 + n for n in range(count))]


def test_who_stops_reading_a_long_list_holds_up_nobody(door: Door, path: str) -> None:
    store = SqliteStore(path, SEALER)
    store.apply([(Enrol((totp(f"p{n:05}", 10_000 + n, f"user{n}"),)),) for n in range(1000)])
    discard(store)
    stopped = [door.call("manage").request("accounts") for _ in range(3)]
    assert door.call().hello("alice", ALICE).answer(code()).outcome is Outcome.GRANTED
    for one in stopped:
        one.link.close()
