"""A login that is stopped while something is being used up: that is recorded, and nobody gets in by it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import pytest
from flows import ALICE, CODES, FACTORS, Memory, account, recovery
from peers import PHONE, RIGHT, WRONG, Held, Monotonic, Peer, committing, held

from pam_mfa.config import Settings
from pam_mfa.conversation import BreakGlass, Expired, GlassBroken
from pam_mfa.errors import LookupFailed, StoreError
from pam_mfa.outcome import Outcome
from pam_mfa.rules import Match, Rule
from pam_mfa.service.channel import Answered, Done
from pam_mfa.service.main import Service
from pam_mfa.store.base import Attempt, Heard, Lend, Operation
from pam_mfa.store.rows import Notice
from pam_mfa.structure import replace
from pam_mfa.wire import Type

Leave = Callable[[Peer], object]
LEAVING: list[Leave] = [
    lambda one: one.session.receive(b""),
    lambda one: one.send(Type.ABORT),
    lambda one: one.session.stop(Expired()),
    lambda one: one.session.stop(StoreError("x")),
    lambda one: one.send(Type.REPLY, b"out of turn"),
]
ENDS = [Outcome.ABORTED] * 2 + [Outcome.UNAVAILABLE] * 3
leaving = pytest.mark.parametrize("leave", LEAVING)
GLASS = "0" * 32
BROKEN = GlassBroken(1, "deadbeef", "safe")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


class Glazed(Held):
    """A backend with a break-glass code."""

    answer: Answered = BROKEN

    def break_glass(self, want: BreakGlass, done: Done) -> None:
        answer = GlassBroken(1) if want.digest is None else self.answer
        self._answer(done, lambda: answer)


def breaking(answer: Answered = BROKEN, settings: Settings | None = None) -> Peer:
    """The disk is busy with a break-glass code."""
    backend = Glazed(Memory(account(PHONE)))
    backend.answer = answer
    one = Peer(backend=backend, settings=settings).hello()
    backend.hold = True
    return one.reply(GLASS)


def records(one: Peer) -> list[tuple[str, str, str | None, str | None]]:
    return [(record.event, record.reason, record.factor, record.credential) for record in one.link.records]


@pytest.mark.parametrize("settings", [None, Settings()], ids=["no settings", "settings"])
@pytest.mark.parametrize(("leave", "end"), [*zip(LEAVING, ENDS, strict=True)])
def test_a_break_glass_code_that_is_taken_leaves_its_alert(
    leave: Leave, end: Outcome, settings: Settings | None
) -> None:
    one = breaking(settings=settings)
    leave(one)
    one.session.receive(b"")
    assert not one.session.over
    held(one).release()
    assert one.outcome is end
    alert, login = records(one)
    assert alert == ("alert", "break_glass_used", "break-glass", "deadbeef")
    assert (login[0], *login[2:]) == ("login", "break-glass", "deadbeef")
    assert one.kinds.count("TELL") == 0


@leaving
@pytest.mark.parametrize("answer", [GlassBroken(1), LookupFailed("no answer in time")], ids=repr)
def test_a_break_glass_code_that_is_none_leaves_its_attempt(leave: Leave, answer: Answered) -> None:
    one = breaking(answer)
    leave(one)
    held(one).release()
    assert one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)
    assert [record[0] for record in records(one)] == ["attempt", "login"]


def test_who_leaves_while_codes_are_only_looked_for_is_not_waited_for() -> None:
    one = Peer(backend=Glazed(), settings=None)
    held(one).hold = True
    assert one.hello().send(Type.ABORT).outcome is Outcome.ABORTED


@pytest.mark.parametrize(("leave", "end"), [*zip(LEAVING, ENDS, strict=True)])
def test_a_code_that_is_used_up_is_named_by_the_record(leave: Leave, end: Outcome) -> None:
    one = committing()
    leave(one)
    assert not one.session.over
    held(one).release()
    assert one.outcome is end
    assert records(one) == [("login", one.link.records[0].reason, "totp", PHONE.id)]


@leaving
@pytest.mark.parametrize("required", [False, True])
def test_nobody_gets_in_by_it(leave: Leave, required: bool) -> None:
    backend = Held(Memory(account(recovery())))
    one = Peer(backend=backend, settings=Settings(audit_required=required)).hello()
    backend.hold = True
    one.reply(CODES[0])
    leave(one)
    backend.release()
    assert one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)
    assert (one.link.records[0].factor, one.link.required) == ("recovery", [required])


@leaving
def test_nor_without_a_credential(leave: Leave) -> None:
    """A counted login is used up as well."""
    backend = Held(Memory())
    one = Peer(backend=backend, settings=Settings(Rule(logins_left=3)))
    backend.hold = True
    one.hello()
    backend.release()
    leave(one)
    assert not one.session.over
    backend.release()
    assert one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)


def test_a_wrong_code_names_nothing() -> None:
    backend = Held(Memory(account(PHONE)))
    one = Peer(backend=backend).hello()
    backend.hold = True
    one.reply(WRONG).send(Type.ABORT)
    backend.release()
    assert one.outcome is Outcome.ABORTED
    assert records(one) == [("login", "aborted", None, None)]


class Watched(Memory):
    """A store that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(replace(account(PHONE), notices=(Notice(ALICE, "alice", "removed", "it", True, 1),)))
        self.told: list[Operation] = []

    def _do(self, op: Operation) -> object:
        self.told.append(op)
        return super()._do(op)


LENDS = Settings(rules=(Rule(lease=600, match=Match(networks=(ip_network("192.0.2.0/24"),))),))


def lending() -> tuple[Peer, Watched]:
    """A right answer is being counted, of somebody who has news, and would have a lease from it."""
    store = Watched()
    one = Peer(backend=Held(store), settings=LENDS, factors=FACTORS)
    one.hello(rhost="192.0.2.7", authinfo=1).send(Type.AUTHINFO, b"publickey ssh-ed25519 AAAAC3Nz")
    held(one).hold = True
    return one.reply(RIGHT), store


@leaving
def test_who_left_is_lent_nothing_and_hears_later_what_was_changed(leave: Leave) -> None:
    one, store = lending()
    leave(one)
    held(one).release()
    assert one.session.over
    assert not [op for op in store.told if isinstance(op, Lend | Heard)]
    assert one.link.records[-1].credential == PHONE.id


@leaving
def test_a_lease_that_is_on_disk_comes_from_a_proof_that_is_recorded(leave: Leave) -> None:
    one, store = lending()
    held(one).release()
    held(one).release()  # the answer is counted, the news are heard
    assert [type(op) for op in store.told] == [Attempt, Heard]
    leave(one)
    held(one).release()
    assert isinstance(store.told[-1], Lend)
    assert one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)
    assert (one.link.records[-1].factor, one.link.records[-1].credential) == ("totp", PHONE.id)


def test_a_service_that_ends_waits_for_nobody() -> None:
    """Whoever is waited for has no verdict by then, and gets none that lets in."""
    one = breaking()
    links = {0: SimpleNamespace(session=one.session), 1: SimpleNamespace(session=None)}
    Service.end_sessions(cast(Service, SimpleNamespace(_server=SimpleNamespace(links=links))))
    assert one.session.over
    assert one.outcome is Outcome.UNAVAILABLE
