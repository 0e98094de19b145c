"""SSH keys of security keys as credentials: enrolled, taken over, listed, removed; and that they prove nothing here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, World, code_at, ticket, totp
from key_files import POINT, text
from ssh_keys import KINDS, blob, certificate, held, shown
from stores import SEALER, discard, do, enrol as store_them, make

from pam_mfa import credentials, importing
from pam_mfa.config import Settings, parse
from pam_mfa.enroll import MAX_CREDENTIALS, NOTHING_TO_ASK, Caller, Desk, enroll
from pam_mfa.errors import ConfigError, RefusedError
from pam_mfa.factors import methods
from pam_mfa.factors.ssh_key import REFUSALS, Material, fingerprint
from pam_mfa.factors.ssh_public import ECDSA
from pam_mfa.store.base import Enrol, FindAccount
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore

PASSWORD = "correct horse"
PLAIN = blob(ECDSA).replace(text(ECDSA), text(b"ecdsa-sha2-nistp256"))
PHONE = totp()
CLOCK = Clock()
CODE = code_at(PHONE, CLOCK())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def desk(peer: int = ALICE, uid: int = ALICE, user: str = "alice") -> Desk:
    return Desk(Caller(SESSION, peer, uid, user, "host"), Settings(), FACTORS, CLOCK)


def run(store: SqliteStore, *answers: str, of: Desk | None = None, **args: Any) -> World:
    world = World(store, answers, passwords={"alice": PASSWORD})
    world.run(enroll(of or desk(), {"factor": "ssh-key", "key": shown(blob()), **args}))
    return world


def alice(store: SqliteStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


def refused(store: SqliteStore, *answers: str, **more: Any) -> RefusedError:
    before = alice(store)
    with pytest.raises(RefusedError) as caught:
        run(store, *answers, **more)
    assert [c.id for c in alice(store).credentials] == [c.id for c in before.credentials]
    assert caught.value.message.isprintable()
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verify", [False, True])
def test_the_first_one_costs_the_password_and_brings_recovery_codes(
    store: SqliteStore, kind: bytes, verify: bool
) -> None:
    world = run(store, PASSWORD, key=shown(blob(kind)), verify=verify)
    assert world.asked == ["Password of alice: "]
    assert [record["kind"] for record in world.records] == ["enrolled", "enrolled", "recovery"]
    (key,) = alice(store).of("ssh-key")
    assert (key.label, key.id, key.mark, key.used) == ("ssh-key 1", Material(blob(kind)).id, 0, None)
    assert Material.unpack(key.material) == Material(blob(kind), verify)


@pytest.mark.parametrize("word", ["true", 1, "yes", None])
def test_only_true_is_verified(store: SqliteStore, word: object) -> None:
    run(store, PASSWORD, verify=word)
    assert Material.unpack(alice(store).of("ssh-key")[0].material).verified is False


def test_a_further_one_costs_a_proof(store: SqliteStore) -> None:
    store_them(store, PHONE)
    assert run(store, CODE).asked == ["Verification code: "]
    assert refused(store, "000000", "000000", "000000", key=shown(blob(ECDSA))).code == "refused"


def test_the_proof_is_never_an_ssh_key(store: SqliteStore) -> None:
    """Nobody can be asked for one: who has nothing else goes to root."""
    store_them(store, held())
    assert refused(store, key=shown(blob(ECDSA))).message == NOTHING_TO_ASK
    world = run(store, of=desk(peer=0), key=shown(blob(ECDSA)))
    assert world.asked == []
    assert len(alice(store).of("ssh-key")) == 2


def test_who_has_nothing_else_is_asked_for_a_ticket(store: SqliteStore) -> None:
    store_them(store, held(), ticket())
    world = run(store, "T" * 16, key=shown(blob(ECDSA)))
    assert world.asked == ["Verification code: "]
    assert len(alice(store).of("ssh-key")) == 2


@pytest.mark.parametrize("over", [ticket(mark=1), ticket(valid=0)])
def test_who_has_nothing_else_is_not_asked_for_one_that_is_over(store: SqliteStore, over: Credential) -> None:
    store_them(store, held(), over)
    assert refused(store, key=shown(blob(ECDSA))).message == NOTHING_TO_ASK


def test_a_wrong_ticket_is_no_proof(store: SqliteStore) -> None:
    store_them(store, held(), ticket())
    assert refused(store, *["Z" * 16] * 3, key=shown(blob(ECDSA))).code == "refused"


KEYS = {
    "nothing": None, "no text": 7, "an empty text": "", "foreign": "é",
    "half a character": "\ud800", "too long": shown(blob()) + "A" * 3000,
    "a plain key": "ssh-ed25519 AAAA", "no base64": shown(blob()) + "!", "more": shown(blob() + b"x"),
    "a comment": shown(blob()) + " me@host", "two lines": shown(blob()) + "\n", "half of it": shown(blob())[:60],
    "a certificate": shown(certificate()), "a point off its curve": shown(blob(ECDSA, point=POINT[:-1] + b"\0")),
    "a weak point": shown(blob(point=bytes(32))),
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_what_is_no_key_is_not_enrolled(store: SqliteStore, key: object) -> None:
    problem = refused(store, PASSWORD, key=key)
    assert problem.code in ("invalid", "refused")


def test_a_refusal_says_what_is_wrong(store: SqliteStore) -> None:
    assert "ssh-keygen -t ed25519-sk" in refused(store, PASSWORD, key="ssh-rsa AAAA").message
    assert "the key that it is over" in refused(store, PASSWORD, key=shown(certificate())).message


def test_a_key_is_enrolled_once(store: SqliteStore) -> None:
    store_them(store, held(), PHONE)
    assert REFUSALS["known"] in refused(store, CODE).message


@pytest.mark.parametrize("peer", [0, ALICE])
def test_a_key_has_one_owner(store: SqliteStore, peer: int) -> None:
    do(store, Enrol((held(uid=BOB, user="bob"),)))
    problem = refused(store, PASSWORD, of=desk(peer))
    assert REFUSALS["taken"] in problem.message
    assert "bob" not in problem.message
    do(store, Enrol((held(blob(ECDSA)),)))
    assert len(alice(store).credentials) == 1


def test_an_account_holds_twenty(store: SqliteStore) -> None:
    store_them(store, *(held(blob(application=b"%d" % n), f"k{n}") for n in range(MAX_CREDENTIALS)))
    assert "at most 20" in refused(store, of=desk(0)).message


def test_what_is_listed(store: SqliteStore) -> None:
    store_them(store, held(blob(application=b"ssh:work"), verified=True))
    world = World(store)
    world.run(credentials.list_credentials(desk(), {}))
    (record,) = world.records
    assert record["details"] == {
        "algorithm": "ed25519-sk", "fingerprint": fingerprint(blob(application=b"ssh:work")),
        "application": "ssh:work", "verified": True,
    }  # fmt: skip


def test_it_is_renamed_and_removed(store: SqliteStore) -> None:
    store_them(store, held(), PHONE)
    world = World(store, [CODE])
    world.run(credentials.rename(desk(), {"credential": "laptop", "label": "old laptop"}))
    world = World(store)
    world.run(credentials.remove(desk(0), {"credential": "old laptop"}))
    assert world.records[-1]["factor"] == "ssh-key"
    assert alice(store).of("ssh-key") == ()


def test_no_rule_lists_it() -> None:
    with pytest.raises(ConfigError, match="method"):
        parse("[policy]\nmethods = ['totp', 'ssh-key']", methods(FACTORS))


# ---------------------------------------------------------------------------------------------- taken over


def item(data: bytes = b"", verified: object = False) -> dict[str, Any]:
    return {"key": base64.b64encode(data or blob()).decode(), "verified": verified}


def take(store: SqliteStore, *items: dict[str, Any], apply: bool = True, **args: Any) -> list[tuple[str, str]]:
    world = World(store, [json.dumps(items), ""])
    flow = importing.apply_import if apply else importing.check_import
    world.run(flow(desk(0), {"source": "authorized_keys", **args}))
    return [(record["state"], record["label"]) for record in world.records]


def test_lines_become_credentials(store: SqliteStore) -> None:
    items = item(), item(blob(ECDSA), verified=True)
    assert take(store, *items, apply=False) == [("ready", "ssh key 1"), ("ready", "ssh key 2")]
    assert alice(store).credentials == ()
    assert take(store, *items) == [("imported", "ssh key 1"), ("imported", "ssh key 2")]
    found: list[Credential] = sorted(alice(store).of("ssh-key"), key=lambda c: c.label)
    assert [Material.unpack(c.material) for c in found] == [Material(blob()), Material(blob(ECDSA), True)]
    assert [c.id for c in found] == [Material(blob()).id, Material(blob(ECDSA)).id]
    assert take(store, items[0]) == [("present", "ssh key 1")]


def test_what_somebody_enrolled_is_there_already(store: SqliteStore) -> None:
    run(store, PASSWORD)
    assert take(store, item()) == [("present", "ssh-key 1")]


def test_a_line_of_somebody_else(store: SqliteStore) -> None:
    do(store, Enrol((held(uid=BOB, user="bob"),)))
    with pytest.raises(RefusedError, match="bob has one of these keys"):
        take(store, item())
    assert take(store, item(), shared=True) == [("imported", "ssh key 1")]


@pytest.mark.parametrize(
    "bad",
    [
        {}, {"key": "!", "verified": False}, {"key": "", "verified": False}, {"key": 1, "verified": False},
        item(b"x"), item(PLAIN), item(blob() + b"x"), item(blob(point=bytes(32))),
        item(verified=1), item(verified=None),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(store: SqliteStore, bad: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        take(store, item(blob(ECDSA)), bad)
    assert caught.value.code == "invalid"
    assert alice(store).credentials == ()
