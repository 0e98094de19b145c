"""The settings file, written anew as a whole: never with a mistake, never half, its owner and mode as they were."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import trusted
from ..config import MAX_SIZE, parse
from ..errors import ConfigError, RefusedError
from ..factors import methods, registry
from . import paths, wholefile
from .paths import Paths
from .wholefile import Whole


def check(text: str) -> None:
    """Raises ConfigError with every mistake by its key path, or by line and column where it is no TOML."""
    parse(text, methods(registry(lambda data: data)))


def read(where: Paths) -> str:
    """The text in force, or that should be. Raises ConfigError where it is absent or others could have written it."""
    return trusted.text(str(where.at(paths.SETTINGS)), MAX_SIZE)


def read_foreign(path: str) -> str:
    """The text of any file, whoever owns it. Raises ConfigError."""
    try:
        data = Path(path).read_bytes()
        if len(data) > MAX_SIZE:
            raise ConfigError([f"{path}: larger than {MAX_SIZE} bytes"])
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at line {error.object.count(10, 0, error.start) + 1}"]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: {getattr(error, 'strerror', None) or 'no name of a file'}"]) from None


@dataclass(frozen=True, slots=True)
class Change:
    """A change that has begun: nobody else begins one until it is over.

    Args:
        path: the file.
        before: what it was at the begin.
        text: of it.
    """

    path: Path
    before: Whole
    text: str

    def write(self, text: str) -> None:
        """Put another text in place in one step. Raises ConfigError for a mistake, RefusedError; then it stays."""
        check(text)
        if wholefile.read(self.path) != self.before:
            raise RefusedError("refused", f"somebody else changed {self.path} meanwhile; look at it, and begin again")
        try:
            wholefile.put(self.path, replace(self.before, content=text.encode()))
        except OSError as error:
            raise RefusedError("unavailable", f"{self.path}: {error.strerror}; nothing was changed") from None


@contextlib.contextmanager
def changing(where: Paths) -> Iterator[Change]:
    """Begin a change. Raises ConfigError for a file that cannot be read, RefusedError where somebody else is at it."""
    path = where.at(paths.SETTINGS)
    text = read(where)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Change(path, _alone(folder, path, text), text)
    finally:
        os.close(folder)


def _alone(folder: int, path: Path, text: str) -> Whole:
    """The file as it is while nobody else changes it. Raises RefusedError."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = wholefile.read(path)
        if before is not None and before.content == text.encode():
            return before
    raise RefusedError("refused", "somebody else is changing the settings now; try again later")
