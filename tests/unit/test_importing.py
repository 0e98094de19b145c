"""Keys that another program enrolled, taken over: who may, what is checked, and all or nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Response, World, recovery, ticket, totp
from hypothesis import given, settings as hypothesis_settings, strategies as st
from softkey import SoftKey
from stores import SEALER, discard, enrol, make

from pam_mfa import importing
from pam_mfa.config import Settings
from pam_mfa.conversation import Answer, Commit, Read, Want
from pam_mfa.enroll import Caller, Desk, enroll
from pam_mfa.errors import AbortedError, RefusedError, StoreError
from pam_mfa.factors.fido2 import Material
from pam_mfa.importers import publickey
from pam_mfa.store.base import FindAccount, FindOwners
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore

POINT = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
ES256 = publickey.sec1(POINT)
EDDSA = publickey.eddsa(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def key(name: bytes = b"one", **changes: Any) -> dict[str, Any]:
    found = {
        "rp_id": "pam://old", "credential_id": b64(name), "public_key": b64(ES256), "verified": False,
        "discoverable": False, "user_handle": "",
    }  # fmt: skip
    return found | changes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def held(store: SqliteStore, uid: int = ALICE, user: str = "alice") -> tuple[Credential, ...]:
    found = store.read(FindAccount(uid, user))
    assert isinstance(found, Account)
    return found.credentials


def run(
    store: SqliteStore,
    *pieces: str,
    peer: int = 0,
    uid: int = ALICE,
    user: str = "alice",
    apply: bool = True,
    **args: Any,
) -> World:
    """One request; every piece is what the command sends for a question, and then nothing."""
    world = World(store, [*pieces, ""])
    flow = importing.apply_import if apply else importing.check_import
    desk = Desk(Caller(SESSION, peer, uid, user, "host"), Settings(), FACTORS, Clock())
    world.run(flow(desk, {"source": "pam_u2f", "shared": False} | args))
    return world


def refused(store: SqliteStore, *pieces: str, **more: Any) -> RefusedError:
    before = held(store)
    with pytest.raises(RefusedError) as caught:
        run(store, *pieces, **more)
    assert held(store) == before
    assert caught.value.message.isprintable()
    return caught.value


def sheet(*keys: dict[str, Any]) -> str:
    return json.dumps(keys)


def states(world: World) -> list[tuple[str, str]]:
    assert {record["kind"] for record in world.records} <= {"key"}
    return [(record["state"], record["label"]) for record in world.records]


def test_keys_become_credentials(store: SqliteStore) -> None:
    second = key(b"two", public_key=b64(EDDSA), verified=True, discoverable=True, user_handle=b64(b"who"))
    world = run(store, sheet(key(), second))
    assert states(world) == [("imported", "pam_u2f key 1"), ("imported", "pam_u2f key 2")]
    one, two = sorted(held(store), key=lambda c: c.label)
    assert (one.factor, one.user, one.created, one.used, one.mark) == ("fido2", "alice", Clock().wall, None, 0)
    assert Material.unpack(one.material) == Material("pam://old", b"one", ES256)
    assert Material.unpack(two.material) == Material(
        "pam://old", b"two", EDDSA, user_handle=b"who", verified=True, discoverable=True
    )
    assert len(world.operations) == 1


def test_it_comes_in_pieces(store: SqliteStore) -> None:
    text = sheet(*[key(bytes([number]) * 1000) for number in range(1, 5)])
    run(store, *[text[at : at + 512] for at in range(0, len(text), 512)])
    assert len(held(store)) == 4


def test_a_dry_run_changes_nothing(store: SqliteStore) -> None:
    world = run(store, sheet(key()), apply=False)
    assert states(world) == [("ready", "pam_u2f key 1")]
    assert not any(isinstance(want, Commit) for want in world.wants)
    assert held(store) == ()


def test_what_is_there_stays_as_it_is(store: SqliteStore) -> None:
    run(store, sheet(key()))
    before = held(store)
    assert states(run(store, sheet(key()))) == [("present", "pam_u2f key 1")]
    assert held(store) == before
    assert states(run(store, sheet(key(b"two"), key()), apply=False)) == [
        ("ready", "pam_u2f key 2"), ("present", "pam_u2f key 1"),
    ]  # fmt: skip
    run(store, sheet(key(b"two"), key()))
    assert {c.label for c in held(store)} == {"pam_u2f key 1", "pam_u2f key 2"}
    assert before[0] in held(store)


def test_names_that_are_taken_are_passed_over(store: SqliteStore) -> None:
    enrol(store, totp("pam_u2f key 1"), recovery())
    assert states(run(store, sheet(key(), key(b"two")))) == [
        ("imported", "pam_u2f key 2"),
        ("imported", "pam_u2f key 3"),
    ]
    assert states(run(store, sheet(key(b"3")), source="passkey")) == [("imported", "passkey 1")]


@pytest.mark.parametrize("apply", [False, True])
def test_a_key_that_somebody_else_has_is_refused_unless_it_is_to_be_shared(store: SqliteStore, apply: bool) -> None:
    """K07."""
    run(store, sheet(key()), uid=BOB, user="bob")
    problem = refused(store, sheet(key(b"two"), key()), apply=apply)
    assert (problem.code, "bob" in problem.message) == ("refused", True)
    for not_true in (1, "true", None):
        refused(store, sheet(key()), apply=apply, shared=not_true)
    run(store, sheet(key()), shared=True)
    assert len(held(store)) == 1


def test_a_key_that_somebody_else_enrolled_here_is_refused_unless_it_is_to_be_shared(store: SqliteStore) -> None:
    """K07."""
    blue = SoftKey()
    bob = Desk(Caller(SESSION, 0, BOB, "bob", "host"), Settings(), FACTORS, Clock())
    World(store, device=[blue.make, blue.sign]).run(enroll(bob, {"factor": "fido2"}))
    (id_,) = blue.keys
    assert "bob" in refused(store, sheet(key(id_))).message
    run(store, sheet(key(id_)), shared=True)
    assert len(held(store)) == 1


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("peer", [ALICE, BOB, 65534])
def test_root_only_and_before_anything_is_read(store: SqliteStore, peer: int, apply: bool) -> None:
    world = World(store, [])
    flow = importing.apply_import if apply else importing.check_import
    with pytest.raises(RefusedError, match="only root"):
        world.run(flow(Desk(Caller(SESSION, peer, ALICE, "alice", "h"), Settings(), FACTORS, Clock()), {}))
    assert world.wants == []


def test_an_account_holds_twenty_besides_tickets(store: SqliteStore) -> None:
    enrol(store, totp(), recovery(), ticket(mark=1))
    keys = [key(bytes([number])) for number in range(19)]
    assert refused(store, sheet(*keys)).code == "invalid"
    run(store, sheet(*keys[:18]))
    assert len(held(store)) == 20 + 1
    assert refused(store, sheet(key(b"more")), apply=False).code == "invalid"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "[1]",
        '"x"',
        "[" * 100_000,
        sheet(key(), key()),
        sheet(key(rp_id="")),
        sheet(key(rp_id="a\nb")),
        sheet(key(rp_id=None)),
        sheet(key(b"")),
        sheet(key(b"x" * 1024)),
        sheet(key(credential_id="!")),
        sheet(key(credential_id="b25l\n")),
        sheet(key(credential_id=5)),
        sheet(key(public_key="")),
        sheet(key(public_key=b64(ES256[:-1]))),
        sheet(key(public_key=b64(ES256 + b"x"))),
        sheet(key(public_key=b64(ES256[:-1] + bytes([ES256[-1] ^ 1])))),
        sheet(key(public_key=b64(EDDSA[:-32] + bytes(32)))),
        sheet(key(verified=1)),
        sheet(key(discoverable=None)),
        sheet(key(user_handle=b64(b"x" * 65))),
        sheet({}),
    ],
    ids=lambda text: text[:60],
)
@pytest.mark.parametrize("apply", [False, True])
def test_what_makes_no_sense_is_refused(store: SqliteStore, text: str, apply: bool) -> None:
    problem = refused(store, *([text] if text else []), apply=apply)
    assert problem.code == "invalid"


def test_one_bad_key_spoils_all(store: SqliteStore) -> None:
    refused(store, sheet(key(), key(b"two", public_key="")))


def test_an_unknown_source_is_refused_before_anything_is_sent(store: SqliteStore) -> None:
    assert refused(store, source="elsewhere").code == "invalid"


def test_too_much_is_not_read_to_its_end(store: SqliteStore) -> None:
    world = World(store, ["x" * 512] * 1000)
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    with pytest.raises(RefusedError, match="too much"):
        world.run(importing.apply_import(desk, {"source": "passkey"}))
    assert len(world.wants) <= importing.MAX_SHEET // 512 + 1


@pytest.mark.parametrize("problem", [StoreError("full"), AbortedError("gone")])
def test_what_cannot_be_stored_is_not_said_to_be(store: SqliteStore, problem: Exception) -> None:
    world = World(store, [sheet(key()), ""])
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    world.instead = {4: problem}  # two questions, two look-ups, and the commit
    with pytest.raises(type(problem)):
        world.run(importing.apply_import(desk, {"source": "pam_u2f"}))
    assert isinstance(world.wants[4], Commit)
    assert world.records == []


class Raced(World):
    """Somebody else enrols while the owners of the keys are looked for."""

    def _do(self, want: Want) -> Response:
        if isinstance(want, Read) and isinstance(want.query, FindOwners):
            enrol(self.store, totp("sneaked"))
        return super()._do(want)


def test_an_account_that_changed_meanwhile_is_left_alone(store: SqliteStore) -> None:
    world = Raced(store, [sheet(key()), ""])
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    with pytest.raises(RefusedError, match="changed meanwhile"):
        world.run(importing.apply_import(desk, {"source": "pam_u2f"}))
    assert [c.label for c in held(store)] == ["sneaked"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_key_that_somebody_else_enrols_meanwhile(store: SqliteStore, shared: bool) -> None:
    """K07: between the look for its owners and the commit."""

    class Overtaken(World):
        def _do(self, want: Want) -> Response:
            if isinstance(want, Commit):
                run(store, sheet(key()), uid=BOB, user="bob")
            return super()._do(want)

    world = Overtaken(store, [sheet(key()), ""])
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    flow = importing.apply_import(desk, {"source": "pam_u2f", "shared": shared})
    if shared:
        world.run(flow)
    else:
        with pytest.raises(RefusedError, match="changed meanwhile"):
            world.run(flow)
    assert len(held(store)) == int(shared)
    assert len(held(store, BOB, "bob")) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*key()]), inner, max_size=7),
    max_leaves=20,
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(JSON | st.dictionaries(st.sampled_from([*key()]), JSON).map(lambda changes: [{**key(), **changes}]))
def test_whatever_is_sent_becomes_keys_that_are_checked_or_is_refused(value: Any) -> None:
    flow = importing.check_import(
        Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock()), {"source": "passkey"}
    )
    next(flow)
    flow.send(Answer(json.dumps(value)))
    with suppress(RefusedError):
        flow.send(Answer(""))
        assert [item["public_key"] for item in value] == [b64(ES256)]
