"""What a TOML text holds, converted field by field: every problem at once, each with its key path."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from .errors import ConfigError

if TYPE_CHECKING:
    from datetime import date

MAX_LINE = 4096
MAX_SHOWN = 64
MAX_KEY = 256
BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
NEWLINE = "\n"

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)


class Fields:
    """One conversion. Every method returns a usable value and notes in `problems` why it is not the text's."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(self, path: str, value: object, known: tuple[str, ...] | None = None) -> dict[str, object]:
        """A table, and the keys that it may have; None for any."""
        if not isinstance(value, dict):
            self.problem(path, f"{kind(value)}; must be a table")
            return {}
        for key in value:
            if known is not None and key not in known:
                self._unknown(path, key, known)
        return value

    def _unknown(self, path: str, key: str, known: tuple[str, ...]) -> None:
        import difflib  # a good file does not pay for it

        near = difflib.get_close_matches(key[:MAX_KEY], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"
        self.problem(join(path, key), f"unknown key; {hint}")

    def names(self, path: str, value: object) -> dict[str, str]:
        """The texts of a list without doubles, by key path."""
        if not isinstance(value, list):
            self.problem(path, f"{kind(value)}; must be a list of texts")
            return {}
        names: dict[str, str] = {}
        seen: set[str] = set()
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if not isinstance(item, str):
                self.problem(at, f"{kind(item)}; must be a text")
            elif item in seen:
                self.problem(at, f"{quoted(item)} is named twice")
            else:
                names[at] = item
                seen.add(item)
        return names

    def choice(self, path: str, value: object, default: Choice) -> Choice:
        """One of the words of an enumeration, that of `default`."""
        words = type(default)
        if isinstance(value, str) and value in tuple(words):
            return words(value)
        shown = quoted(value) if isinstance(value, str) else kind(value)
        self.problem(path, f"{shown}; one of: {', '.join(words)}")
        return default

    def truth(self, path: str, value: object, default: bool) -> bool:
        """true or false."""
        if isinstance(value, bool):
            return value
        self.problem(path, f"{kind(value)}; must be true or false")
        return default

    def day(self, path: str, value: object, default: date | None) -> date | None:
        """A date without a time."""
        from datetime import date, datetime  # tomllib has them

        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        self.problem(path, f"{kind(value)}; must be a date, for example 2030-12-31")
        return default

    def some(self, path: str, value: object, known: tuple[str, ...], what: str) -> tuple[str, ...]:
        """At least one of the known names."""
        names = self.names(path, value)
        for at, name in names.items():
            if name not in known:
                self.problem(at, f"unknown {what} {quoted(name)}; one of: {', '.join(known)}")
        if value == []:
            self.problem(path, f"empty; at least one of: {', '.join(known)}")
        return tuple(names.values())

    def each(self, path: str, value: object, form: re.Pattern[str], what: str) -> tuple[str, ...]:
        """Names of that form."""
        names = self.names(path, value)
        for at, name in names.items():
            if not form.fullmatch(name):
                self.problem(at, f"{quoted(name)} is not {what}")
        return tuple(names.values())

    def problem(self, path: str, text: str) -> None:
        """Something is wrong with what stands at `path`."""
        self.problems.append(f"{path}: {text}")


def given(table: dict[str, object], key: str, read: Callable[[str, object, T], T], default: T, path: str = "") -> T:
    """What `read` makes of a key, `default` where it is not there."""
    return read(join(path, key), table[key], default) if key in table else default


def toml(text: str) -> dict[str, object]:
    """The top table. Raises ConfigError."""
    # tomllib takes quadratic time for the parts of a dotted key, and a key cannot be longer than its line.
    long = [number for number, line in enumerate(text.split(NEWLINE), 1) if len(line) > MAX_LINE]
    if long:
        raise ConfigError([f"line {number} is longer than {MAX_LINE} characters" for number in long])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(["nested too deeply"]) from None
    except ValueError as error:
        end = f"at line {text.count(NEWLINE) + 1}, column {len(text) - text.rfind(NEWLINE)}"
        message = _printable(str(error).replace("at end of document", end))
        # It may quote a key of any length, and ends with the place.
        raise ConfigError([message if len(message) <= 200 else f"{message[:140]}...{message[-57:]}"]) from None


def join(path: str, key: str) -> str:
    """The path of a key of the table at `path`."""
    shown = key if BARE_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


def quoted(text: str) -> str:
    """Foreign text for a problem: one line of ASCII, bounded."""
    return '"' + _printable(text[:MAX_SHOWN]).replace('"', '\\"') + ("..." if len(text) > MAX_SHOWN else "") + '"'


def kind(value: object) -> str:
    """What a value is, in a user's words."""
    return {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a table"}.get(
        type(value), "a date or time"
    )


def _printable(text: str) -> str:
    return ascii(text)[1:-1]
