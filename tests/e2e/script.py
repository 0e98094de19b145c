"""What a terminal shows, as text to read and to keep: README.md tells how it is written, transcripts/ holds it."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine import PASSWORDS

FOLDER = Path(__file__).parent / "transcripts"
REWRITE = "TRANSCRIPTS"  # in the environment: "rewrite"
ASKED_FOR = ("password", "PIN", "code")
_PROGRAMS = re.compile(r"^/(?:usr/)?s?bin/")
_EVENT = re.compile("\0(.*?)\0")
_AHEAD = re.compile("(?:\0.*?\0)*")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_DAY = re.compile(r"\b\d{4}-\d\d-\d\d(?: \d\d:\d\d)?\b")
_SERIAL = re.compile(r"^(  Serial +)[0-9a-f]+$", re.MULTILINE)
_FINGERPRINT = re.compile(r"\bSHA256:[A-Za-z0-9+/]{43}")
_ID = re.compile(r"\b[0-9a-f]{8}$", re.MULTILINE)  # the last column of `pam-mfa list`
# Codes, seeds, QR codes and recovery codes, whoever's they are.
_SECRETS = re.compile(
    r"otpauth://\S+|(?:[0-9A-Z]{4}[- ]){3,7}[0-9A-Z]{4}|\b[A-Z2-7]{32}\b|\b[0-9]{6,8}\b|^.*[\u2580-\u259f].*$",
    re.MULTILINE,
)


class Script:
    """What one terminal shows: a file for pexpect to log to.

    Args:
        command: that was typed there, "" for none.
        user: as whom, None for root.
    """

    def __init__(self, command: str = "", user: str | None = None) -> None:
        prompt = f"{user}$" if user else "root#"
        self._text = command and f"{prompt} {command}\n"

    def write(self, text: str) -> None:
        """The terminal shows more."""
        self._text += text

    def flush(self) -> None:
        """Nothing waits."""

    def typed_unseen(self) -> None:
        """Something was typed that is not shown."""
        prompt = self._text.rpartition("\n")[2].lower()
        self._text += f"<{next((word for word in ASKED_FOR if word.lower() in prompt), 'hidden')}>"

    def happened(self, what: str) -> None:
        """Something was done elsewhere."""
        self._text += f"\0<{what}>\0"

    @property
    def text(self) -> str:
        """All of it, without secrets and what differs from day to day."""
        text = _STYLE.sub("", self._text).rstrip()
        lines = "\n".join(line.strip("\r").rstrip() for line in _apart(text))
        same = _SERIAL.sub(r"\1<the number>", _DAY.sub("<the date>", lines))
        same = _FINGERPRINT.sub("SHA256:<the fingerprint>", same)
        return redacted(_ID.sub("<the id>", same))


def as_typed(argv: Sequence[str]) -> str:
    """A command as people type it."""
    return shlex.join(_PROGRAMS.sub("", word) for word in argv)


def _apart(text: str) -> Iterator[str]:
    """Lines, with events on lines of their own.

    Most happen when the start of a line was read. Whether its end was too is chance, and makes no difference.
    """
    for line in text.split("\n"):
        before = len(_EVENT.findall(_AHEAD.match(line)[0]))  # type: ignore[index]
        shown, events = _EVENT.sub("", line), _EVENT.findall(line)
        yield from events[:before]
        if shown or not before:
            yield shown
        yield from events[before:]


def redacted(text: str) -> str:
    """Without anything that could open something."""
    for password in PASSWORDS.values():
        text = text.replace(password, "<password>")
    return _SECRETS.sub("<redacted>", text)


def joined(scripts: Sequence[Script]) -> str:
    """Of several terminals, one after the other."""
    return "\n\n".join(script.text for script in scripts if script.text) + "\n"


def compare(name: str, scripts: Sequence[Script]) -> None:
    """Raises AssertionError where transcripts/NAME.txt, which is written anew on demand, says something else."""
    path, text = FOLDER / f"{name}.txt", joined(scripts)
    if os.environ.get(REWRITE) == "rewrite":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    kept = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), f"transcripts/{path.name}", "now", lineterm="")
    assert text == kept, f"{REWRITE}=rewrite would take it over:\n" + "\n".join(lines)
