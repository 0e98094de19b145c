"""Reading a file that nobody but its owner can have written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ConfigError


def read(path: str, size: int, owner: int = 0) -> bytes:
    """The bytes of a file.

    Args:
        path: neither the file nor its directory may be a symbolic link.
        size: bytes that it may have at most.
        owner: the uid that must own both, and whom alone their modes let write.

    Raises:
        ConfigError: with the path, and why not.
    """
    folder = os.path.dirname(path) or "."
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with _opened(folder, flags | os.O_PATH | os.O_DIRECTORY) as folder_fd:
        _trusted(folder, os.fstat(folder_fd), owner)
        # O_NONBLOCK: a FIFO that lies in the way must not wait for its other end.
        with _opened(path, flags | os.O_RDONLY | os.O_NONBLOCK, folder_fd) as fd:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError([f"{path}: not a regular file"])
            _trusted(path, found, owner)
            with open(fd, "rb", closefd=False) as file:
                data = file.read(size + 1)
    if len(data) > size:
        raise ConfigError([f"{path}: larger than {size} bytes"])
    return data


def text(path: str, size: int, owner: int = 0) -> str:
    """The same as UTF-8. Raises ConfigError."""
    data = read(path, size, owner)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}: not UTF-8 at line {line}"]) from None


@contextmanager
def _opened(path: str, flags: int, folder_fd: int | None = None) -> Iterator[int]:
    """A file descriptor; what the system refuses is a ConfigError with the whole path."""
    try:
        fd = os.open(path if folder_fd is None else os.path.basename(path), flags, dir_fd=folder_fd)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def _trusted(path: str, found: os.stat_result, owner: int) -> None:
    if found.st_uid != owner:
        raise ConfigError([f"{path}: owned by uid {found.st_uid}; must be owned by uid {owner}"])
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError([f"{path}: mode {mode:04o}; must not be writable by group or others"])
