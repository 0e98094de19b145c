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
    from ipaddress import IPv4Network, IPv6Network

MAX_LINE = 4096
MAX_SHOWN = 64
MAX_KEY = 256
MAPPED = "::ffff:0:0/96"  # IPv4 addresses in IPv6 (RFC 4291 section 2.5.5.2); they are matched as IPv4
DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
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

    def whole(self, path: str, value: object, most: int) -> int | None:
        """A whole number from 0 to `most`; None for what is none."""
        if type(value) is int and 0 <= value <= most:  # bool is an int to Python
            return value
        self.problem(path, f"must be a whole number from 0 to {most}")
        return None

    def time(self, path: str, value: object, least: int, most: int) -> int | None:
        """A time in seconds, written as "30s", "10m", "4h" or "1d"; None for what is none."""
        seconds = duration(value) if isinstance(value, str) else None
        if seconds is not None and least <= seconds <= most:
            return seconds
        self.problem(path, f'must be a time from {spelled(least)} to {spelled(most)}, for example "10m"')
        return None

    def sentence(self, path: str, value: object, most: int) -> str | None:
        """A printable text of one line; None for what is none."""
        if isinstance(value, str) and 0 < len(value) <= most and value.isprintable():
            return value
        self.problem(path, f"must be a text of 1 to {most} printable characters")
        return None

    def networks(self, path: str, value: object) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks of addresses."""
        networks = []
        for at, text in self.names(path, value).items():
            network = _network(text)
            if network is None:
                self.problem(at, f"{quoted(text)} is not a network, for example 192.0.2.0/24 or 2001:db8::/32")
            else:
                networks.append(network)
        return self.not_empty(path, value, tuple(networks))

    def not_empty(self, path: str, value: object, values: tuple[T, ...]) -> tuple[T, ...]:
        """A condition that is there and names nobody would hold for nobody, or for everybody: who knows."""
        if value == []:
            self.problem(path, "empty: a rule for nobody; leave the key out for everybody")
        return values

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


def duration(text: str) -> int | None:
    """Seconds of a time such as "30s", "10m", "4h" or "1d"; None where it is none."""
    found = DURATION.fullmatch(text)
    return int(found[1]) * UNITS[found[2]] if found else None


def spelled(seconds: int) -> str:
    """A time as it is written: in the largest unit of which it is a whole number."""
    unit = max((unit for unit, size in UNITS.items() if seconds % size == 0), key=lambda unit: UNITS[unit])
    return f"{seconds // UNITS[unit]}{unit}"


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


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """A network that addresses can be in: of no single interface, and IPv4 in its own form."""
    from ipaddress import IPv6Network, ip_network  # who has no networks does not pay for it

    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = isinstance(network, IPv6Network) and network.subnet_of(IPv6Network(MAPPED))
    return None if mapped or "%" in text else network
