"""Smartcards that another program enrolled, taken over: what is checked, and that they prove."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ca import new_key, spki
from cardflows import ISSUING, PIN, PLACE, enrolled
from flows import ALICE, BOB, FACTORS, SESSION, Clock, World, account
from softcard import SoftCard
from stores import SEALER, discard, enrol, make

from pam_mfa import importing
from pam_mfa.config import Settings
from pam_mfa.enroll import Caller, Desk
from pam_mfa.errors import RefusedError
from pam_mfa.factors.base import Ceremony
from pam_mfa.factors.piv import Material, pinned
from pam_mfa.importers.base import Pinned
from pam_mfa.login import prove
from pam_mfa.store.base import FindAccount
from pam_mfa.store.rows import Account
from pam_mfa.store.sqlite import SqliteStore

LEAF = ISSUING.leaf()
SPKI = spki(LEAF.certificate)


@pytest.fixture
def store(tmp_path: Any) -> Any:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    one.prepare(FACTORS)
    yield one
    discard(one)


def item(**changes: Any) -> dict[str, Any]:
    return Pinned("alice", SPKI, "p-256", "CN=alice", "CN=Issuing", "1f", "2030-01-31").item() | changes


def run(store: SqliteStore, *items: dict[str, Any], source: str = "pam_p11", uid: int = ALICE, **args: Any) -> World:
    text = json.dumps(items)
    world = World(store, [*(text[at : at + 512] for at in range(0, len(text), 512)), ""])
    user = {ALICE: "alice", BOB: "bob"}[uid]
    desk = Desk(Caller(SESSION, 0, uid, user, "host"), Settings(), FACTORS, Clock())
    world.run(importing.apply_import(desk, {"source": source, "shared": False} | args))
    return world


def found(store: SqliteStore) -> Account:
    one = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(one, Account)
    return one


@pytest.mark.parametrize("source", ["pam_p11", "pam_pkcs11"])
def test_a_card_becomes_a_credential_that_proves(store: SqliteStore, source: str) -> None:
    world = run(store, item(), source=source)
    assert [(r["state"], r["label"], r["factor"]) for r in world.records] == [
        ("imported", f"{source} card 1", "smartcard")
    ]
    (credential,) = found(store).credentials
    expected = Material(1, pinned(SPKI), 0, "p-256", "CN=alice", "CN=Issuing", "1f", "2030-01-31")
    assert Material.unpack(credential.material) == expected
    assert credential.id == expected.id
    card = SoftCard(LEAF)
    world = World(store, [PIN], device=[card.carries, card.sign])
    proof = world.run(prove(Ceremony(SESSION, ALICE, found(store), Clock(), place=PLACE), ["smartcard"], FACTORS))
    assert proof is not None


def test_one_that_is_there_stays_as_it_is(store: SqliteStore) -> None:
    enrol(store, enrolled(LEAF))
    world = run(store, item())
    assert [(record["state"], record["label"]) for record in world.records] == [("present", "work")]
    assert found(store).credentials == (enrolled(LEAF),)


def test_p05_one_that_somebody_else_has(store: SqliteStore) -> None:
    enrol(store, enrolled(LEAF, uid=BOB, user="bob"))
    with pytest.raises(RefusedError, match="bob has one of these"):
        run(store, item())
    assert found(store) == Account(ALICE, "alice")


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": base64.b64encode(spki(ISSUING.leaf(key=new_key("rsa-1024")).certificate)).decode()},
        {"public_key": base64.b64encode(SPKI + b"\0").decode()},
        {"public_key": ""},
        {"public_key": "!"},
        {"subject": 7},
        {"subject": "\x1b[2J"},
        {"subject": "é"},
        {"subject": "x" * 257},
    ],
)
def test_what_makes_no_sense(store: SqliteStore, changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        run(store, item(**changes))
    assert caught.value.code == "invalid"
    assert found(store) == account() or not found(store).credentials


def test_items_of_another_source(store: SqliteStore) -> None:
    with pytest.raises(RefusedError):
        run(store, item(), source="pam_u2f")
    with pytest.raises(RefusedError):
        run(store, {"rp_id": "x"})
