"""Foreign words at the real PAM stack (L03, R10, R12), and credentials that go while a prompt is open (R16)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest
from callers import call, strangers
from hosts import Scene, records
from machine import Machine
from people import Town, charge, manage, sql

from pam_mfa.outcome import Outcome
from pam_mfa.throttle import LIMIT

THREE = ["000000"] * 3
PROMPT = "Verification code: "
AGAIN = "Not accepted (each code works once). Verification code: "
FORGED = "\n<0>pam-mfa[1]: login GRANTED reason=proven user=root"
NOT_PLAIN = [FORGED, "\r", "\x1b[2J", "\x7f", "\x9b31m", "\u202eecila", "\u2028", "é", "x" * 300]
ODD = ["%s%n%x", "'; DROP TABLE credential; --", "$(id)", "../../etc/passwd", '"', "\\"]
NAMES = [
    *NOT_PLAIN, ".", "..", "../alice", "a/b", "alice/", "alice:x", "alice alice", " alice", "alice ", "~alice",
    "-alice", "1001:alice", "\uff41lice", "\uff21lice", "ali\u0441e", "alice,bob", "$", "alice$x",
    "a" * 257, "a" * 4096,
]  # fmt: skip


@pytest.fixture
def served(machine_of_people: Machine, town: Town) -> Iterator[Scene]:
    """By the service: of what the shim refuses nobody else hears."""
    scene = Scene(machine_of_people, "service", town.people())
    yield scene
    scene.close()


def one_line_each(machine: Machine) -> bool:
    """Whether every line of the log is plain text that begins as programs here begin theirs."""
    return all(line.isascii() and line.isprintable() and line.startswith("<") for line in machine.journal())


# Names


def test_l03_a_name_that_is_not_portable_is_used_for_nothing(served: Scene) -> None:
    """Not even with a code that is right for somebody; nor does it come into the log."""
    code = served.alice.code()
    for user in NAMES:
        login = served.host.login(user, code)
        assert (login.code, login.prompts) == ("AUTH_ERR", []), user
    said = served.machine.wait_for_journal("user : the user name is not portable", len(NAMES))
    assert said == served.machine.journal()
    assert records(served.machine) == []
    assert one_line_each(served.machine)


@pytest.mark.parametrize("user", ["Alice", "ALICE", "alice$", "alice.", "alice@machine", "machine\\alice", "{uid}"])
def test_l03_a_name_that_is_nearly_somebodys_is_nobodys(scene: Scene, user: str) -> None:
    """And accounts are no files: a name that can be a path somewhere finds nothing."""
    name = user.format(uid=scene.alice.uid)
    codes = [scene.alice.code() for _ in range(3)]
    assert scene.login(name, *codes).code == "MAXTRIES"
    assert scene.reason == "unenrolled"
    assert scene.login("alice", codes[0]).code == "SUCCESS"


# What hosts say


def test_r10_what_is_not_plain_ends_the_login(served: Scene) -> None:
    for item, text in product(("rhost", "tty", "ruser"), NOT_PLAIN):
        login = served.host.login("alice", "000000", **{item: text})
        assert (login.code, login.prompts) == ("AUTH_ERR", []), (item, text)
    assert records(served.machine) == []
    assert one_line_each(served.machine)


def test_r10_what_is_plain_is_a_word_like_any_other(scene: Scene) -> None:
    for text in ODD:
        items = dict.fromkeys(("rhost", "tty", "ruser"), text)
        assert scene.login("alice", "", scene.alice.code(), **items).code == "SUCCESS"
        assert records(scene.machine)[-1]["rhost"] == text.replace("\\", "\\x5c").replace('"', "\\x22")
    assert one_line_each(scene.machine)


def test_r10_what_callers_say_is_one_escaped_line(machine_of_people: Machine, town: Town) -> None:
    """Whoever speaks to the socket itself is held back by no shim."""
    served, alice = machine_of_people, town.people()["alice"]
    served.service.start()
    (eve,) = strangers(served, 1)
    for text in NOT_PLAIN[:-1]:
        words = {"ruser": text, "rhost": text, "tty": text}
        assert call(served, "user", eve.uid).hello(f"alice{text}", alice.uid, text, **words).outcome is Outcome.DENIED
        one = call(served).hello(f"alice{text}", None, text, **words).answer(*THREE)
        assert one.outcome is Outcome.TRIES_SPENT
    served.wait_for_journal("login ", 2 * len(NOT_PLAIN[:-1]))
    assert one_line_each(served)
    found = records(served)
    assert [record["outcome"] for record in found] == ["DENIED", "TRIES_SPENT"] * (len(NOT_PLAIN) - 1)
    assert {record["reason"] for record in found} == {"peer_denied", "unenrolled"}


def test_r12_a_name_that_was_put_into_the_store_reaches_no_terminal_and_no_second_line(scene: Scene) -> None:
    """Names alone are not sealed; who can write the file could choose them."""
    for label, code in zip(NOT_PLAIN, scene.alice.recovery, strict=False):
        sql(scene.up(), "UPDATE credential SET label = ?", label)
        login = scene.login("alice", code)
        assert login.code == "SUCCESS"
        assert all(text.isascii() and text.isprintable() for text in (*login.prompts, *login.shown))
    assert one_line_each(scene.machine)
    assert [record["outcome"] for record in records(scene.machine)] == ["GRANTED"] * len(NOT_PLAIN)


# R16: gone while the prompt is open


def removed(scene: Scene) -> None:
    for token in scene.alice.tokens:
        manage(scene.machine, "remove", scene.alice, credential=token.label)


def removed_with_the_account(scene: Scene) -> None:
    removed(scene)
    manage(scene.machine, "remove", scene.alice, credential="recovery codes")


def disabled(scene: Scene) -> None:
    charge(scene.machine, scene.alice, LIMIT)


GONE: dict[str, tuple[Callable[[Scene], None], str]] = {
    "removed": (removed, "gone"),
    "the last one": (removed_with_the_account, "gone"),
    "disabled": (disabled, "disabled"),
}


@pytest.mark.parametrize("case", GONE)
def test_r16_what_goes_while_the_prompt_is_open_opens_nothing(scene: Scene, case: str) -> None:
    happen, reason = GONE[case]
    scene.up()
    scene.host.begin("alice")
    assert scene.host.prompt() == PROMPT
    happen(scene)
    for _ in range(3):
        scene.host.answer(scene.alice.code())
        if not isinstance(end := scene.host.prompt_or_end(), str):
            break
    assert not isinstance(end, str)
    assert end.code == "MAXTRIES"
    assert scene.expect_record(0)["reason"] == reason


def test_r16_renewed_recovery_codes_end_those_that_are_about_to_be_given(scene: Scene) -> None:
    scene.up()
    scene.host.begin("alice")
    assert scene.host.prompt() == PROMPT
    manage(scene.machine, "recovery", scene.alice, renew=True)
    scene.host.answer(scene.alice.recovery[0])
    assert scene.host.prompt() == AGAIN
    scene.host.answer(None)
    assert scene.host.end().code == "CONV_ERR"
