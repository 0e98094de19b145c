"""One request on the manage socket: who may ask for whom, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, recovery
from peers import (
    PASSWORD,
    PHONE,
    RIGHT,
    ROOT_FOR_ALICE,
    U2F_KEY,
    WRONG,
    Held,
    Monotonic,
    Peer,
    app,
    held,
    manager,
    managing,
)
from stores import SEALER, discard, enrol, make

from pam_mfa import wire
from pam_mfa.config import FirstEnrolment, Settings
from pam_mfa.conversation import DeviceReply
from pam_mfa.devices.base import Idle
from pam_mfa.errors import AbortedError, ConfigError, LookupFailed, ProtocolError, RefusedError, StoreMissing
from pam_mfa.outcome import Outcome
from pam_mfa.rules import LocalKey, Match, Rule
from pam_mfa.service.manage import RECORDED, VERBS, answer_of
from pam_mfa.store.base import ListAccounts
from pam_mfa.store.sqlite import SqliteStore


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


def nothing_plugged_in(one: Peer) -> None:
    """The device service's answer to what this peer wants to know."""
    ((_, done),) = held(one).waits
    done(DeviceReply(Idle(0)))


# ------------------------------------------------------------------------------------------- every verb

ARGS: dict[str, Mapping[str, Any]] = {
    "enroll": {"factor": "totp"},
    "list": {},
    "rename": {"credential": "phone", "label": "new"},
    "remove": {"credential": "phone"},
    "recovery": {"renew": True},
    "unlock": {},
    "status": {},
    "accounts": {},
    "devices": {},
    "check_import": {"source": "pam_u2f"},
    "import": {"source": "pam_u2f"},
    "explain": {"service": "sudo"},
    "leases": {},
    "end_leases": {},
    "issue": {"valid": 3600, "reason": "a lost phone"},
    "reset": {"reason": "a lost phone"},
}
KINDS: dict[str, list[str]] = {
    "explain": ["rule", "explained"],
    "enroll": ["totp", "enrolled"],
    "list": ["credential", "credential"],
    "rename": ["renamed"],
    "remove": ["removed"],
    "recovery": ["enrolled", "recovery"],
    "unlock": ["unlocked"],
    "status": ["service", "account"],
    "accounts": ["account"],
    "devices": [],
    "check_import": ["key"],
    "import": ["key"],
    "leases": [],
    "end_leases": ["leases_ended"],
    "issue": ["issued"],
    "reset": ["reset"],
}


def test_every_verb_is_tested_here() -> None:
    assert set(ARGS) == set(VERBS) == set(KINDS)
    assert set(VERBS) >= RECORDED


@pytest.mark.parametrize("verb", VERBS)
def test_root_manages_any_account(enrolled: SqliteStore, verb: str) -> None:
    one = managing(enrolled, 0).request(verb, ROOT_FOR_ALICE, **ARGS[verb])
    if verb == "enroll":
        one.reply(app(one))
    if verb == "devices":
        nothing_plugged_in(one)
    if verb in ("check_import", "import"):
        one.reply(U2F_KEY, "")
    assert one.done == {"ok": True}
    assert [part["kind"] for part in one.parts] == KINDS[verb]
    assert one.kinds[0] == "ALIVE"
    changed = [part["id"] for part in one.parts if "id" in part] if verb in RECORDED else []
    assert [record.credential for record in one.link.records] == changed + [None] * (verb in RECORDED)


@pytest.mark.parametrize("verb", VERBS)
def test_a_user_manages_its_own(enrolled: SqliteStore, verb: str) -> None:
    settings = Settings(rules=(Rule(local_key=LocalKey.ALWAYS, match=Match(("pam-mfa",))),))
    one = managing(enrolled, settings=settings if verb == "devices" else Settings()).request(verb, **ARGS[verb])
    if verb in ("enroll", "rename", "remove", "recovery"):
        assert one.texts == ["Verification code: "]
        one.reply(RIGHT)
    if verb == "enroll":
        one.reply(app(one))
    if verb == "devices":
        nothing_plugged_in(one)
    if verb in ("unlock", "accounts", "check_import", "import", "issue", "reset"):
        assert one.done["error"] == "not_allowed"
    else:
        assert one.done == {"ok": True}
        assert [part["kind"] for part in one.parts] == [kind for kind in KINDS[verb] if kind != "service"]


@pytest.mark.parametrize("verb", ["enroll", "rename", "remove", "recovery"])
def test_a_change_costs_a_code_even_where_the_first_credential_is_free(enrolled: SqliteStore, verb: str) -> None:
    """S08."""
    one = managing(enrolled, settings=Settings(first_enrolment=FirstEnrolment.SELF)).request(verb, **ARGS[verb])
    one.reply(WRONG, PASSWORD, "")
    assert one.done["error"] == "refused"
    assert one.link.records[0].outcome is Outcome.DENIED


def test_a_first_enrolment_from_password_to_recovery_codes(store: SqliteStore) -> None:
    one = managing(store).request("enroll", **ARGS["enroll"])
    assert one.texts == ["Password of alice: "]
    one.reply("wrong", PASSWORD)
    one.reply(app(one))
    assert one.done == {"ok": True}
    assert [part["kind"] for part in one.parts] == ["totp", "enrolled", "enrolled", "recovery"]
    assert one.kinds[-1] == "DONE"


def test_a_password_is_passed_on_byte_by_byte(store: SqliteStore) -> None:
    one = manager(ALICE, Held(store, passwords={"alice": "caf\udce9"})).request("enroll", factor="totp")
    assert one.reply(b"caf\xe9").kinds[-2:] == ["PART", "ASK"]


# ------------------------------------------------------------------------------------------ whose account


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("account", [{"uid": BOB, "name": "bob"}, {"uid": 0, "name": "root"}, ROOT_FOR_ALICE, {"x": 1}])
def test_a_user_names_no_account_not_even_its_own(enrolled: SqliteStore, verb: str, account: Mapping[str, Any]) -> None:
    """L10."""
    one = managing(enrolled).request(verb, account, **ARGS[verb])
    assert one.done["error"] == "not_allowed"
    assert one.parts == []


@pytest.mark.parametrize(
    "account",
    [
        {"uid": -1, "name": "alice"},
        {"uid": 2**32 - 1, "name": "alice"},
        {"uid": 2**32, "name": "alice"},
        {"uid": 10**400, "name": "alice"},
        {"uid": "1000", "name": "alice"},
        {"uid": True, "name": "alice"},
        {"uid": None, "name": "alice"},
        {"uid": [1000], "name": "alice"},
        {"uid": ALICE},
        {"name": "alice"},
        {"uid": ALICE, "name": ""},
        {"uid": ALICE, "name": None},
        {"uid": ALICE, "name": ["alice"]},
        {"uid": ALICE, "name": "a" * 257},
        {"uid": ALICE, "name": "\ud800"},
        {"uid": ALICE, "name": "a\nb"},
        {"uid": ALICE, "name": "a\0b"},
    ],
    ids=lambda account: ascii(account)[:40],
)
def test_an_account_that_cannot_be_is_invalid(enrolled: SqliteStore, account: Mapping[str, Any]) -> None:
    one = managing(enrolled, 0).request("enroll", account, factor="recovery")
    assert one.done["error"] == "invalid"


@pytest.mark.parametrize("account", [[], "", 0, False, [1], "alice", 1000, 1.5])
def test_an_account_that_is_no_object_is_no_request(enrolled: SqliteStore, account: Any) -> None:
    """Root without an account manages itself; nothing else may mean that."""
    one = managing(enrolled, 0).request("recovery", account, renew=True)
    assert one.done["error"] == "invalid"
    assert one.kinds == ["DONE"]


@pytest.mark.parametrize("account", [None, {}])
def test_root_without_an_account_manages_itself(store: SqliteStore, account: Any) -> None:
    one = managing(store, 0).request("enroll", account, factor="recovery")
    assert one.done == {"ok": True}
    assert store.read(ListAccounts()) == ((0, "root"),)


def test_a_uid_without_a_name_manages_nothing(store: SqliteStore) -> None:
    one = manager(4242, Held(store)).request("list")
    assert one.done["error"] == "not_found"


def test_a_uid_that_is_stored_under_another_name_manages_nothing(enrolled: SqliteStore) -> None:
    one = manager(ALICE, Held(enrolled, names={ALICE: "mallory"})).request("list")
    assert one.done["error"] == "unavailable"


# -------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (RefusedError("not_found", "x"), "not_found"),
        (AbortedError("x"), "aborted"),
        (ProtocolError("x"), "invalid"),
        (StoreMissing("/secret/path"), "unavailable"),
        (ConfigError(["x"]), "unavailable"),
        (LookupFailed("x"), "unavailable"),
        (RuntimeError("secret"), "unavailable"),
        (SystemExit(0), "unavailable"),
        (KeyboardInterrupt(), "unavailable"),
        (True, "unavailable"),
        ("ok", "unavailable"),
    ],
    ids=repr,
)
def test_only_none_is_a_good_end(end: object, error: str) -> None:
    answer = answer_of(end)
    assert answer["ok"] is False
    assert answer["error"] == error
    assert answer["message"].isprintable()
    assert "secret" not in answer["message"]
    assert answer_of(None) == {"ok": True}


def test_parts_are_small_whatever_a_user_may_choose(store: SqliteStore) -> None:
    name = "\U0001f511" * 64
    one = manager(0, Held(store), settings=Settings(issuer="é" * 64))
    account = {"uid": ALICE, "name": "ü" * 128}
    one.request("enroll", account, factor="totp", label=name, algorithm="SHA512")
    one.reply(app(one))
    assert one.done == {"ok": True}
    assert manager(0, Held(store)).request("list", account).done == {"ok": True}
    assert all(len(payload) < wire.MAX_PAYLOAD for _, payload in one.link.frames)


def test_health_goes_to_root_alone_and_first(enrolled: SqliteStore) -> None:
    one = managing(enrolled, 0, settings=None).request("status", ROOT_FOR_ALICE)
    assert one.parts == [{"kind": "service", "version": "1"}]
    assert one.done["error"] == "unavailable"
    assert managing(enrolled, settings=None).request("status").parts == []


def test_a_list_that_is_longer_than_the_socket_waits_for_its_reader(enrolled: SqliteStore) -> None:
    one = managing(enrolled, 0)
    one.request("list", ROOT_FOR_ALICE)
    whole = one.parts
    one = managing(enrolled, 0)
    sent = one.link.send

    def full_after_each(frame: bytes) -> None:
        sent(frame)
        one.link.deaf = True

    one.link.send = full_after_each  # type: ignore[method-assign]
    one.request("list", ROOT_FOR_ALICE)
    for _ in range(len(whole)):
        assert one.link.room is not None
        assert not one.session.over
        one.link.deaf = False
        one.link.room()
    one.link.deaf = False
    assert one.link.room is not None
    one.link.room()
    assert one.parts == whole
    assert one.done == {"ok": True}


@pytest.mark.parametrize("end", ["gone", "late", "broken"])
def test_a_reader_that_never_reads_is_not_waited_for_for_ever(
    enrolled: SqliteStore, end: str, clock: Monotonic
) -> None:
    one = managing(enrolled, 0)
    held = one.link.backend
    assert isinstance(held, Held)
    held.hold = True
    one.request("list", ROOT_FOR_ALICE)
    one.link.deaf = True
    held.release()
    assert one.link.room is not None
    clock.sleep(60, one.session)
    assert not one.session.over
    if end == "gone":
        one.session.receive(b"")
    elif end == "late":
        clock.sleep(600, one.session)
    else:
        one.link.gone = True
        one.link.room()
    assert one.session.over
    assert one.link.closed == 1
    one.link.room()
    assert one.link.closed == 1
