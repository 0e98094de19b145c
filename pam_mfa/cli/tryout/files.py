"""The files that decide who gets in, as they were before a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .. import paths, wholefile
from ..paths import Paths
from ..wholefile import Kind, Whole

PAM = paths.PAM_DIRECTORIES[0]
WATCHED = (PAM, paths.PAM_CONF, paths.SETTINGS)

Saved = Mapping[Path, Whole | None]
"""Every watched path and what was there, a directory before what is in it; None: nothing."""


def save(where: Paths) -> Saved:
    """Read all of them. Raises OSError."""
    saved: dict[Path, Whole | None] = {}
    for name in WATCHED:
        saved.update(_with_all_below(where.at(name)))
    for path in [path for path, whole in saved.items() if whole is not None and whole.kind is Kind.LINK]:
        target = path.resolve()
        if target.is_file() and target not in saved:
            saved[target] = wholefile.read(target)  # as authselect and its like lay /etc/pam.d out
    return saved


def _with_all_below(path: Path) -> Iterator[tuple[Path, Whole | None]]:
    whole = wholefile.read(path)
    yield path, whole
    if whole is not None and whole.kind is Kind.DIRECTORY:
        for child in sorted(path.iterdir()):
            yield from _with_all_below(child)


def changed(saved: Saved) -> list[Path]:
    """What is not as it was: other, gone or new. Raises OSError."""
    other = [path for path, whole in saved.items() if wholefile.read(path) != whole]
    return sorted([*other, *_new(saved)])


def _new(saved: Saved) -> Iterator[Path]:
    for path, whole in saved.items():
        if whole is not None and whole.kind is Kind.DIRECTORY and path.is_dir() and not path.is_symlink():
            yield from (child for child in path.iterdir() if child not in saved)


def restore(saved: Saved) -> tuple[list[str], list[str]]:
    """Make all of it what it was, one entry at a time, as far as that is possible.

    Returns:
        What is still not as it was, and what is so but for an extended attribute; both as lines.
    """
    failed: list[str] = []
    lacking: list[str] = []
    for path, whole in saved.items():
        try:
            lacking += _restore_one(path, whole)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    for path in _all_new(saved, failed):
        try:
            wholefile.remove(path)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    return failed, lacking


def _restore_one(path: Path, whole: Whole | None) -> Iterable[str]:
    found = wholefile.read(path)
    if found == whole:
        return ()
    if whole is not None:
        return wholefile.put(path, whole)
    wholefile.remove(path)
    return ()


def _all_new(saved: Saved, failed: list[str]) -> list[Path]:
    try:
        return list(_new(saved))
    except OSError as error:
        failed.append(f"{error.filename}: {error.strerror}")
        return []
