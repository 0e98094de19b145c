"""One PAM transaction: HELLO, AUTHINFO, the verdict's record, its delay, and what becomes of it without a record."""

from __future__ import annotations

from typing import Any

import pytest
from flows import ALICE, BOB, CODES, Clock, Memory, account
from peers import NONCE, PHONE, RIGHT, WRONG, Held, Monotonic, Peer, peer

from pam_mfa import wire
from pam_mfa.config import Settings
from pam_mfa.errors import AbortedError, ConfigError, PamMfaError, ProtocolError, RefusedError, StoreMissing
from pam_mfa.outcome import Outcome, Proof, Verdict
from pam_mfa.rules import Rule, Unenrolled
from pam_mfa.service.transaction import REFUSALS, verdict_of
from pam_mfa.structure import replace, values
from pam_mfa.throttle import FREE
from pam_mfa.wire import Tag, Type

NOW = Clock()()
REQUIRED = Settings(audit_required=True)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


# ------------------------------------------------------------------------------------------------- HELLO


def test_a_login_from_hello_to_result() -> None:
    one = peer().hello().reply(RIGHT)
    assert one.kinds == ["ALIVE", "ASK_SECRET", "RESULT"]
    assert one.result == (Outcome.GRANTED, 0, NONCE)


def test_every_announced_authinfo_is_waited_for() -> None:
    one = peer().hello(authinfo=3)
    for number in range(3):
        assert one.kinds == []
        one.send(Type.AUTHINFO, b"publickey ssh-ed25519 AAAA%d" % number)
    assert one.kinds == ["ALIVE", "ASK_SECRET"]
    assert one.send(Type.AUTHINFO, b"one more").outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("count", [0, 1, 32])
def test_up_to_32_authinfo(count: int) -> None:
    one = peer().hello(authinfo=count)
    for _ in range(count):
        one.send(Type.AUTHINFO, b"x" * 4096)
    assert one.reply(RIGHT).outcome is Outcome.GRANTED


def test_more_are_refused_at_once() -> None:
    assert peer().hello(authinfo=33).outcome is Outcome.UNAVAILABLE


def test_authinfo_that_was_not_announced_is_out_of_turn() -> None:
    assert peer().send(Type.AUTHINFO, b"x").outcome is Outcome.UNAVAILABLE
    assert peer().hello().send(Type.AUTHINFO, b"x").outcome is Outcome.UNAVAILABLE


def test_a_second_hello_is_out_of_turn() -> None:
    assert peer().hello(authinfo=1).hello().outcome is Outcome.UNAVAILABLE
    assert peer().hello().hello().outcome is Outcome.UNAVAILABLE


FIELDS: dict[int, bytes] = {
    Tag.NONCE: NONCE,
    Tag.SERVICE: b"sshd",
    Tag.USER: b"alice",
    Tag.UID: ALICE.to_bytes(4, "big"),
}
BAD: dict[str, dict[int, bytes]] = {
    "no nonce": {Tag.NONCE: b""},
    "short nonce": {Tag.NONCE: b"x" * 15},
    "empty user": {Tag.USER: b""},
    "NUL": {Tag.USER: b"ali\0ce"},
    "not UTF-8": {Tag.USER: b"\xff"},
    "uid -1": {Tag.UID: b"\xff" * 4},
    "uid of 8 bytes": {Tag.UID: ALICE.to_bytes(8, "big")},
    "uid as text": {Tag.UID: b"1000x"},
    "long service": {Tag.SERVICE: b"s" * 65},
    "long user": {Tag.USER: b"u" * 257},
    "long rhost": {Tag.RHOST: b"r" * 257},
    "unknown field": {0x7F: b""},
}


def frame(fields: dict[int, bytes]) -> bytes:
    return b"".join(bytes([tag]) + len(value).to_bytes(2, "big") + value for tag, value in fields.items())


@pytest.mark.parametrize("case", BAD)
def test_a_hello_that_is_none_is_unavailable_and_says_nothing(case: str) -> None:
    one = peer().send(Type.HELLO, frame({**FIELDS, **BAD[case]}))
    assert one.result == (Outcome.UNAVAILABLE, 0, bytes(16))
    assert one.kinds == ["RESULT"]


def test_fields_of_a_later_version_may_be_ignored() -> None:
    assert peer().send(Type.HELLO, frame({**FIELDS, 0x80: b"new", 0xFF: b""})).kinds == ["ALIVE", "ASK_SECRET"]


def test_the_nonce_is_echoed_whatever_the_outcome() -> None:
    assert peer().hello().reply(WRONG, WRONG, WRONG).result[2] == NONCE
    assert peer().hello().send(Type.ABORT).result[2] == NONCE
    assert peer().hello().send(Type.SKIP).result[2] == NONCE
    assert peer(settings=None).hello().result[2] == NONCE


def test_a_peer_that_may_not_ask_is_refused() -> None:
    """L10."""
    one = peer(uid=BOB).hello()
    assert one.outcome is Outcome.DENIED
    assert one.link.records[0].reason == "peer_denied"
    assert "ASK_SECRET" not in one.kinds


def test_without_settings_nobody_gets_in() -> None:
    one = peer(settings=None).hello()
    assert one.result == (Outcome.UNAVAILABLE, 0, NONCE)
    assert one.link.records[0].reason == "config"


def test_settings_that_change_meanwhile_count_for_the_next_login() -> None:
    one = peer().hello()
    one.ground.settings = Settings(policy=Rule(unenrolled=Unenrolled.ALLOW), fail_delay_ms=7)
    assert one.reply(WRONG, WRONG, WRONG).outcome is Outcome.TRIES_SPENT


# ------------------------------------------------------------------------------------------------- delay


def test_only_refusals_are_delayed() -> None:
    assert {Outcome.DENIED, Outcome.LOCKED, Outcome.TRIES_SPENT} == REFUSALS
    settings = Settings(fail_delay_ms=1234)
    assert peer(settings=settings).hello().reply(WRONG, WRONG, WRONG).result[:2] == (Outcome.TRIES_SPENT, 1234)
    assert peer(settings=settings, uid=BOB).hello().result[:2] == (Outcome.DENIED, 1234)
    assert peer(settings=settings).hello().reply(RIGHT).result[1] == 0
    assert peer(settings=settings).hello().send(Type.ABORT).result[1] == 0
    assert peer(settings=settings).hello().send(Type.SKIP).result[1] == 0
    allow = replace(settings, policy=Rule(unenrolled=Unenrolled.ALLOW))
    assert Peer(settings=allow).hello().result[:2] == (Outcome.EXEMPT, 0)


# ------------------------------------------------------------------------------------------------ records


def test_the_record_of_a_granted_login_names_the_credential(clock: Monotonic) -> None:
    one = peer().hello(ruser="mallory", rhost="198.51.100.7", tty="ssh")
    clock.sleep(3, one.session)
    one.reply(RIGHT)
    (record,) = one.link.records
    assert values(record) == {
        "event": "login",
        "outcome": Outcome.GRANTED,
        "reason": "proven",
        "role": "service",
        "service": "sshd",
        "user": "alice",
        "uid": ALICE,
        "session": one.session.id,
        "duration_ms": 3000,
        "rhost": "198.51.100.7",
        "tty": "ssh",
        "factor": "totp",
        "credential": PHONE.id,
        "label": "phone",
        "subject": None,
        "note": None,
    }


@pytest.mark.parametrize(
    ("failures", "answers", "reason"),
    [
        (0, [WRONG] * 3, "wrong"),
        (0, [RIGHT + "0"] * 3, "wrong"),
        (FREE + 1, [RIGHT] * 3, "waiting"),
        (100, [RIGHT] * 3, "disabled"),
        (FREE, [WRONG] * 3, "waiting"),
    ],
)
def test_the_record_says_why(failures: int, answers: list[str], reason: str) -> None:
    of = account(PHONE, failures=failures, last=NOW if failures else None)
    one = Peer(backend=Held(Memory(of))).hello().reply(*answers)
    (record,) = one.link.records
    assert (record.outcome, record.reason) == (Outcome.TRIES_SPENT, reason)
    assert (record.factor, record.credential, record.label) == (None, None, None)


def test_a_replay_is_told_apart() -> None:
    backend = Held(Memory(account(PHONE)))
    Peer(backend=backend).hello().reply(RIGHT)
    assert Peer(backend=backend).hello().reply(*[RIGHT] * 3).link.records[0].reason == "replayed"


def test_there_is_one_record_for_each_login_and_no_secret_in_it() -> None:
    for answers in ([RIGHT], [WRONG, WRONG, RIGHT], [CODES[0]], ["hunter2"] * 3):
        one = peer().hello().reply(*answers)
        (record,) = one.link.records
        assert not [answer for answer in answers if answer in repr(record)]


def test_who_came_and_went_without_a_word_leaves_no_record() -> None:
    one = peer()
    one.session.receive(b"")
    assert one.session.over
    assert one.link.records == []


def test_who_says_hello_and_goes_leaves_one() -> None:
    one = peer().hello()
    one.session.receive(b"")
    assert [(r.outcome, r.user) for r in one.link.records] == [(Outcome.ABORTED, "alice")]


# ---------------------------------------------------------------------------------------- audit = required


@pytest.mark.parametrize("answers", [[RIGHT], [WRONG] * 3])
def test_a_verdict_without_its_record_is_unavailable(answers: list[str]) -> None:
    one = peer(settings=REQUIRED)
    one.link.written = False
    one.hello().reply(*answers)
    assert one.result == (Outcome.UNAVAILABLE, 0, NONCE)
    assert one.link.required == [True]


def test_nor_is_anybody_exempt_without_it() -> None:
    one = Peer(settings=replace(REQUIRED, policy=Rule(unenrolled=Unenrolled.ALLOW)))
    one.link.written = False
    assert one.hello().outcome is Outcome.UNAVAILABLE


def test_a_record_that_takes_its_time_is_waited_for(clock: Monotonic) -> None:
    one = peer(settings=REQUIRED)
    one.link.waiting = []
    one.hello().reply(RIGHT)
    assert not one.session.over
    clock.sleep(300, one.session)
    one.reply(RIGHT)
    one.session.receive(b"nonsense")
    assert not one.session.over
    one.link.waiting[0]()
    assert one.outcome is Outcome.GRANTED
    assert len(one.link.records) == 1


def test_while_it_is_waited_for_nothing_new_begins() -> None:
    one = peer(settings=REQUIRED)
    one.link.waiting = []
    one.send(Type.REPLY, b"out of turn")
    one.hello().reply(RIGHT)
    assert one.kinds == []
    one.link.waiting[0]()
    assert one.kinds == ["RESULT"]
    assert one.outcome is Outcome.UNAVAILABLE


def test_a_peer_that_does_not_wait_for_it_changes_nothing() -> None:
    one = peer(settings=REQUIRED)
    one.link.waiting = []
    one.hello().reply(RIGHT)
    one.session.receive(b"")
    one.link.waiting[0]()
    assert one.outcome is Outcome.GRANTED
    assert [record.outcome for record in one.link.records] == [Outcome.GRANTED]


def test_where_it_is_not_required_a_lost_record_refuses_nobody() -> None:
    one = peer()
    one.link.written = False
    assert one.hello().reply(RIGHT).outcome is Outcome.GRANTED


# ---------------------------------------------------------------------------------------------- verdict_of

PROOF = Proof("s", ALICE, "totp", "id", "label")


class Look(str):
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class _Sly(PamMfaError):
    outcome = Outcome.GRANTED
    reason = "sly"


@pytest.mark.parametrize(
    "end",
    [
        None,
        True,
        0,
        "GRANTED",
        Outcome.GRANTED,
        int(Outcome.GRANTED),
        PROOF,
        {"outcome": Outcome.GRANTED},
        (Outcome.GRANTED, "proven"),
        Verdict,
        object(),
        Look("GRANTED"),
        Verdict(0xA5, "proven"),  # type: ignore[arg-type]
        Verdict("GRANTED", "proven"),  # type: ignore[arg-type]
        Verdict(Look(), "proven"),  # type: ignore[arg-type]
        type("Verdict", (), {"outcome": Outcome.GRANTED, "reason": "proven"})(),
        type("Heir", (Verdict,), {})(Outcome.GRANTED, "proven"),
        _Sly("x"),
        ProtocolError("x"),
        StoreMissing("x"),
        ConfigError(["x"]),
        RuntimeError(Outcome.GRANTED),
        SystemExit(0),
        SystemExit(Outcome.GRANTED),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(Verdict(Outcome.GRANTED, "proven")),
    ],
    ids=lambda end: type(end).__name__,  # a repr may hold an address, and then no two workers agree on the tests
)
def test_whatever_a_flow_ends_with_is_unavailable_unless_it_is_a_verdict(end: object) -> None:
    """F22."""
    verdict = verdict_of(end)
    assert type(verdict) is Verdict
    assert verdict.outcome is Outcome.UNAVAILABLE
    assert verdict.credential is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_verdict_is_itself(outcome: Outcome) -> None:
    verdict = Verdict(outcome, "reason")
    assert verdict_of(verdict) is verdict


def test_giving_up_and_refusals_keep_their_outcome() -> None:
    assert verdict_of(AbortedError("x")) == Verdict(Outcome.ABORTED, "aborted")
    assert verdict_of(RefusedError("code", "message")) == Verdict(Outcome.DENIED, "refused")


def test_the_reason_names_what_went_wrong_and_holds_no_value() -> None:
    assert verdict_of(StoreMissing("/var/lib")) == Verdict(Outcome.UNAVAILABLE, "store_missing")
    assert verdict_of(ValueError("secret 123456")) == Verdict(Outcome.UNAVAILABLE, "exception_ValueError")


@pytest.mark.parametrize("end", [None, Outcome.GRANTED, PROOF, _Sly("x"), SystemExit(0)], ids=repr)
def test_a_flow_that_ends_so_grants_nobody(end: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def flow(*_: object) -> Any:
        if isinstance(end, BaseException):
            raise end
        return end
        yield

    monkeypatch.setattr("pam_mfa.service.transaction.login", flow)
    assert peer().hello().outcome is Outcome.UNAVAILABLE


def test_a_result_frame_has_21_bytes() -> None:
    one = peer().hello().reply(RIGHT)
    assert len(one.link.frames[-1][1]) == wire.RESULT.size == 21


def test_one_user_begins_sixteen_logins_at_once_and_no_more() -> None:
    """L14: su and sudo ask as root, whoever started them."""
    ground = peer().ground

    def begin(ruser: str) -> Peer:
        one = peer()
        one.session._ground = ground
        return one.hello(service="su", ruser=ruser)

    waiting = [begin("mallory") for _ in range(16)]
    assert {one.kinds[-1] for one in waiting} == {"ASK_SECRET"}
    refused = begin("mallory")
    assert refused.outcome is Outcome.UNAVAILABLE
    assert refused.link.records[0].reason == "too_many_logins"
    others = [begin(ruser) for ruser in ("bob", *["root", ""] * 17)]
    assert {one.kinds[-1] for one in others} == {"ASK_SECRET"}
    assert waiting[3].reply(RIGHT).outcome is Outcome.GRANTED
    assert begin("mallory").send(Type.ABORT).outcome is Outcome.ABORTED
    for one in (*waiting, *others):
        one.send(Type.ABORT)
    assert not ground.callers
