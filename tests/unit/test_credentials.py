"""What a user and root may see and change of what is enrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, CODES, FACTORS, SESSION, Clock, World, code_at, recovery, totp, wrong_for
from stores import SEALER, discard, do, enrol, make

from pam_mfa import credentials
from pam_mfa.config import FirstEnrolment, Settings
from pam_mfa.enroll import Caller, Desk
from pam_mfa.errors import RefusedError
from pam_mfa.store.base import Attempt, Burn, FindAccount, Remove
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT

CLOCK = Clock()
PHONE, TABLET = totp("phone", created=5), totp("tablet", secret=b"t" * 20, created=6)
SHEET = recovery(created=7)
RIGHT, WRONG = code_at(PHONE, CLOCK()), wrong_for(PHONE, CLOCK())
BOBS = totp("bobs", BOB, "bob")
CHANGES: dict[str, Mapping[str, Any]] = {
    "rename": {"credential": "phone", "label": "new"},
    "remove": {"credential": "phone"},
    "recovery": {"renew": True},
}
Flow = Callable[[Desk, Mapping[str, Any]], Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    enrol(one, PHONE, TABLET, SHEET)
    enrol(one, BOBS)
    yield one
    discard(one)


def alice(store: SqliteStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


def run(store: SqliteStore, flow: Flow, *answers: str, peer: int = ALICE, **args: Any) -> World:
    settings = Settings(first_enrolment=FirstEnrolment.SELF)
    world = World(store, answers)
    world.run(flow(Desk(Caller(SESSION, peer, ALICE, "alice", "host"), settings, FACTORS, CLOCK), args))
    return world


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    assert caught.value.message.isprintable()
    return caught.value.code


# ------------------------------------------------------------------------------------------- seeing


def test_the_list_is_the_oldest_of_a_factor_first_and_holds_nothing_secret(store: SqliteStore) -> None:
    do(store, Attempt(ALICE, "totp", None, CLOCK()))
    world = run(store, credentials.list_credentials)
    assert world.asked == []
    assert [(r["kind"], r["label"], r["created"], r["used"]) for r in world.records] == [
        ("credential", "phone", 5, None),
        ("credential", "tablet", 6, None),
        ("credential", "recovery codes", 7, None),
    ]
    assert [r["details"] for r in world.records][::2] == [
        {"algorithm": "SHA1", "digits": 6, "period": 30},
        {"left": 10, "of": 10},
    ]
    assert all(c.material not in repr(world.records).encode() for c in alice(store).credentials)
    assert "material" not in repr(world.records)


def test_factors_are_listed_in_the_order_of_the_registry(store: SqliteStore) -> None:
    enrol(
        store, replace(recovery(created=8), id="0" * 32), totp("app", created=9)
    )  # by time and id it would be another
    records = run(store, credentials.list_credentials).records
    assert [record["factor"] for record in records] == ["totp"] * 3 + ["recovery"] * 2


def test_an_unknown_factor_is_listed_without_details(store: SqliteStore) -> None:
    enrol(store, Credential("f1d0" * 8, ALICE, "alice", "piv", "key", b"x", created=1))
    assert run(store, credentials.list_credentials).records[-1]["details"] == {}


def test_an_empty_account_is_an_empty_list(store: SqliteStore) -> None:
    do(store, *(Remove(ALICE, c.id) for c in (PHONE, TABLET, SHEET)))
    assert run(store, credentials.list_credentials).records == []


@pytest.mark.parametrize(
    ("failures", "state", "wait"),
    [(0, "open", 0), (FREE, "open", 0), (FREE + 1, "waiting", 30), (LIMIT, "disabled", 3600)],
)
def test_the_status_says_what_is_enrolled_and_whether_answers_count(
    store: SqliteStore, failures: int, state: str, wait: int
) -> None:
    for number in range(failures):
        last = CLOCK() if number + 1 == failures else Clock(wall=number * 4000, boot=number * 4000, boot_id="old")()
        do(store, Attempt(ALICE, "totp", None, last))
    (record,) = run(store, credentials.status).records
    assert record == {
        "kind": "account",
        "uid": ALICE,
        "name": "alice",
        "factors": {"totp": 2, "recovery": 1},
        "standing": {
            "totp": {"state": state, "wait": wait, "familiar": []},
            "recovery": {"state": "open", "wait": 0, "familiar": []},
        },
    }


def test_the_status_tells_what_others_did_elsewhere(store: SqliteStore) -> None:
    do(store, Attempt(ALICE, "recovery", Burn(SHEET.id, 3), CLOCK(), ""))
    for _ in range(FREE + 1):
        do(store, Attempt(ALICE, "recovery", None, CLOCK(), "192.0.2.7"))
    (record,) = run(store, credentials.status).records
    ready = {"state": "open", "wait": 0}
    assert record["standing"]["recovery"] == {"state": "waiting", "wait": 30, "familiar": [ready]}
    assert record["standing"]["totp"] == {**ready, "familiar": [ready]}


def test_recovery_says_how_many_are_left(store: SqliteStore) -> None:
    do(store, Attempt(ALICE, "recovery", Burn(SHEET.id, 3), CLOCK()))
    assert run(store, credentials.recovery).records == [{"kind": "recovery_left", "left": 9, "of": 10}]
    do(store, Remove(ALICE, SHEET.id))
    assert run(store, credentials.recovery).records == [{"kind": "recovery_left", "left": 0, "of": 10}]


def test_everybody_with_a_credential_is_for_root_alone(store: SqliteStore) -> None:
    assert refused(lambda: run(store, credentials.accounts)) == "not_allowed"
    records = run(store, credentials.accounts, peer=0).records
    assert [(r["uid"], r["name"]) for r in records] == [(ALICE, "alice"), (BOB, "bob")]


# ------------------------------------------------------------------------------------------- changing


@pytest.mark.parametrize("verb", CHANGES)
def test_a_change_costs_a_code(store: SqliteStore, verb: str) -> None:
    """S08; with `first_enrolment = "self"`, which opens an empty account only."""
    flow, before = getattr(credentials, verb), alice(store).credentials
    assert refused(lambda: run(store, flow, *[WRONG] * 3, **CHANGES[verb])) == "refused"
    assert alice(store).credentials == before
    world = run(store, flow, RIGHT, **CHANGES[verb])
    assert world.asked == ["Verification code: "]
    assert alice(store).credentials != before


@pytest.mark.parametrize("verb", CHANGES)
def test_root_proves_nothing(store: SqliteStore, verb: str) -> None:
    assert run(store, getattr(credentials, verb), peer=0, **CHANGES[verb]).asked == []


def test_renaming(store: SqliteStore) -> None:
    world = run(store, credentials.rename, RIGHT, credential="phone", label=" blue phone ")
    assert world.records == [{"kind": "renamed", "id": PHONE.id, "factor": "totp", "label": "blue phone"}]
    assert [c.label for c in alice(store).credentials] == ["blue phone", "tablet", "recovery codes"]


@pytest.mark.parametrize("label", ["", "tablet", "a\nb", "x" * 65, None, 5])
def test_a_bad_name_is_refused_before_anything_is_asked(store: SqliteStore, label: object) -> None:
    assert refused(lambda: run(store, credentials.rename, credential="phone", label=label)) == "invalid"


def test_removing(store: SqliteStore) -> None:
    world = run(store, credentials.remove, RIGHT, credential="tablet")
    assert world.records == [{"kind": "removed", "id": TABLET.id, "factor": "totp", "label": "tablet", "left": 2}]
    assert [c.label for c in alice(store).credentials] == ["phone", "recovery codes"]
    assert store.read(FindAccount(BOB, "bob")).credentials == (BOBS,)


def test_the_credential_that_proves_may_be_the_one_that_goes(store: SqliteStore) -> None:
    run(store, credentials.remove, RIGHT, credential="phone")
    assert refused(lambda: run(store, credentials.remove, *[RIGHT] * 3, credential="tablet")) == "refused"


def test_the_last_one_leaves_an_empty_account(store: SqliteStore) -> None:
    lefts = [run(store, credentials.remove, peer=0, credential=c.id).records[0]["left"] for c in (PHONE, TABLET, SHEET)]
    assert lefts == [2, 1, 0]
    left = alice(store)
    assert left == Account(ALICE, "alice", notices=left.notices)


@pytest.mark.parametrize("verb", ["rename", "remove"])
def test_a_credential_that_went_meanwhile_is_not_found(store: SqliteStore, verb: str) -> None:
    def late(prompt: str) -> str:
        do(store, Remove(ALICE, PHONE.id))
        return code_at(TABLET, CLOCK())

    flow = getattr(credentials, verb)
    assert refused(lambda: run(store, flow, late, **CHANGES[verb])) == "not_found"  # type: ignore[arg-type]


def test_a_new_set_needs_a_credential(store: SqliteStore) -> None:
    do(store, *(Remove(ALICE, c.id) for c in (PHONE, TABLET, SHEET)))
    assert refused(lambda: run(store, credentials.recovery, renew=True)) == "not_found"
    assert refused(lambda: run(store, credentials.recovery, peer=0, renew=True)) == "not_found"


@pytest.mark.parametrize("renew", [1, "true", "yes", [], {"a": 1}, None, False])
def test_only_true_renews(store: SqliteStore, renew: object) -> None:
    assert run(store, credentials.recovery, renew=renew).records[0]["kind"] == "recovery_left"


def test_a_renewed_set_is_shown_once_and_the_old_one_is_gone(store: SqliteStore) -> None:
    world = run(store, credentials.recovery, CODES[0], renew=True)
    assert [r["kind"] for r in world.records] == ["enrolled", "recovery"]
    assert refused(lambda: run(store, credentials.remove, *[CODES[1]] * 3, credential="phone")) == "refused"
    run(store, credentials.remove, world.records[1]["codes"][9], credential="phone")


# ---------------------------------------------------------------------------------------- naming one


def named(store: SqliteStore, wanted: object) -> str:
    return str(run(store, credentials.remove, peer=0, credential=wanted).records[0]["label"])


@pytest.mark.parametrize("wanted", ["tablet", TABLET.id, TABLET.id[:4], TABLET.id[:31]])
def test_a_credential_is_named_by_label_id_or_the_start_of_its_id(store: SqliteStore, wanted: str) -> None:
    assert named(store, wanted) == "tablet"


@pytest.mark.parametrize(
    "wanted", ["", "phon", "Phone", PHONE.id[:3], PHONE.id + "0", PHONE.id.upper() + "x", BOBS.id, "bobs", "*", "\0"]
)
def test_what_fits_none_is_not_found(store: SqliteStore, wanted: str) -> None:
    assert refused(lambda: named(store, wanted)) == "not_found"


@pytest.mark.parametrize("wanted", [None, 1, True, [], {}, ["phone"]])
def test_what_is_no_text_is_invalid(store: SqliteStore, wanted: object) -> None:
    assert refused(lambda: named(store, wanted)) == "invalid"


def test_a_start_that_fits_two_fits_none(store: SqliteStore) -> None:
    enrol(store, Credential("abcd" + "0" * 28, ALICE, "alice", "totp", "one", PHONE.material))
    enrol(store, Credential("abcd" + "1" * 28, ALICE, "alice", "totp", "two", PHONE.material))
    assert refused(lambda: named(store, "abcd")) == "not_found"
    assert named(store, "abcd1") == "two"


def test_a_name_that_is_anothers_id_does_not_hide_it(store: SqliteStore) -> None:
    run(store, credentials.rename, peer=0, credential="phone", label=TABLET.id)
    assert named(store, TABLET.id) == "tablet"


def test_a_name_that_looks_like_the_start_of_an_id_is_a_name(store: SqliteStore) -> None:
    run(store, credentials.rename, peer=0, credential="phone", label=TABLET.id[:6])
    assert named(store, TABLET.id[:6]) == TABLET.id[:6]
    assert [c.label for c in alice(store).credentials] == ["tablet", "recovery codes"]


# ------------------------------------------------------------------------------------------- unlocking


def test_unlocking_is_for_root_alone(store: SqliteStore) -> None:
    do(store, Attempt(ALICE, "totp", None, CLOCK()))
    assert refused(lambda: run(store, credentials.unlock, RIGHT)) == "not_allowed"
    assert alice(store).tallies["totp"].failures == 1
    assert run(store, credentials.unlock, peer=0).records == [{"kind": "unlocked", "tallies": 1, "marks": 0}]
    assert alice(store).tallies["totp"].failures == 0


def test_marks_of_a_clock_that_ran_ahead_come_down_to_now(store: SqliteStore) -> None:
    """F20: and only those; no code is good twice, except one that is yet to come."""
    ahead = totp("ahead", secret=b"a" * 20, mark=CLOCK.wall // 30 + 5_000)
    near = totp("near", secret=b"n" * 20, mark=CLOCK.wall // 30 + 1)
    enrol(store, ahead, near)
    assert run(store, credentials.unlock, peer=0).records == [{"kind": "unlocked", "tallies": 0, "marks": 1}]
    marks = {c.label: c.mark for c in alice(store).credentials}
    assert marks["ahead"] == marks["near"] == CLOCK.wall // 30 + 1
    assert marks["phone"] == 0
