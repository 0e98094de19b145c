"""One entry of a directory with all that belongs to it, read and put back in one step.

Owner, mode and extended attributes (ACLs, SELinux labels) decide as much about who gets in as the content does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"  # a socket, FIFO or device: seen, never made


FORMS: Mapping[int, Kind] = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.LINK}


@dataclass(frozen=True, slots=True)
class Whole:
    """An entry as it was.

    Args:
        kind: what it is.
        mode: permission bits.
        uid, gid: of its owner.
        attributes: extended ones, by name.
        content: bytes of a file; of a link, where it leads to.
    """

    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    content: bytes = b""


def read(path: Path) -> Whole | None:
    """What is there; None where nothing is. Raises OSError."""
    try:
        found = path.lstat()
        kind = FORMS.get(stat.S_IFMT(found.st_mode), Kind.OTHER)
        content = _content(path, kind)
        attributes = _attributes(path) if kind is not Kind.OTHER else {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Whole(kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, attributes, content)


def _content(path: Path, kind: Kind) -> bytes:
    if kind is Kind.LINK:
        return os.fsencode(path.readlink())
    return path.read_bytes() if kind is Kind.FILE else b""


def _attributes(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def put(path: Path, whole: Whole) -> list[str]:
    """Make `path` what `whole` says; whoever reads it meanwhile gets the old one or the new one.

    Returns:
        What could not be set of its extended attributes: content, owner and mode are in force all the same.

    Raises:
        OSError: it is what it was before.
    """
    if whole.kind is Kind.OTHER:
        return []
    if whole.kind is Kind.DIRECTORY:
        return _put_directory(path, whole)
    _clear_way(path, Kind.DIRECTORY)
    new = path.with_name(f".pam-mfa-{secrets.token_hex(8)}")
    try:
        (_make_link if whole.kind is Kind.LINK else _make_file)(new, whole)
        problems = _dress(new, whole)
        new.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise
    _settle(path.parent)
    return problems


def remove(path: Path) -> None:
    """Take away whatever is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    _settle(path.parent)


def _put_directory(path: Path, whole: Whole) -> list[str]:
    _clear_way(path, Kind.FILE, Kind.LINK, Kind.OTHER)
    path.mkdir(mode=0o700, exist_ok=True)
    return _dress(path, whole)


def _clear_way(path: Path, *kinds: Kind) -> None:
    found = read(path)
    if found is not None and found.kind in kinds:
        remove(path)


def _make_link(path: Path, whole: Whole) -> None:
    path.symlink_to(os.fsdecode(whole.content))


def _make_file(path: Path, whole: Whole) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(whole.content)
        file.flush()
        os.fsync(fd)


def _dress(path: Path, whole: Whole) -> list[str]:
    """Owner, mode, attributes, in this order: a change of the owner takes bits of the mode away."""
    os.chown(path, whole.uid, whole.gid, follow_symlinks=False)
    if whole.kind is not Kind.LINK:
        path.chmod(whole.mode)
    present = _attributes(path)
    problems: list[str] = []
    for name in present.keys() - whole.attributes.keys():
        _attempt(problems, path, name, partial(os.removexattr, path, name, follow_symlinks=False))
    for name, value in whole.attributes.items():
        if present.get(name) != value:
            _attempt(problems, path, name, partial(os.setxattr, path, name, value, follow_symlinks=False))
    return problems


def _attempt(problems: list[str], path: Path, name: str, change: Callable[[], None]) -> None:
    try:
        change()
    except OSError as error:
        problems.append(f"{path}: attribute {name}: {error.strerror}")


def _settle(folder: Path) -> None:
    """The names of a directory onto the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
