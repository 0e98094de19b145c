"""Who may add a credential and what it costs; what is made, shown and stored, in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyotp
import pytest
from flows import ALICE, BOB, CODES, FACTORS, SESSION, Clock, Memory, World, code_at, recovery, ticket, totp, wrong_for
from stores import SEALER, discard, do, enrol, make

from pam_mfa.config import FirstEnrolment, Settings
from pam_mfa.conversation import Checked, Commit
from pam_mfa.enroll import MAX_CREDENTIALS, Caller, Desk, enroll, renew_recovery
from pam_mfa.errors import LookupFailed, RefusedError, StoreError
from pam_mfa.factors.base import Factor
from pam_mfa.factors.recovery import Recovery
from pam_mfa.factors.totp import Parameters
from pam_mfa.store.base import Announce, Enrol, FindAccount, Remove, Unlock
from pam_mfa.store.rows import Account, Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.throttle import FREE

PASSWORD = "correct horse"
PASSWORDS = {"alice": PASSWORD}
PHONE = totp()
CLOCK = Clock()
RIGHT, WRONG = code_at(PHONE, CLOCK()), wrong_for(PHONE, CLOCK())
Typed = str | Callable[[str], str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def desk(
    peer: int = ALICE, settings: Settings | None = None, factors: Mapping[str, Factor] = FACTORS, now: Clock = CLOCK
) -> Desk:
    return Desk(Caller(SESSION, peer, ALICE, "alice", "host.example"), settings or Settings(), factors, now)


def alice(store: SqliteStore) -> Account:
    found = store.read(FindAccount(ALICE, "alice"))
    assert isinstance(found, Account)
    return found


class Session:
    """One request and the one who types; `app` answers with what an authenticator app shows that scanned the code."""

    def __init__(self, store: Any, *answers: Typed, **more: Any) -> None:
        self.world = World(store, answers, passwords=PASSWORDS, **more)

    def app(self, prompt: str) -> str:
        app = pyotp.parse_uri(next(r["uri"] for r in self.world.records if r["kind"] == "totp"))
        assert isinstance(app, pyotp.TOTP)
        return app.at(CLOCK.wall)

    def enroll(self, of: Desk | None = None, **args: Any) -> World:
        self.world.run(enroll(of or desk(), {"factor": "totp", **args}))
        return self.world


def first(store: SqliteStore, *answers: Typed, of: Desk | None = None, **args: Any) -> World:
    """Enrol with these answers and a right code of the new app behind them."""
    session = Session(store)
    session.world.type(*answers, session.app)
    return session.enroll(of, **args)


def refused(call: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    assert "\n" not in caught.value.message
    assert caught.value.message.isprintable()
    return caught.value


# ---------------------------------------------------------------------------------- the first credential


def test_the_first_one_costs_the_password_and_brings_recovery_codes(store: SqliteStore) -> None:
    world = first(store, PASSWORD)
    assert world.asked == ["Password of alice: ", "Code that the app shows now: "]
    assert [record["kind"] for record in world.records] == ["totp", "enrolled", "enrolled", "recovery"]
    assert [c.factor for c in alice(store).credentials] in (["totp", "recovery"], ["recovery", "totp"])
    assert {c.label for c in alice(store).credentials} == {"totp 1", "recovery codes"}
    (codes,) = (record["codes"] for record in world.records if record["kind"] == "recovery")
    (stored,) = alice(store).of("recovery")
    assert all(Recovery.fits(FACTORS["recovery"], code) for code in codes)  # type: ignore[arg-type]
    assert len(codes) == len(stored.material) / 32 == 10


def test_nothing_counts_before_its_proof_and_codes_are_shown_after_they_are_stored(store: SqliteStore) -> None:
    world = first(store, PASSWORD)
    (commit,) = (number for number, want in enumerate(world.wants) if isinstance(want, Commit))
    kinds = world.kinds
    assert kinds[:commit].count("Show") == 1  # the secret to scan
    assert kinds[commit + 1 :] == ["Show"] * 3
    assert all(isinstance(change, Announce) and isinstance(change.operation, Enrol) for (change,) in world.operations)


@pytest.mark.parametrize("wrong", [1, 2])
def test_a_password_may_be_mistyped_twice(store: SqliteStore, wrong: int) -> None:
    world = first(store, *["battery staple"] * wrong, PASSWORD)
    assert world.asked[1] == "That was not right. Password of alice: "
    assert len(alice(store).credentials) == 2


def test_three_wrong_passwords_change_nothing(store: SqliteStore) -> None:
    session = Session(store, "", "correct horse ", "Correct horse", PASSWORD)
    assert refused(session.enroll).code == "refused"
    assert session.world.records == []
    assert alice(store).credentials == ()


@pytest.mark.parametrize("word", ["right", 1, None, object(), ""])
def test_only_true_is_a_right_password(store: SqliteStore, word: Any) -> None:
    session = Session(store, *[PASSWORD] * 3, instead=dict.fromkeys([2, 4, 6], Checked(word)))
    assert refused(session.enroll).code == "refused"
    assert session.world.records == []


def test_a_password_that_cannot_be_checked_changes_nothing(store: SqliteStore) -> None:
    session = Session(store, PASSWORD, instead={2: LookupFailed("no helper")})
    with pytest.raises(LookupFailed):
        session.enroll()
    assert alice(store).credentials == ()


def test_it_costs_nothing_where_being_that_user_is_enough(store: SqliteStore) -> None:
    world = first(store, of=desk(settings=Settings(first_enrolment=FirstEnrolment.SELF)))
    assert world.asked == ["Code that the app shows now: "]


def test_root_proves_nothing(store: SqliteStore) -> None:
    for _ in range(2):
        world = first(store, of=desk(peer=0))
        assert world.asked == ["Code that the app shows now: "]


# ------------------------------------------------------------------------------------------- later ones


@pytest.mark.parametrize("first_enrolment", list(FirstEnrolment))
def test_a_later_one_costs_a_code(store: SqliteStore, first_enrolment: FirstEnrolment) -> None:
    """S08: the password is not enough, whatever the first one costs."""
    enrol(store, PHONE, recovery())
    of = desk(settings=Settings(first_enrolment=first_enrolment))
    session = Session(store, *[PASSWORD] * 3)
    error = refused(lambda: session.enroll(of))
    assert error.code == "refused"
    assert "CheckPassword" not in session.world.kinds
    assert len(alice(store).credentials) == 2
    world = first(store, RIGHT, of=of)
    assert world.asked == ["Verification code: ", "Code that the app shows now: "]
    assert {c.label for c in alice(store).credentials} == {"phone", "recovery codes", "totp 1"}
    assert [record["kind"] for record in world.records] == ["totp", "enrolled"]


def test_a_recovery_code_proves_too_and_is_used_up(store: SqliteStore) -> None:
    enrol(store, PHONE, recovery())
    world = first(store, CODES[2])
    assert world.told == ["Recovery code used: 9 left."]
    assert refused(Session(store, *[CODES[2]] * 3).enroll).code == "refused"


def test_a_replayed_code_proves_nothing(store: SqliteStore) -> None:
    enrol(store, PHONE, recovery())
    first(store, RIGHT)
    assert refused(Session(store, *[RIGHT] * 3).enroll).code == "refused"


def test_the_throttle_of_logins_counts_here_too(store: SqliteStore) -> None:
    enrol(store, PHONE, recovery())
    for _ in range(2):
        refused(Session(store, *[WRONG] * 3).enroll)
    assert alice(store).tallies["totp"].failures == FREE + 1
    assert refused(Session(store, *[RIGHT] * 3).enroll).code == "refused"
    assert do(store, Unlock(ALICE)) == (1,)
    first(store, RIGHT)


def test_a_factor_that_this_program_does_not_know_opens_nothing(store: SqliteStore) -> None:
    """A newer program enrolled it: the account is not empty, and nothing here can prove it."""
    enrol(store, Credential("f1d0" * 8, ALICE, "alice", "piv", "key", b"x"))
    session = Session(store, *[PASSWORD] * 5)
    assert refused(session.enroll).code == "refused"
    assert session.world.asked == []


def test_an_account_that_lost_its_recovery_codes_gets_new_ones(store: SqliteStore) -> None:
    enrol(store, PHONE)
    assert [r["kind"] for r in first(store, RIGHT).records] == ["totp", "enrolled", "enrolled", "recovery"]


# ----------------------------------------------------------------------------------------------- races


@pytest.mark.parametrize("late", ["password", "code"])
def test_a_session_that_began_on_an_empty_account_ends_when_it_is_not(store: SqliteStore, late: str) -> None:
    """S08: who knows only the password could otherwise hold a session open until its victim has enrolled."""
    session = Session(store)

    def meanwhile(answer: Typed) -> Typed:
        def typed(prompt: str) -> str:
            enrol(store, PHONE, recovery())
            return answer if isinstance(answer, str) else answer(prompt)

        return typed

    answers: list[Typed] = [PASSWORD, session.app]
    place = 0 if late == "password" else 1
    answers[place] = meanwhile(answers[place])
    session.world.type(*answers)
    assert refused(session.enroll).code == "refused"
    assert {c.label for c in alice(store).credentials} == {"phone", "recovery codes"}
    assert all(record["kind"] != "recovery" for record in session.world.records)


def test_a_session_whose_credential_was_taken_away_meanwhile_adds_none(store: SqliteStore) -> None:
    """R16: root removes the stolen phone while its thief enrols another one."""
    enrol(store, PHONE, recovery())
    session = Session(store)

    def removed(prompt: str) -> str:
        do(store, Remove(ALICE, PHONE.id))
        return session.app(prompt)

    session.world.type(RIGHT, removed)
    assert refused(session.enroll).code == "refused"
    assert [c.factor for c in alice(store).credentials] == ["recovery"]


def test_a_store_that_does_not_take_it_shows_no_recovery_codes() -> None:
    memory = Memory()
    session = Session(memory)

    def breaks(prompt: str) -> str:
        code = session.app(prompt)
        memory.broken = StoreError("full")
        return code

    session.world.type(PASSWORD, breaks)
    with pytest.raises(StoreError):
        session.enroll()
    assert [record["kind"] for record in session.world.records] == ["totp"]


# ------------------------------------------------------------------------------------------------- args


@pytest.mark.parametrize("factor", [None, "", "piv", "TOTP", 1, True, [], {}, ["totp"]])
def test_a_factor_that_is_none_is_refused(store: SqliteStore, factor: object) -> None:
    session = Session(store)
    assert refused(lambda: session.enroll(factor=factor)).code == "invalid"
    assert session.world.wants == []


@pytest.mark.parametrize("label", ["phone", "x", "x" * 64, " blue nano ", "é", "手机", "a-b_c.d/e", '"quoted"'])
def test_a_label_is_kept_without_the_blanks_around_it(store: SqliteStore, label: str) -> None:
    first(store, PASSWORD, label=label)
    assert label.strip() in {c.label for c in alice(store).credentials}


BAD_LABELS = [
    "",
    " ",
    "x" * 65,
    "a\nb",
    "a\rb",
    "a\tb",
    "a\x1b[31m",
    "a\x00",
    "a\x85b",
    "\u202ebidi",
    "a\u200bb",
    "a\xa0b",
    "\ud800",
    "x" * 2**20,
    1,
    True,
    [],
    {},
    ["x"],
]


@pytest.mark.parametrize("label", BAD_LABELS, ids=lambda label: ascii(label)[:20])
def test_a_label_that_nobody_could_read_is_refused(store: SqliteStore, label: object) -> None:
    """R10, R12."""
    session = Session(store)
    assert refused(lambda: session.enroll(label=label)).code == "invalid"
    assert session.world.asked == []


@pytest.mark.parametrize("label", ["phone", " phone ", "recovery codes"])
def test_a_label_is_given_once(store: SqliteStore, label: str) -> None:
    enrol(store, PHONE, recovery())
    assert refused(lambda: Session(store).enroll(label=label)).code == "invalid"


def test_labels_are_numbered_where_none_is_given(store: SqliteStore) -> None:
    root = desk(peer=0)
    for _ in range(3):
        first(store, of=root)
    first(store, of=root, label="totp 4")
    first(store, of=root)
    assert {c.label for c in alice(store).of("totp")} == {f"totp {n}" for n in range(1, 6)}


@pytest.mark.parametrize("with_recovery", [True, False])
def test_twenty_credentials_are_enough_besides_tickets(store: SqliteStore, with_recovery: bool) -> None:
    extra = [recovery(), ticket(mark=1)] if with_recovery else [ticket()]
    enrol(store, *extra, *(totp(f"phone {n}") for n in range(MAX_CREDENTIALS - 2)))
    first(store, of=desk(peer=0))
    assert len(alice(store).credentials) == MAX_CREDENTIALS + 1
    assert refused(lambda: first(store, of=desk(peer=0))).code == "invalid"
    assert len(alice(store).credentials) == MAX_CREDENTIALS + 1
    Session(store).enroll(desk(peer=0), factor="recovery")  # takes the place of the old set
    assert len(alice(store).credentials) == MAX_CREDENTIALS + 1


def test_options_reach_the_factor(store: SqliteStore) -> None:
    first(store, PASSWORD, algorithm="SHA512", digits=8, period=60)
    (phone,) = alice(store).of("totp")
    assert FACTORS["totp"].details(phone) == {"algorithm": "SHA512", "digits": 8, "period": 60}


def test_the_issuer_of_the_settings_names_the_host(store: SqliteStore) -> None:
    of = desk(peer=0, settings=Settings(issuer="Example & Sons"))
    assert "issuer=Example%20%26%20Sons" in first(store, of=of).records[0]["uri"]


# ------------------------------------------------------------------------------------------- recovery


def test_a_new_set_ends_the_old_one_in_the_same_transaction(store: SqliteStore) -> None:
    enrol(store, PHONE, recovery())
    world = Session(store, RIGHT).enroll(factor="recovery")
    assert len(world.operations) == 2
    assert [r["kind"] for r in world.records] == ["enrolled", "recovery"]
    assert len(alice(store).of("recovery")) == 1
    refused(Session(store, *CODES[:3]).enroll)
    do(store, Unlock(ALICE))
    first(store, world.records[-1]["codes"][0])


def test_a_set_may_be_the_first_credential(store: SqliteStore) -> None:
    Session(store, PASSWORD).enroll(factor="recovery")
    assert [c.factor for c in alice(store).credentials] == ["recovery"]


def test_codes_never_repeat_between_sets(store: SqliteStore) -> None:
    enrol(store, PHONE)
    seen: set[str] = set()
    for _ in range(3):
        world = World(store)
        world.run(renew_recovery(desk(peer=0), alice(store)))
        seen |= set(world.records[-1]["codes"])
    assert len(seen) == 30


# ------------------------------------------------------------------------------------------------ secrets


def test_what_is_secret_is_in_no_text_of_a_want(store: SqliteStore) -> None:
    """L19: a traceback that shows the flow's variables shows no seed, no code, no password."""
    world = first(store, PASSWORD)
    secrets = [
        PASSWORD,
        world.records[0]["secret"],
        *next(r["codes"] for r in world.records if r["kind"] == "recovery"),
    ]
    (phone,) = alice(store).of("totp")
    seed = repr(Parameters.unpack(phone.material).secret)
    text = repr(world.wants) + repr(alice(store))
    assert not [secret for secret in [*secrets, seed] if secret in text]


def test_a_managed_account_is_the_callers_whatever_the_arguments_say(store: SqliteStore) -> None:
    first(store, PASSWORD, uid=BOB, user="bob", session="x", peer_uid=0, host="evil")
    assert {c.uid for c in alice(store).credentials} == {ALICE}
    assert store.read(FindAccount(BOB, "bob")).credentials == ()
