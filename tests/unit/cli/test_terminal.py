"""At a real terminal: hidden and visible prompts, the menu, Ctrl-C, the QR code, and what hostile text does to it."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
import segno
from manage_double import Double, Peer

from pam_mfa.cli import show
from pam_mfa.cli.exits import Exit
from pam_mfa.wire import Type

from .conftest import command, environment
from .test_commands import SECRET, URI, enrolment

DEADLINE = 30


class Screen:
    """`pam-mfa` at a terminal, and everything it wrote there."""

    def __init__(self, root: Path, *arguments: str, **more: str) -> None:
        program, *rest = command(root, *arguments)
        self.child: Any = pexpect.spawn(
            program, rest, env=environment(**more), encoding="utf-8", dimensions=(60, 120), timeout=DEADLINE, echo=True
        )
        self.text = ""

    def read(self, expected: str) -> str:
        """What is written up to and with `expected`."""
        self.child.expect_exact(expected)
        written: str = self.child.before + self.child.after
        self.text += written
        return written

    def end(self) -> int:
        """The exit code, when the program has ended by itself."""
        self.child.expect(pexpect.EOF)
        self.text += self.child.before
        self.child.close()
        assert self.child.signalstatus is None
        return int(self.child.exitstatus)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.child.child_fd)[3] & termios.ECHO)


@pytest.fixture
def enrolling(root: Path) -> Iterator[Double]:
    with Double(root, enrolment) as double:
        yield double


# --------------------------------------------------------------------------------------------------------- prompts


def test_the_whole_enrolment(root: Path, enrolling: Double) -> None:
    screen = Screen(root, "enroll")
    screen.read("Number [1]: ")
    screen.child.sendline("5")
    screen.read("from 1 to 4")
    screen.read("Number [1]: ")
    screen.child.sendline("")
    screen.read("Password of root: ")
    assert not screen.echoes()
    screen.child.sendline("correct horse")
    screen.read("Code that the app shows now: ")
    assert screen.echoes()
    screen.child.sendline("123456")
    assert screen.end() == Exit.DONE
    assert enrolling.requests[0]["args"] == {"factor": "totp"}
    assert "correct horse" not in screen.text
    assert "  1) totp " in screen.text


def test_the_menu_takes_a_name(root: Path) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        screen = Screen(root, "enroll")
        screen.read("Number [1]: ")
        screen.child.sendline("Recovery")
        assert screen.end() == Exit.DONE
    assert double.requests[0]["args"] == {"factor": "recovery"}


@pytest.mark.parametrize("key", ["c", "d"])
@pytest.mark.parametrize("at", ["Password of root: ", "Code that the app shows now: "])
def test_giving_up_at_a_prompt(root: Path, enrolling: Double, at: str, key: str) -> None:
    screen = Screen(root, "enroll", "totp")
    if not at.startswith("Password"):
        screen.read("Password of root: ")
        screen.child.sendline("correct horse")
    screen.read(at)
    screen.child.sendcontrol(key)
    assert screen.end() == Exit.ABORTED
    assert screen.text.splitlines()[-1] == "pam-mfa: aborted; run the command again to start over"
    assert enrolling.gave_up.wait(DEADLINE)
    assert "Traceback" not in screen.text


def test_giving_up_while_the_service_works(root: Path) -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.tell("one moment")
        peer.receive()

    with Double(root, script) as double:
        screen = Screen(root, "list")
        screen.read("one moment")
        screen.child.sendintr()
        assert screen.end() == Exit.ABORTED
        assert double.gave_up.wait(DEADLINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_ended_at_a_hidden_prompt_gives_the_echo_back(root: Path, enrolling: Double, number: int) -> None:
    with Screen(root, "enroll", "totp").child as child:
        child.expect_exact("Password of root: ")
        assert not termios.tcgetattr(child.child_fd)[3] & termios.ECHO
        child.kill(number)
        child.expect(pexpect.EOF)
        assert termios.tcgetattr(child.child_fd)[3] & termios.ECHO
        child.wait()
        assert child.exitstatus == 128 + number


def test_bytes_that_are_no_text_are_asked_for_again(root: Path, enrolling: Double) -> None:
    screen = Screen(root, "enroll", "totp")
    screen.read("Password of root: ")
    os.write(screen.child.child_fd, b"\xff\xfe\n")
    screen.read("not text in this terminal's encoding")
    screen.read("Password of root: ")
    screen.child.sendcontrol("c")
    assert screen.end() == Exit.ABORTED


def test_hostile_text_has_no_power_over_the_terminal(root: Path) -> None:
    evil = "a\x1b[2J\x9b31m\x07\rb\u202ec\x00d"

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.send(Type.TELL, b"\0" + evil.replace("\x00", "").encode())
        peer.send(Type.WARN, evil.replace("\x00", "").encode())
        peer.ask(evil.replace("\x00", "") + "\n  two: ")
        peer.done("refused", evil)

    with Double(root, script):
        screen = Screen(root, "list")
        screen.read("two: ")
        screen.child.sendline("x")
        assert screen.end() == Exit.REFUSED
    assert screen.text.count("a [2J 31m  b c") == 4
    assert not set(screen.text) & {"\x1b", "\x9b", "\x07", "\u202e", "\x00"}


# --------------------------------------------------------------------------------------------------------- QR code


def modules(rows: list[str]) -> list[list[int]]:
    """The modules that half blocks show: 1 is dark, which is where nothing is printed."""
    tops = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    matrix = []
    for row in rows:
        matrix.append([tops[block][0] for block in row])
        matrix.append([tops[block][1] for block in row])
    return matrix


def expected() -> list[list[int]]:
    return [list(row) for row in segno.make(URI, micro=False, error="L", boost_error=False).matrix_iter(border=4)]


def shown(root: Path, **more: str) -> list[str]:
    """The lines of the QR code at a terminal."""
    screen = Screen(root, "enroll", "totp", **more)
    screen.read("Password of root: ")
    screen.child.sendline("correct horse")
    written = screen.read("Code that the app shows now: ")
    screen.child.sendline("123456")
    assert screen.end() == Exit.DONE
    assert SECRET in written
    return written.partition("authenticator app:\r\n\r\n")[2].partition("\r\n\r\n")[0].split("\r\n")


def test_the_qr_code_is_the_uri(root: Path, enrolling: Double) -> None:
    rows = shown(root)
    assert all(row.startswith(show.BLACK_ON_WHITE) and row.endswith(show.PLAIN) for row in rows)
    plain = [row.removeprefix(show.BLACK_ON_WHITE).removesuffix(show.PLAIN) for row in rows]
    assert modules(plain)[: len(expected())] == expected()


def test_no_colours_where_none_are_wanted(root: Path, enrolling: Double) -> None:
    assert modules(shown(root, NO_COLOR="1"))[: len(expected())] == expected()
    assert modules(shown(root, TERM="dumb"))[: len(expected())] == expected()


def test_a_terminal_without_utf8_gets_ascii(root: Path, enrolling: Double) -> None:
    rows = shown(root, LC_ALL="C", NO_COLOR="1")
    assert all(row.isascii() for row in rows)
    assert [[0 if row[at] == "#" else 1 for at in range(0, len(row), 2)] for row in rows] == expected()
