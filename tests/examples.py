"""The worked examples of packaging/manual/policy.md: settings, and what becomes of logins, as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MANUAL = Path(__file__).resolve().parent.parent / "packaging/manual/policy.md"
_SECTION = re.compile(r"^### (.+)$", re.MULTILINE)
_TOML = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\| `(--user [^`]+)` \| (PAM_[A-Z_]+) \| (?:`([^`]*)`)? ?\|$", re.MULTILINE)


@dataclass(frozen=True)
class Login:
    """One row of a table.

    Args:
        options: of `pam-mfa explain`, by name without dashes; a flag is "yes".
        code: what PAM is told after a right answer.
        sees: the first words, "" where there are none.
    """

    options: Mapping[str, str]
    code: str
    sees: str


@dataclass(frozen=True)
class Example:
    """One example."""

    title: str
    settings: str
    logins: tuple[Login, ...]


def examples() -> list[Example]:
    """All of them, in their order."""
    titles, *_ = (_SECTION.split(MANUAL.read_text())[1:],)
    return [
        Example(title, "".join(_TOML.findall(text)), tuple(_logins(text)))
        for title, text in zip(titles[::2], titles[1::2], strict=True)
    ]


def _logins(text: str) -> Iterator[Login]:
    for options, code, sees in _ROW.findall(text):
        yield Login(dict(_options(shlex.split(options))), code, sees)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            yield word.removeprefix("--"), "yes" if following.startswith("--") else following
