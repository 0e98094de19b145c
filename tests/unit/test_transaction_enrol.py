"""A PAM transaction that enrols: its records, and who hangs up in the middle of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flows import ALICE, Memory
from newcomers import from_app
from peers import Held, Monotonic, Peer, held

from pam_mfa.config import Settings
from pam_mfa.conversation import Expired, Show, Steps
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import Rule
from pam_mfa.service import transaction
from pam_mfa.wire import Type

ENROLS = Settings(Rule(enrol_at_login=True))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


def newcomer() -> Peer:
    """The secret is shown."""
    one = Peer(backend=Held(Memory()), settings=ENROLS).hello()
    assert one.kinds == ["ALIVE", "TELL", "ASK"]
    return one


def enrolled(one: Peer) -> list[str]:
    store = held(one).store
    assert isinstance(store, Memory)
    return [each.factor for account in store.accounts.values() for each in account.credentials]


def test_what_is_enrolled_is_recorded_before_the_login() -> None:
    one = newcomer()
    one.reply(from_app(one.texts[-1]))
    assert one.kinds[3:] == ["ASK"]
    assert one.reply("").outcome is Outcome.GRANTED
    records = [(r.event, r.outcome, r.reason, r.factor, r.uid) for r in one.link.records]
    assert records == [
        ("enroll", None, "enrolled", "totp", ALICE),
        ("enroll", None, "enrolled", "recovery", ALICE),
        ("login", Outcome.GRANTED, "proven_enrolled", "totp", ALICE),
    ]


@pytest.mark.parametrize(
    "leave",
    [
        lambda one: one.session.receive(b""),
        lambda one: one.send(Type.ABORT),
        lambda one: one.session.stop(Expired()),
    ],
)
def test_who_leaves_while_it_is_written_is_enrolled_and_that_is_recorded(leave: Callable[[Peer], object]) -> None:
    one = newcomer()
    held(one).hold = True
    one.reply(from_app(one.texts[-1]))
    leave(one)
    assert not one.session.over
    held(one).release()
    assert enrolled(one) == ["totp", "recovery"]
    assert [record.reason for record in one.link.records[:-1]] == ["enrolled", "enrolled"]
    assert one.outcome in (Outcome.ABORTED, Outcome.UNAVAILABLE)
    assert [record.event for record in one.link.records] == ["enroll", "enroll", "login"]


def test_who_leaves_before_it_is_written_is_not() -> None:
    one = newcomer().send(Type.ABORT)
    assert one.outcome is Outcome.ABORTED
    assert enrolled(one) == []


@pytest.mark.parametrize("record", [{"kind": "totp", "secret": "x"}, {"kind": "recovery"}, {}])
def test_nothing_else_is_shown_in_a_login(record: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def shows(*arguments: object) -> Steps[Verdict]:
        yield Show(record)
        return Verdict(Outcome.EXEMPT, "no")

    monkeypatch.setattr(transaction, "login", shows)
    assert Peer(settings=ENROLS).hello().outcome is Outcome.UNAVAILABLE
