"""Has somebody edit a text until nothing is wrong with it, or they give up; as visudo does."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, RefusedError
from .terminal import Terminal

EDITORS = ("editor", "vi", "nano")
QUESTION = "What now? (e)dit again, or (q)uit and leave the settings as they are [e]:"
KEPT = "the settings are as they were"


def edited(text: str, terminal: Terminal, check: Callable[[str], None], complain: Callable[[ConfigError], None]) -> str:
    """The text as its editor left it.

    Args:
        check: raises ConfigError where something is wrong with it.
        complain: shows that.

    Raises:
        RefusedError: they gave up, or there is no editor.
        AbortedError: nobody answers any more.
    """
    editor = _editor()
    with tempfile.TemporaryDirectory(prefix="pam-mfa-") as folder:
        path = Path(folder, "config.toml")
        path.write_text(text)
        while True:
            _run([*editor, str(path)])
            try:
                new = _read(path)
                check(new)
                return new
            except ConfigError as error:
                complain(error)
            if terminal.ask(QUESTION).strip().lower().startswith("q"):
                raise RefusedError("refused", KEPT)


def _editor() -> list[str]:
    """The command, without a shell: an editor with spaces in its name has to be quoted."""
    for name in ("VISUAL", "EDITOR"):
        try:
            if words := shlex.split(os.environ.get(name, "")):
                return words
        except ValueError:
            raise RefusedError("invalid", f"${name} has a quote too many or too few; {KEPT}") from None
    found = next(filter(shutil.which, EDITORS), None)
    if found is None:
        raise RefusedError("not_found", "there is no editor; set $EDITOR")
    return [found]


def _run(command: list[str]) -> None:
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise RefusedError("not_found", f"{command[0]}: {error.strerror}; set $EDITOR to another editor") from None
    if status != 0:
        raise RefusedError("refused", f"{command[0]} ended with {status}; {KEPT}")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ConfigError(["the text is not UTF-8"]) from None
    except OSError as error:
        raise RefusedError("refused", f"the editor left no file: {error.strerror}; {KEPT}") from None
