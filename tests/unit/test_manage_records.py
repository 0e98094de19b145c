"""What is recorded of requests on the manage socket: what was changed, what was not, and no secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, recovery
from peers import PASSWORD, PHONE, RIGHT, ROOT_FOR_ALICE, U2F_KEY, WRONG, Held, Monotonic, Peer, app, manager, managing
from stores import SEALER, discard, enrol, make

from pam_mfa.outcome import Outcome
from pam_mfa.store.base import FindAccount
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import values
from pam_mfa.wire import Type


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


@pytest.fixture
def enrolled(store: SqliteStore) -> SqliteStore:
    enrol(store, PHONE, recovery())
    return store


def test_the_record_of_a_change(enrolled: SqliteStore, clock: Monotonic) -> None:
    one = managing(enrolled).request("remove", credential="phone")
    clock.sleep(2, one.session)
    one.reply(RIGHT)
    own, record = one.link.records
    assert (own.event, own.outcome, own.reason, own.user) == ("remove", None, "removed", "alice")
    assert (own.factor, own.credential, own.label) == ("totp", one.parts[0]["id"], "phone")
    assert values(record) | {"session": ""} == {
        "event": "remove",
        "outcome": None,
        "reason": "done",
        "role": "manage",
        "service": "",
        "user": "alice",
        "uid": ALICE,
        "session": "",
        "duration_ms": 2000,
        "rhost": "",
        "tty": "",
        "factor": None,
        "credential": None,
        "label": None,
        "subject": None,
        "note": None,
    }


@pytest.mark.parametrize(
    ("uid", "args", "note"),
    [
        (ALICE, {}, "leases ended: 0"),
        (0, {"all": True}, "leases ended: 0, of everybody"),
        (0, {}, "leases ended: 0"),
        (ALICE, {"reason": "why"}, "leases ended: 0; why"),
    ],
)
def test_the_record_of_ended_proofs_says_whose(
    enrolled: SqliteStore, uid: int, args: dict[str, Any], note: str
) -> None:
    (record,) = managing(enrolled, uid).request("end_leases", **args).link.records
    assert (record.event, record.reason, record.note) == ("end_leases", "done", note)


def test_every_imported_key_has_a_record_of_its_own(store: SqliteStore) -> None:
    one = managing(store, 0).request("import", ROOT_FOR_ALICE, source="pam_u2f")
    one.reply(U2F_KEY, "")
    own, whole = one.link.records
    assert (own.event, own.outcome, own.reason, own.user) == ("import", None, "imported", "alice")
    assert (own.factor, own.credential, own.label) == ("fido2", one.parts[0]["id"], "pam_u2f key 1")
    assert (whole.event, whole.reason, whole.credential) == ("import", "done", None)
    again = managing(store, 0).request("import", ROOT_FOR_ALICE, source="pam_u2f").reply(U2F_KEY, "")
    assert [record.reason for record in again.link.records] == ["done"]


END: dict[str, tuple[Callable[[Peer], object], Outcome]] = {
    "refused": (lambda one: one.reply(WRONG, "", ""), Outcome.DENIED),
    "given up": (lambda one: one.send(Type.ABORT), Outcome.ABORTED),
    "gone": (lambda one: one.session.receive(b""), Outcome.ABORTED),
    "out of turn": (lambda one: one.send(Type.HELLO), Outcome.UNAVAILABLE),
}


@pytest.mark.parametrize("case", END)
def test_a_change_that_was_not_made_is_recorded_too(enrolled: SqliteStore, case: str) -> None:
    before = enrolled.read(FindAccount(ALICE, "alice")).credentials
    one = managing(enrolled).request("remove", credential="phone")
    END[case][0](one)
    (record,) = one.link.records
    assert record.outcome is END[case][1]
    assert enrolled.read(FindAccount(ALICE, "alice")).credentials == before


@pytest.mark.parametrize("end", [lambda one: one.session.receive(b""), lambda one: one.send(Type.ABORT)])
def test_nobody_changes_something_and_has_it_recorded_as_given_up(
    enrolled: SqliteStore, end: Callable[[Peer], object]
) -> None:
    """Who hangs up while the change is being written comes too late."""
    backend = Held(enrolled)
    one = manager(ALICE, backend).request("remove", credential="phone")
    backend.hold = True
    one.reply(RIGHT)
    backend.release()  # the answer has been counted
    end(one)
    assert one.link.records == []
    backend.release()
    assert [record.reason for record in one.link.records] == ["removed", "done"]
    assert "phone" not in [c.label for c in enrolled.read(FindAccount(ALICE, "alice")).credentials]


def test_whoever_hangs_up_while_an_answer_is_counted_has_given_up(enrolled: SqliteStore) -> None:
    backend = Held(enrolled)
    one = manager(ALICE, backend).request("remove", credential="phone")
    backend.hold = True
    one.reply(RIGHT).send(Type.ABORT)
    backend.release()
    assert [record.outcome for record in one.link.records] == [Outcome.ABORTED]
    assert "phone" in [c.label for c in enrolled.read(FindAccount(ALICE, "alice")).credentials]


def test_no_secret_is_in_any_record(store: SqliteStore) -> None:
    one = managing(store).request("enroll", factor="totp", label="phone").reply("wrong pass", PASSWORD)
    one.reply(app(one))
    secrets = ["wrong pass", PASSWORD, app(one), one.parts[0]["secret"], *one.parts[-1]["codes"]]
    two = managing(store).request("recovery", renew=True).reply(one.parts[-1]["codes"][0])
    assert two.done == {"ok": True}
    text = repr(one.link.records) + repr(two.link.records)
    assert not [secret for secret in secrets if secret in text]
