"""Codes at the real PAM stack, by service and engine: which are accepted, how often, and what a refusal looks like."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyotp
import pytest
from hosts import Scene, records
from people import Person, Record, manage, sql, step_now

PROMPT = "Verification code: "
AGAIN = "Not accepted (each code works once). Verification code: "


def test_the_right_code_is_accepted(scene: Scene) -> None:
    login = scene.login("alice", scene.alice.code())
    assert login.code == "SUCCESS"
    assert (login.prompts, login.shown, login.delays) == ([PROMPT], [], [])
    assert scene.reason == "proven"


def test_the_record_names_who_and_with_what(scene: Scene) -> None:
    token = scene.alice.tokens[0]
    code = scene.alice.code()
    assert scene.login("alice", code, tty="pts/7", rhost="client.example").code == "SUCCESS"
    (record,) = records(scene.machine)
    assert record["outcome"] == "GRANTED"
    expected = {"factor": "totp", "label": token.label, "service": "mfa", "user": "alice", "tty": "pts/7"}
    assert record.items() >= expected.items()
    assert (record["rhost"], record["uid"]) == ("client.example", str(scene.alice.uid))
    assert code not in " ".join(scene.machine.journal())


def test_three_wrong_answers_end_it(scene: Scene) -> None:
    login = scene.login("alice", *[scene.alice.wrong()] * 3, scene.alice.code())
    assert login.code == "MAXTRIES"
    assert login.prompts == [PROMPT, AGAIN, AGAIN]
    assert scene.reason == "wrong"


@pytest.mark.parametrize("wrong", [1, 2])
def test_the_right_code_is_accepted_after_wrong_ones(scene: Scene, wrong: int) -> None:
    login = scene.login("alice", *[scene.alice.wrong()] * wrong, scene.alice.code())
    assert login.code == "SUCCESS"
    assert login.prompts == [PROMPT] + [AGAIN] * wrong


def test_a_code_works_once(scene: Scene) -> None:
    code = scene.alice.code()
    assert scene.login("alice", code).code == "SUCCESS"
    assert scene.login("alice", code, None).code == "CONV_ERR"
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    assert scene.reason == "replayed"


def test_a_step_before_the_last_one_is_refused(scene: Scene) -> None:
    first = scene.people["bob"].code()
    later = scene.people["bob"].code()
    assert scene.login("bob", later).code == "SUCCESS"
    assert scene.login("bob", first, first, first).code == "MAXTRIES"
    assert scene.reason == "replayed"


def out_of_window(steps: range) -> Callable[[Person], str]:
    """A code of one of these steps, counted from now; none that is right by chance."""

    def code(person: Person) -> str:
        (token,) = person.tokens
        right = {token.at(step_now() + near) for near in range(-1, 3)}
        return next(code for off in steps if (code := token.at(step_now() + off)) not in right)

    return code


@pytest.mark.parametrize(
    "code",
    [pytest.param(out_of_window(range(-2, -9, -1)), id="late"), pytest.param(out_of_window(range(3, 9)), id="early")],
)
def test_a_code_outside_of_the_window_is_wrong(scene: Scene, code: Callable[[Person], str]) -> None:
    given = code(scene.people["bob"])
    assert scene.login("bob", given, given, given).code == "MAXTRIES"
    assert scene.reason == "wrong"


def test_the_code_of_the_step_before_is_still_accepted(scene: Scene) -> None:
    (token,) = scene.people["bob"].tokens
    while True:
        forget_marks(scene)
        step = step_now()
        login = scene.login("bob", token.at(step - 1))
        if step_now() == step:  # else it had become the one before that while we looked
            break
    assert login.code == "SUCCESS"


def forget_marks(scene: Scene) -> None:
    """As if no token had ever been used: enrolment itself used the step before."""
    sql(scene.up(), "UPDATE credential SET mark = 1 << 62 WHERE factor = 'totp'")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " ",
        "0",
        "12345",
        "1234567890",
        "x" * 512,
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "\xff\xfe",
        "-12345",
        "0x1234",
    ],
)
def test_what_has_no_form_of_a_code_is_a_wrong_answer(scene: Scene, answer: str) -> None:
    assert scene.login("alice", answer, answer, answer, scene.alice.code()).code == "MAXTRIES"
    assert scene.reason == "wrong"


@pytest.mark.parametrize("flags", [0, 1, 0x8000])
def test_an_empty_answer_is_counted_whatever_the_flags(scene: Scene, flags: int) -> None:
    login = scene.login("alice", "", "", "", flags=flags)
    assert login.code == "MAXTRIES"
    assert login.prompts == [PROMPT, AGAIN, AGAIN]


def test_digits_that_are_not_ascii_are_not_digits(scene: Scene) -> None:
    full_width = "".join(chr(0xFEE0 + ord(digit)) for digit in scene.alice.code())
    assert scene.login("alice", full_width, full_width, full_width).code == "MAXTRIES"


@pytest.mark.parametrize("decorate", ["{} ", " {}", "+{}", "{}\n", "0{}"])
def test_a_code_with_something_around_it_is_wrong(scene: Scene, decorate: str) -> None:
    answer = decorate.format(scene.alice.code())
    assert scene.login("alice", answer, answer, answer).code == "MAXTRIES"


def test_an_answer_that_is_too_long_ends_the_conversation(scene: Scene) -> None:
    assert scene.login("alice", "1" * 513).code == "CONV_ERR"
    assert scene.reason == "aborted"


@pytest.mark.parametrize("options", [{"algorithm": "SHA256", "digits": 8}, {"algorithm": "SHA512"}, {"period": 60}])
def test_other_kinds_of_totp(scene: Scene, options: dict[str, object]) -> None:
    person, given = scene.people["carol"], list[pyotp.TOTP]()

    def now(records: list[Record]) -> str:
        totp = pyotp.parse_uri(next(record["uri"] for record in records if record["kind"] == "totp"))
        assert isinstance(totp, pyotp.TOTP)
        given.append(totp)
        return totp.at(int(time.time()) - totp.interval)

    manage(scene.up(), "enroll", person, now, factor="totp", **options)
    assert scene.login("carol", given[-1].now()).code == "SUCCESS"


def test_another_users_code_is_wrong(scene: Scene) -> None:
    code = scene.people["bob"].code()
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    assert scene.login("bob", code).code == "SUCCESS"


def test_every_token_of_an_account_counts(scene: Scene) -> None:
    for token in scene.alice.tokens:
        assert scene.login("alice", token.at(step_now())).code == "SUCCESS"


# Recovery codes


@pytest.mark.parametrize(
    "form", [str, str.lower, lambda code: code.replace("-", ""), lambda code: code.replace("-", " ")]
)
def test_a_recovery_code_is_accepted_once(scene: Scene, form: Callable[[str], str]) -> None:
    code = form(scene.alice.recovery[3])
    login = scene.login("alice", code)
    assert login.code == "SUCCESS"
    assert login.shown == ["Recovery code used: 9 left."]
    assert records(scene.machine)[-1]["factor"] == "recovery"
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    assert scene.reason == "replayed"


def test_letters_that_look_like_digits_are_read_as_such(scene: Scene) -> None:
    code = next(code for code in scene.alice.recovery if "0" in code or "1" in code)
    assert scene.login("alice", code.replace("0", "o").replace("1", "l")).code == "SUCCESS"


def test_who_runs_out_of_recovery_codes_is_told(scene: Scene) -> None:
    hint = " Make new ones with: pam-mfa recovery --new"
    for code, left in zip(scene.alice.recovery, reversed(range(10)), strict=True):
        text = f"Recovery code used: {left} left." + (hint if left <= 3 else "")
        assert scene.login("alice", code).shown == [text]
    assert scene.login("alice", *[scene.alice.recovery[0]] * 3).code == "MAXTRIES"


def test_another_users_recovery_code_is_wrong(scene: Scene) -> None:
    assert scene.login("alice", *[scene.people["bob"].recovery[0]] * 3).code == "MAXTRIES"
    assert scene.reason == "wrong"


def test_the_services_rule_says_which_methods_count(scene: Scene) -> None:
    scene.configure("[[rule]]\nservices = ['mfa']\nmethods = ['totp']")
    assert scene.login("alice", *scene.alice.recovery[:3]).code == "MAXTRIES"
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"
