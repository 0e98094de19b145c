"""Key paths into a TOML document, spelt as in the messages about a settings file: rule[0].methods, rule[office].users.

An entry of an array of tables goes by its index or by its `name`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ..errors import RefusedError

STEP = re.compile(r'(?:^|\.)(?:(?P<bare>[A-Za-z0-9_-]+)|"(?P<quoted>[^"\\]*)")|\[(?P<entry>[^][]+)\]')


def split(path: str) -> list[str]:
    """The steps of a path. Raises RefusedError."""
    steps: list[str] = []
    at = 0
    while at < len(path):
        found = STEP.match(path, at)
        if found is None:
            raise RefusedError("invalid", f"{path!r} is no key; write it as policy.methods or rule[0].methods")
        steps.append(next(filter(None, found.groups()), ""))
        at = found.end()
    return steps


def get(document: Any, path: str) -> Any:
    """The value at a path. Raises RefusedError where there is none."""
    found = document
    for step in split(path):
        found = _step(found, step, path)
    return found


def with_value(text: str, path: str, value: Any) -> str:
    """The text with another value at a path, its comments kept. Raises RefusedError."""
    try:
        document = tomlkit.parse(text)
        put(document, path, value)
        new = tomlkit.dumps(document)
    except TOMLKitError as error:  # where it understands less than tomllib, which reads the file
        raise RefusedError("invalid", f"{path} cannot be set here: {error}; run pam-mfa config edit") from None
    return _below_its_comment(text, new, split(path)[-1])


def _below_its_comment(old: str, new: str, key: str) -> str:
    """A line that came in anew, moved below the commented default where its table has one."""
    before, after = old.splitlines(), new.splitlines()
    at = next((number for number, line in enumerate(after) if line not in before[number : number + 1]), 0)
    if after[:at] + after[at + 1 :] != before:
        return new
    for number in range(at - 1, -1, -1):
        if after[number].startswith("["):
            break
        if re.match(rf"#\s*{re.escape(key)}\s*=", after[number]):
            after.insert(number + 1, after.pop(at))
            moved = "\n".join(after) + "\n"
            return moved if tomllib.loads(moved) == tomllib.loads(new) else new
    return new


def put(document: tomlkit.TOMLDocument, path: str, value: Any) -> None:
    """Set a value; tables on the way are made where they are missing. Raises RefusedError."""
    steps = split(path)
    if not steps or isinstance(value, Mapping):
        raise RefusedError("invalid", "one value at a time; for a whole table run pam-mfa config edit")
    inner: Any = document
    for step in steps[:-1]:
        if isinstance(inner, MutableMapping) and step not in inner:
            inner[step] = tomlkit.table()
        inner = _step(inner, step, path)
    if isinstance(inner, MutableMapping):
        inner[steps[-1]] = value
    elif isinstance(inner, MutableSequence):
        _put_entry(inner, steps[-1], path, value)
    else:
        raise _absent(path, steps[-1])


def parse_value(text: str) -> Any:
    """A value as TOML spells it; what is no TOML is a text without its quotes."""
    try:
        return tomlkit.value(text.strip())
    except TOMLKitError:
        return text


def _step(inner: Any, step: str, path: str) -> Any:
    if isinstance(inner, Mapping) and step in inner:
        return inner[step]
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return inner[_index(inner, step, path)]
    raise _absent(path, step)


def _index(entries: Sequence[Any], step: str, path: str) -> int:
    named = [at for at, entry in enumerate(entries) if isinstance(entry, Mapping) and entry.get("name") == step]
    if len(named) == 1:
        return named[0]
    if step.isascii() and step.isdecimal() and int(step) < len(entries):
        return int(step)
    raise _absent(path, step)


def _put_entry(entries: MutableSequence[Any], step: str, path: str, value: Any) -> None:
    if step == str(len(entries)):
        entries.append(value)
    else:
        entries[_index(entries, step, path)] = value


def _absent(path: str, step: str) -> RefusedError:
    return RefusedError("not_found", f"{path}: there is no {step}; see pam-mfa config get, and pam-mfa.toml(5)")
