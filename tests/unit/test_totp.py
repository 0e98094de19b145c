"""TOTP: the vectors of the RFCs, pyotp as witness, the window, the form of a code, clocks and zones."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from flows import ALICE, SESSION, Clock, Memory, World, account, code_at, totp
from hypothesis import assume, given, strategies as st

from pam_mfa.errors import RefusedError
from pam_mfa.factors import code
from pam_mfa.factors.base import Ceremony, Enrolment, Made
from pam_mfa.factors.totp import ALGORITHMS, DIGITS, PERIODS, Parameters, Totp
from pam_mfa.service import system
from pam_mfa.store.base import Advance
from pam_mfa.throttle import Instant

FACTOR = Totp()
# RFC 6238 appendix B: the seed is repeated up to the length of the hash (erratum 2866).
SEEDS = {"SHA1": b"1234567890" * 2, "SHA256": (b"1234567890" * 4)[:32], "SHA512": (b"1234567890" * 7)[:64]}
VECTORS = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
# RFC 4226 appendix D.
HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]

parameters = st.builds(
    Parameters,
    secret=st.binary(min_size=10, max_size=128),
    algorithm=st.sampled_from(ALGORITHMS),
    digits=st.sampled_from(DIGITS),
    period=st.sampled_from(PERIODS),
)
seconds = st.integers(0, 253_402_300_799)  # up to the year 9999, where pyotp ends


def witness(of: Parameters) -> pyotp.TOTP:
    secret = base64.b32encode(of.secret).decode()
    return pyotp.TOTP(secret, digits=of.digits, digest=getattr(hashlib, of.algorithm.lower()), interval=of.period)


# ------------------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize(("wall", "sha1", "sha256", "sha512"), VECTORS)
def test_the_vectors_of_rfc_6238(wall: int, sha1: str, sha256: str, sha512: str) -> None:
    for algorithm, expected in zip(ALGORITHMS, (sha1, sha256, sha512), strict=True):
        of = Parameters(SEEDS[algorithm], algorithm, 8, 30)
        assert of.code(wall // 30) == expected
        assert of.find(expected, wall) == wall // 30


def test_the_vectors_of_rfc_4226() -> None:
    of = Parameters(SEEDS["SHA1"])
    assert [of.code(counter) for counter in range(10)] == HOTP


@given(parameters, seconds)
def test_pyotp_computes_the_same(of: Parameters, wall: int) -> None:
    assume(len(of.secret) >= 14)  # pyotp refuses less
    assert of.code(wall // of.period) == witness(of).at(wall)


@given(parameters)
def test_parameters_survive_packing(of: Parameters) -> None:
    assert Parameters.unpack(of.pack()) == of


def test_the_secret_is_not_in_any_text_of_it() -> None:
    of = Parameters(b"a secret of twenty b")
    assert "secret of" not in repr(of) + str(of)
    assert "secret of" not in repr(totp(secret=b"a secret of twenty b"))


# ------------------------------------------------------------------------------------------------ window


@given(parameters, seconds, st.integers(-3, 3))
def test_one_step_each_side_fits_and_no_other(of: Parameters, wall: int, steps: int) -> None:
    step = wall // of.period + steps
    if step < 0:
        return
    found = of.find(of.code(step), wall)
    assert found == step if abs(steps) <= 1 else found != step


@given(parameters, seconds, st.text("0123456789", min_size=6, max_size=8))
def test_what_is_found_has_that_code(of: Parameters, wall: int, answer: str) -> None:
    found = of.find(answer, wall)
    assert found is None or of.code(found) == answer


def test_all_steps_are_computed_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """R17: time tells neither which step fitted nor whether one did."""
    computed: list[int] = []
    real = Parameters.code

    def noted(self: Parameters, step: int) -> str:
        computed.append(step)
        return real(self, step)

    monkeypatch.setattr(Parameters, "code", noted)
    of = Parameters(b"0" * 20)
    for answer in [real(of, 9), real(of, 10), real(of, 11), "000000"]:
        computed.clear()
        of.find(answer, 300)
        assert computed == [9, 10, 11]


def test_of_two_steps_with_one_code_the_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parameters, "code", lambda self, step: "123456")
    assert Parameters(b"0" * 20).find("123456", 300) == 11


@pytest.mark.parametrize("wall", [-1, -31, -(10**9)])
def test_before_1970_nothing_fits_and_nothing_breaks(wall: int) -> None:
    of = Parameters(b"0" * 20)
    for step in range(5):
        assert of.find(of.code(step), wall) in ({None} if wall < -30 else {None, 0})


# -------------------------------------------------------------------------------------------------- form

FOREIGN = [
    "",
    " ",
    "12345",
    "123456789",
    "123 456",
    " 123456",
    "123456 ",
    "123456\n",
    "\n123456",
    "123456\0",
    "+12345",
    "-12345",
    "0x1234",
    "1e5000",
    "12_345",
    "123.45",
    "１２３４５６",  # full width
    "¹²³⁴⁵⁶",
    "١٢٣٤٥٦",  # Arabic-Indic
    "१२३४५६",
    "12345\u0661",
    "１23456",
    "123456\u200b",
    "\u202e123456",
    "\udc31\udc32\udc33\udc34\udc35\udc36",
    "1" * 2**20,
    "٣" * 2**20,
]


@pytest.mark.parametrize("answer", FOREIGN, ids=lambda answer: ascii(answer[:20]))
def test_only_six_to_eight_ascii_digits_are_a_code(answer: str) -> None:
    assert not FACTOR.fits(answer)


@given(st.text())
def test_no_other_text_is_a_code(answer: str) -> None:
    proper = 6 <= len(answer) <= 8 and all(char in "0123456789" for char in answer)
    assert FACTOR.fits(answer) is proper


@pytest.mark.parametrize("answer", FOREIGN, ids=lambda answer: ascii(answer[:20]))
def test_a_foreign_text_in_place_of_the_right_code_is_wrong(answer: str) -> None:
    phone, clock = totp(), Clock()
    store = Memory(account(phone))
    assert prove(store, clock, answer) is None
    assert [attempt.use for attempt in store.attempts] == [None] * 3


def prove(store: Memory, clock: Clock, *answers: str) -> object:
    ceremony = Ceremony(SESSION, ALICE, store.accounts[ALICE], clock)
    return World(store, (answers * 3)[:3]).run(code.prove(ceremony, (FACTOR,)))


# ---------------------------------------------------------------------------------------------- matching


@given(parameters, seconds, st.integers(-1, 1))
def test_a_right_code_uses_up_its_step(of: Parameters, wall: int, steps: int) -> None:
    if wall // of.period + steps < 0:
        return
    phone = totp(secret=of.secret, parameters={"algorithm": of.algorithm, "digits": of.digits, "period": of.period})
    now = Instant(wall, 0, "boot")
    use = FACTOR.match(phone, code_at(phone, now, steps), now)
    assert use is not None
    assert of.code(use.to) == code_at(phone, now, steps)
    assert use.credential == phone.id


def test_a_code_of_another_length_does_not_fit() -> None:
    phone, clock = totp(parameters={"digits": 8}), Clock()
    right = code_at(phone, clock())
    assert FACTOR.match(phone, right, clock()) is not None
    assert FACTOR.match(phone, right[2:], clock()) is None
    assert FACTOR.match(phone, right[:6], clock()) is None
    assert FACTOR.match(totp(), right, clock()) is None


def test_a_step_is_never_accepted_twice_nor_one_before_it() -> None:
    """R05: also from the other side of the window, and with the clock turned back."""
    phone, clock = totp(), Clock()
    store = Memory(account(phone))
    start = clock()
    order = [(-1, True), (-1, False), (0, True), (-1, False), (0, False), (1, True), (0, False), (1, False)]
    for steps, accepted in order:
        assert (prove(store, clock, code_at(phone, start, steps)) is not None) is accepted
        store.forgive(ALICE)
    clock.sleep(30)
    assert prove(store, clock, code_at(phone, start, 1)) is None


def test_a_clock_that_is_set_back_brings_no_old_code_back() -> None:
    """F19."""
    phone, clock = totp(), Clock()
    store = Memory(account(phone))
    assert prove(store, clock, code_at(phone, clock()))
    for back in (30, 86_400, 365 * 86_400, clock.wall):
        earlier = Clock(clock.wall - back)
        assert prove(Memory(store.accounts[ALICE]), earlier, code_at(phone, earlier())) is None


def test_a_clock_that_ran_ahead_shuts_out_until_the_marks_are_capped() -> None:
    """F20."""
    phone, clock = totp(), Clock()
    store = Memory(account(phone))
    ahead = Clock(clock.wall + 365 * 86_400)
    assert prove(store, ahead, code_at(phone, ahead()))
    assert prove(store, clock, code_at(phone, clock())) is None
    (spent,) = store.accounts[ALICE].credentials
    ceiling = FACTOR.ceiling(spent, clock())
    assert ceiling == clock.wall // 30 + 1
    assert spent.mark > ceiling


@pytest.fixture
def zones() -> Iterator[list[str]]:
    before = os.environ.get("TZ")
    yield ["UTC", "Pacific/Kiritimati", "Pacific/Niue", "Asia/Kathmandu", "Europe/Amsterdam", "XXX-25:59:59", "\xff"]
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_neither_zone_nor_daylight_saving_has_an_effect(zones: list[str]) -> None:
    """F21: 2024-10-27 02:30 in Amsterdam happens twice; 2024-03-31 02:30 never does; 2016-12-31 had a leap second."""
    phone = totp()
    for wall in (1_729_989_000, 1_729_992_600, 1_711_848_600, 1_483_228_799, 1_483_228_800):
        now = Instant(wall, 0, "boot")
        right = code_at(phone, now)
        for zone in zones:
            os.environ["TZ"] = zone
            time.tzset()
            assert FACTOR.match(phone, right, now) == Advance(phone.id, wall // 30)
            assert abs(system.now().wall - time.time()) < 60


# ------------------------------------------------------------------------------------------------- enrol


def enrolment(clock: Clock, **options: object) -> Enrolment:
    return Enrolment(ALICE, "alice", "ab" * 16, "phone", "host.example", clock, options)


def app_code(world: World, clock: Clock, steps: int, prompt: str) -> str:
    """What an app shows that has scanned the URI."""
    uri = world.records[0]["uri"]
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP)
    return app.at(clock.wall + steps * app.interval)


def enrol(clock: Clock, *answers: int | str, **options: object) -> tuple[Made, World]:
    """Enrol with these answers: texts, or codes of the app so many steps away."""
    world = World(Memory())
    world.type(*(a if isinstance(a, str) else partial(app_code, world, clock, a) for a in answers))
    return world.run(FACTOR.enrol(enrolment(clock, **options))), world


@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("digits", [None, *DIGITS])
@pytest.mark.parametrize("period", [None, *PERIODS])
def test_what_is_shown_is_what_is_stored(algorithm: str | None, digits: int | None, period: int | None) -> None:
    clock = Clock()
    given_options = {"algorithm": algorithm, "digits": digits, "period": period}
    made, world = enrol(clock, 0, **{name: value for name, value in given_options.items() if value is not None})
    of = Parameters.unpack(made.credential.material)
    assert (of.algorithm, of.digits, of.period) == (algorithm or "SHA1", digits or 6, period or 30)
    assert len(of.secret) == 20
    record = world.records[0]
    assert record["kind"] == "totp"
    assert base64.b32decode(record["secret"]) == of.secret
    uri = urlsplit(record["uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert unquote(uri.path) == "/host.example:alice@host.example"
    assert parse_qs(uri.query)["issuer"] == ["host.example"]
    assert (made.credential.mark, made.credential.created) == (clock.wall // of.period, clock.wall)
    assert (made.credential.id, made.credential.uid, made.credential.user) == ("ab" * 16, ALICE, "alice")
    assert made.reveal is None


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_the_proving_code_is_used_up(steps: int) -> None:
    clock = Clock()
    made, _ = enrol(clock, steps)
    store = Memory(account(made.credential))
    assert prove(store, clock, code_at(made.credential, clock(), steps)) is None


def test_three_codes_may_be_tried_and_nothing_is_made_without_a_right_one() -> None:
    clock = Clock()
    made, world = enrol(clock, "", "12", 0)
    assert made.credential.factor == "totp"
    assert len(world.asked) == 3
    with pytest.raises(RefusedError) as refused:
        enrol(clock, "", 5, -5, 0)
    assert refused.value.code == "refused"
    assert "\n" not in refused.value.message


def test_secrets_are_fresh_and_long_enough() -> None:
    clock = Clock()
    secrets = {Parameters.unpack(enrol(clock, 0)[0].credential.material).secret for _ in range(20)}
    assert len(secrets) == 20
    assert {len(secret) for secret in secrets} == {20}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("algorithm", "MD5"),
        ("algorithm", "sha1"),
        ("algorithm", ""),
        ("algorithm", 1),
        ("algorithm", []),
        ("algorithm", {"SHA1": 1}),
        ("digits", 5),
        ("digits", 9),
        ("digits", 0),
        ("digits", True),
        ("digits", 6.0),
        ("digits", "6"),
        ("digits", 10**400),
        ("digits", float("nan")),
        ("period", 0),
        ("period", -30),
        ("period", 31),
        ("period", 30.0),
        ("period", False),
        ("period", [30]),
    ],
)
def test_an_option_that_apps_do_not_know_is_refused(option: str, value: object) -> None:
    with pytest.raises(RefusedError) as refused:
        enrol(Clock(), 0, **{option: value})
    assert refused.value.code == "invalid"
    assert refused.value.message.startswith(option)
    assert "\n" not in refused.value.message


def test_details_tell_nothing_secret() -> None:
    made, world = enrol(Clock(), 0)
    details = FACTOR.details(made.credential)
    assert details == {"algorithm": "SHA1", "digits": 6, "period": 30}
    assert world.records[0]["secret"] not in str(details)
