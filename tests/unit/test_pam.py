"""The libpam binding against the real libpam, with PAM files of the test's own and Linux-PAM's own modules."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from pam_mfa import pam
from pam_mfa.pam import Code, Flag, PamError, Style, Transaction

NOBODY = "no-such-user"
Said = list[tuple[Style, str]]


class Stack:
    """A directory of PAM files, and the transactions that use it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: Said = []
        self.answers: list[str | None] = []
        self.delays: list[tuple[Code, int]] = []

    def converse(self, style: Style, text: str) -> str | None:
        self.said.append((style, text))
        return self.answers.pop(0) if style in {Style.SECRET, Style.PROMPT} else None

    def __call__(self, *lines: str, user: str | None = NOBODY, **items: str) -> Transaction:
        (self.directory / "test").write_text("\n".join(lines) + "\n")
        (self.directory / "other").write_text("")
        return Transaction(
            "test",
            user,
            self.converse,
            str(self.directory),
            on_delay=lambda code, microseconds: self.delays.append((code, microseconds)),
            **items,
        )


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("success", Code.SUCCESS),
        ("auth_err", Code.AUTH_ERR),
        ("authinfo_unavail", Code.AUTHINFO_UNAVAIL),
        ("maxtries", Code.MAXTRIES),
        ("abort", Code.ABORT),
        ("conv_err", Code.CONV_ERR),
        ("user_unknown", Code.USER_UNKNOWN),
    ],
)
def test_codes_are_pams_own(stack: Stack, word: str, code: Code) -> None:
    with stack(f"auth required pam_debug.so auth={word}") as transaction:
        assert transaction.authenticate() is code


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("auth required pam_debug.so cred", "setcred"),
        ("account required pam_debug.so acct", "acct_mgmt"),
        ("session required pam_debug.so open_session", "open_session"),
        ("session required pam_debug.so close_session", "close_session"),
        ("password required pam_debug.so prechauthtok", "chauthtok"),
    ],
)
def test_every_call_reaches_the_stack(stack: Stack, kind: str, method: str) -> None:
    with stack(f"{kind}=perm_denied") as transaction:
        assert getattr(transaction, method)() is Code.PERM_DENIED


def test_names_are_those_of_the_header() -> None:
    assert (Code.SUCCESS, Code.AUTH_ERR, Code.AUTHINFO_UNAVAIL, Code.IGNORE, Code.ABORT) == (0, 7, 9, 25, 26)
    assert [code.value for code in Code] == list(range(32))
    assert pam.describe(Code.AUTH_ERR) == "Authentication failure"


def test_prompts_and_answers_travel(stack: Stack) -> None:
    stack.answers = ["wrong"]
    with stack("auth required pam_unix.so nodelay") as transaction:
        assert transaction.authenticate() is Code.USER_UNKNOWN
    assert stack.said == [(Style.SECRET, "Password: ")]


def test_pam_asks_for_the_user_where_there_is_none(stack: Stack) -> None:
    stack.answers = ["alice"]
    with stack("auth required pam_permit.so", user=None) as transaction:
        assert transaction.user is None
        transaction.authenticate()
        assert transaction.user in {"alice", "nobody"}  # pam_permit may name its own


def test_texts_come_without_a_question(stack: Stack) -> None:
    motd = stack.directory / "motd"
    motd.write_text("gr\u00fc\u00dfe\n")
    with stack(f"auth required pam_echo.so file={motd}", "auth required pam_permit.so") as transaction:
        assert transaction.authenticate() is Code.SUCCESS
    assert [(style, text.strip()) for style, text in stack.said] == [(Style.INFO, "gr\u00fc\u00dfe")]


@pytest.mark.parametrize("raw", [b"\xff\xfe\x80", "h\u00e9".encode("latin-1"), "\u2026".encode()])
def test_bytes_that_are_not_utf8_arrive_unchanged(stack: Stack, raw: bytes) -> None:
    seen = stack.directory / "seen"
    script = stack.directory / "see"
    script.write_text(f"#!/bin/sh\ntr -d '\\000' > {seen}\n")
    script.chmod(0o755)
    stack.answers = [raw.decode(errors="surrogateescape")]
    with stack(f"auth required pam_exec.so expose_authtok quiet {script}") as transaction:
        assert transaction.authenticate() is Code.SUCCESS
    assert seen.read_bytes() == raw


def test_no_answer_ends_the_conversation(stack: Stack) -> None:
    stack.answers = [None]
    with stack("auth required pam_unix.so nodelay") as transaction:
        assert transaction.authenticate() is not Code.SUCCESS
    assert len(stack.said) == 1


def test_what_the_conversation_raises_comes_out(stack: Stack) -> None:
    with stack("auth required pam_unix.so nodelay") as transaction:
        with pytest.raises(IndexError):  # there is no answer to pop
            transaction.authenticate()
        stack.answers = ["wrong"]
        assert transaction.authenticate() is not Code.SUCCESS, "the next call is not the last one's"


def test_an_answer_with_a_nul_is_refused(stack: Stack) -> None:
    stack.answers = ["a\0b"]
    with stack("auth required pam_unix.so nodelay") as transaction, pytest.raises(ValueError, match="NUL"):
        transaction.authenticate()


def test_delays_are_told_in_place_of_waiting(stack: Stack) -> None:
    with stack("auth optional pam_faildelay.so delay=3600000000", "auth required pam_deny.so") as transaction:
        assert transaction.authenticate() is Code.AUTH_ERR
    [(code, microseconds)] = stack.delays
    assert code is Code.AUTH_ERR
    assert microseconds > 0


def test_items_are_set(stack: Stack) -> None:
    seen = stack.directory / "seen"
    script = stack.directory / "see"
    script.write_text(f'#!/bin/sh\necho "$PAM_USER $PAM_TTY $PAM_RHOST $PAM_RUSER $PAM_SERVICE" > {seen}\n')
    script.chmod(0o755)
    line = f"auth required pam_exec.so quiet {script}"
    with stack(line, tty="tty1", rhost="192.0.2.1", ruser="bob", xdisplay=":0") as transaction:
        assert transaction.authenticate() is Code.SUCCESS
    assert seen.read_text().split() == [NOBODY, "tty1", "192.0.2.1", "bob", "test"]


def test_flags_are_passed(stack: Stack) -> None:
    motd = stack.directory / "motd"
    motd.write_text("hello\n")
    with stack(f"auth optional pam_echo.so file={motd}", "auth required pam_permit.so") as transaction:
        transaction.authenticate(Flag.SILENT)
    assert stack.said == []


def test_a_service_without_a_file_never_succeeds(stack: Stack) -> None:
    stack("auth required pam_permit.so").end()
    with Transaction("no-such-service", NOBODY, stack.converse, str(stack.directory)) as transaction:
        assert transaction.authenticate() is not Code.SUCCESS  # by the empty file "other"
    (stack.directory / "other").unlink()
    with pytest.raises(PamError):
        Transaction("no-such-service", NOBODY, stack.converse, str(stack.directory))


def test_a_missing_directory_is_refused(tmp_path: Path, stack: Stack) -> None:
    with pytest.raises(PamError, match="PAM_"):
        Transaction("test", NOBODY, stack.converse, str(tmp_path / "absent"))


@pytest.mark.parametrize(("service", "user"), [("a\0b", NOBODY), ("test", "a\0b")])
def test_names_with_a_nul_are_refused(stack: Stack, service: str, user: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        Transaction(service, user, stack.converse, str(stack.directory))


def test_after_the_end_nothing_works_and_nothing_crashes(stack: Stack) -> None:
    transaction = stack("auth required pam_permit.so")
    transaction.end()
    transaction.end()
    with pytest.raises(PamError):
        transaction.authenticate()


def test_transactions_are_independent_and_leave_nothing_behind(stack: Stack) -> None:
    stack.answers = ["x"] * 200
    for _ in range(100):
        with stack("auth required pam_unix.so nodelay") as first, stack("auth required pam_unix.so nodelay") as second:
            second.authenticate()
            first.authenticate()
        gc.collect()
    assert stack.answers == []
