"""Files put in place in one step each, and what a set of files amounts to."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from steps import PROJECT


def digest(paths: Iterable[Path], *more: str) -> str:
    """Twelve hex digits for the names and contents of files."""
    total = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).digest()
        total.update(f"{path.relative_to(PROJECT)}\0{path.stat().st_mode & 0o111:o}\0".encode() + content)
    return total.hexdigest()[:12]


def place(source: Path, target: Path, mode: int) -> bool:
    """Copy a file to where it belongs in one step; who uses the old one keeps it. Returns whether it changed."""
    if target.is_file() and not target.is_symlink() and target.read_bytes() == source.read_bytes():
        os.chown(target, 0, 0)
        target.chmod(mode)
        return False
    place_bytes(source.read_bytes(), target, mode)
    return True


def place_bytes(content: bytes, target: Path, mode: int, once: bool = False) -> None:
    """Write a root-owned file under another name, then give it its own.

    Args:
        once: leave what has the name already. Raises FileExistsError then.
    """
    make_directory(target.parent)
    fd, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    try:
        with open(fd, "wb") as file:
            os.fchown(fd, 0, 0)
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        if once:
            os.link(name, target)
        else:
            os.rename(name, target)
            return
    except BaseException:
        os.unlink(name)
        raise
    os.unlink(name)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """A root-owned directory; one that is there keeps its mode."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir()
        path.chmod(mode)


def remove(path: Path) -> bool:
    """Remove a file, link or directory; returns whether there was one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    else:
        return False
    return True
