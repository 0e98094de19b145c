"""The transcripts themselves: that they can be told apart, come out the same each time, and hold no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e import script
from e2e.script import Script, as_typed, compare
from e2e.terminals import Terminals
from machine import PASSWORDS, Machine

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Transcripts of this test alone."""
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    monkeypatch.delenv(script.REWRITE, raising=False)
    return tmp_path


def told(*parts: str) -> Script:
    """A sudo that shows these parts; what stands between angle brackets happened."""
    scene = Script("sudo id -u", "alice")
    for part in parts:
        if part.startswith("<"):
            scene.happened(part[1:-1])
        else:
            scene.write(part)
    return scene


@pytest.mark.parametrize(
    "parts",
    [
        ("Touch", "<touched>", " it\r\n", "0\r\n"),
        ("Touch it", "<touched>", "\r\n0\r\n"),
        ("Touch it\r", "<touched>", "\n0\r\n"),
        ("Touch it\r\n", "<touched>", "0\r\n"),
    ],
)
def test_where_an_event_stands_is_no_matter_of_how_much_was_read(parts: tuple[str, ...]) -> None:
    assert told(*parts).text == "alice$ sudo id -u\nTouch it\n<touched>\n0"


def test_events_keep_their_order() -> None:
    assert told("Touch", "<out>", "<in>", "\r\n", "<out>", "<in>").text.splitlines()[2:] == 2 * ["<out>", "<in>"]


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("[sudo] password for alice: ", "<password>"),
        ("Password: ", "<password>"),
        ('PIN of your security key "blue nano" (8 tries left): ', "<PIN>"),
        ("password\r\nVerification code: ", "<code>"),
        ("Name: ", "<hidden>"),
    ],
)
def test_what_is_typed_unseen_is_called_what_was_asked_for(prompt: str, shown: str) -> None:
    scene = told(prompt)
    scene.typed_unseen()
    scene.write("\r\n0\r\n")
    assert scene.text.endswith(f"{prompt}{shown}\n0".replace("\r", ""))


def test_neither_secrets_nor_dates_are_kept() -> None:
    text = f"{PASSWORDS['alice']} 135790\r\n2026-11-22  \x1b[1m10 left\x1b[0m  0a1b2c3d\r\n"
    assert told(text).text.splitlines()[1:] == ["<password> <redacted>", "<the date>  10 left  <the id>"]


def test_a_command_is_shown_as_people_type_it() -> None:
    assert as_typed(["/usr/bin/sudo", "/bin/cat", "/etc/shadow", "a b"]) == "sudo cat /etc/shadow 'a b'"
    assert Script("id", None).text == "root# id"


def test_what_differs_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [told("0\r\n"), Script(), told("1\r\n")]
    with pytest.raises(AssertionError, match=r"rewrite would take it over(?s:.*)\+0"):
        compare("sudo", scenes)
    monkeypatch.setenv(script.REWRITE, "rewrite")
    compare("sudo", scenes)
    monkeypatch.delenv(script.REWRITE)
    compare("sudo", scenes)
    assert (folder / "sudo.txt").read_text() == "alice$ sudo id -u\n0\n\nalice$ sudo id -u\n1\n"
    with pytest.raises(AssertionError, match=r"-1(?s:.*)\+2"):
        compare("sudo", [*scenes[:2], told("2\r\n")])


def test_a_story_is_of_what_happens_in_it(machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(script.REWRITE, "rewrite")
    terminals = Terminals(machine)
    terminals.run(["/bin/echo", "before"]).ends_with(0)
    with terminals.story("echo"):
        terminals.happened("the cue")
        terminals.run(["/bin/echo", "within"], user="bob").ends_with(0)
    terminals.run(["/bin/echo", "after"]).ends_with(0)
    assert (folder / "echo.txt").read_text() == "<the cue>\n\nbob$ echo within\nwithin\n"


def test_a_story_goes_on_to_the_end_of_every_terminal(machine: Machine, folder: Path) -> None:
    terminals = Terminals(machine)
    with pytest.raises(AssertionError, match="in use"), terminals.story("cat"):
        terminals.run(["/bin/cat"])
    terminals.close()


def test_every_transcript_belongs_to_a_test() -> None:
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    kept = [path.stem for path in (HERE / "transcripts").iterdir()]
    assert [name for name in kept if f'"{name}"' not in tests] == []
    assert len(kept) >= 10
