"""The files of break-glass codes: each is taken once, by whoever may take files away, and only root's count."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import DEADLINE

from pam_mfa.conversation import BreakGlass, GlassBroken
from pam_mfa.service import glass
from pam_mfa.service.glass import Code

MADE, NOW, END = 1_000, 1_500, 2_000
ACCOUNT = 64_123  # stands for pam-mfa, and for its group
DIGEST, OTHER = b"\1" * 32, b"\2" * 32
RACERS = 8
# What each of many processes does as that account, when it is told to.
RACE = """
import os, sys
from pam_mfa.conversation import BreakGlass
from pam_mfa.service import glass
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(glass.break_glass(BreakGlass(bytes.fromhex(sys.argv[2]), "alice", 1500), sys.argv[3]).taken, flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """The directory as an installation makes it, where everybody gets to it."""
    with tempfile.TemporaryDirectory(prefix="glass-") as name:
        Path(name).chmod(0o755)
        path = Path(name, "codes")
        path.mkdir()
        os.chown(path, 0, ACCOUNT)
        path.chmod(0o770)
        yield path


def put(folder: Path, code: Code, **other: Any) -> Path:
    """A code's file; `other` content instead of its own."""
    path = folder / code.id
    path.write_bytes(json.dumps(json.loads(code.pack()) | other).encode())
    os.chown(path, 0, ACCOUNT)
    path.chmod(0o640)
    return path


def code(name: str = "00c0ffee", digest: bytes = DIGEST, **more: Any) -> Code:
    """One that counts."""
    return Code(name, digest, more.pop("label", "the safe"), more.pop("created", MADE), **more)


def take(folder: Path, digest: bytes | None = DIGEST, user: str = "alice", at: int = NOW) -> GlassBroken:
    """What becomes of an attempt."""
    return glass.break_glass(BreakGlass(digest, user, at), str(folder))


@pytest.fixture
def as_account() -> Iterator[Callable[[], None]]:
    """Become that account, until the end of the test."""

    def become() -> None:
        os.setegid(ACCOUNT)
        os.seteuid(ACCOUNT)

    groups = os.getgroups()
    os.setgroups([])
    yield become
    os.seteuid(0)
    os.setegid(0)
    os.setgroups(groups)


def test_a_code_is_taken_once(folder: Path, as_account: Callable[[], None]) -> None:
    path, other = put(folder, code()), put(folder, code("00c0ffef", OTHER))
    as_account()
    assert take(folder, None) == GlassBroken(2)
    assert take(folder) == GlassBroken(1, "00c0ffee", "the safe")
    assert take(folder) == GlassBroken(1)
    assert not path.exists()
    assert other.exists()


def test_of_many_who_ask_at_once_one_gets_it(folder: Path) -> None:
    for _ in range(5):
        put(folder, code())
        racers = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", RACE, str(ACCOUNT), DIGEST.hex(), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                text=True,
            )
            for _ in range(RACERS)
        ]
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("go\n")
            racer.stdin.flush()
        taken = [racer.communicate(timeout=DEADLINE)[0].strip() for racer in racers]
        assert sorted(taken) == ["00c0ffee", *["None"] * (RACERS - 1)]


@pytest.mark.parametrize("at", [NOW, 0, 10**10])
def test_a_code_without_an_end_asks_no_clock(folder: Path, at: int) -> None:
    put(folder, code())
    assert take(folder, at=at).taken


@pytest.mark.parametrize(("at", "opens"), [(MADE, True), (END - 1, True), (END, False), (MADE - 1, False)])
def test_one_with_an_end_counts_from_when_it_was_made_to_its_end(folder: Path, at: int, opens: bool) -> None:
    path = put(folder, code(expires=END))
    assert take(folder, None, at=at).left == opens
    assert take(folder, at=at) == (
        GlassBroken(0, "00c0ffee", "the safe") if opens else GlassBroken(0, reason="break_glass_expired")
    )
    assert path.exists() is not opens


def test_one_that_is_for_somebody(folder: Path) -> None:
    path = put(folder, code(user="bob"))
    assert take(folder) == GlassBroken(1, reason="break_glass_of_another")
    assert path.exists()
    assert take(folder, user="bob").taken


# What does not count


def test_without_a_directory_there_are_none(folder: Path) -> None:
    assert take(folder / "nowhere") == GlassBroken(0)


def test_a_directory_that_is_a_link_or_no_directory(folder: Path) -> None:
    put(folder, code())
    link, file = folder.parent / "link", folder.parent / "file"
    link.symlink_to(folder)
    file.touch()
    assert [take(path) for path in (link, file)] == [GlassBroken(0)] * 2
    assert take(folder).taken


@pytest.mark.parametrize(("uid", "mode"), [(ACCOUNT, 0o770), (0, 0o777), (0, 0o772), (0, 0o1777)])
def test_a_directory_that_others_could_put_codes_in(folder: Path, uid: int, mode: int) -> None:
    put(folder, code())
    os.chown(folder, uid, ACCOUNT)
    folder.chmod(mode)
    assert take(folder) == GlassBroken(0)


def someone_elses(folder: Path, path: Path) -> None:
    """As who has become pam-mfa can make them."""
    os.chown(path, ACCOUNT, ACCOUNT)


def writable(folder: Path, path: Path) -> None:
    """pam-mfa could have written another hash."""
    path.chmod(0o660)


def twice(folder: Path, path: Path) -> None:
    """It would outlive its use."""
    (folder.parent / "copy").hardlink_to(path)


def linked(folder: Path, path: Path) -> None:
    """A symbolic link to one that would count elsewhere."""
    path.rename(folder.parent / "away")
    path.symlink_to(folder.parent / "away")


def pipe(folder: Path, path: Path) -> None:
    """It must not be waited for."""
    path.unlink()
    os.mkfifo(path, 0o640)


def a_directory(folder: Path, path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(folder: Path, path: Path) -> None:
    path.write_bytes(b"")


def torn(folder: Path, path: Path) -> None:
    """A write that did not end."""
    path.write_bytes(path.read_bytes()[:-10])


def binary(folder: Path, path: Path) -> None:
    path.write_bytes(os.urandom(200))


def huge(folder: Path, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * glass.MAX_SIZE)


def deep(folder: Path, path: Path) -> None:
    path.write_bytes(b"[" * glass.MAX_SIZE)


DAMAGES = [someone_elses, writable, twice, linked, pipe, a_directory, empty, torn, binary, huge, deep]


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_do_not_count_and_keep_none_that_does_from_it(
    folder: Path, damage: Callable[[Path, Path], None]
) -> None:
    damage(folder, put(folder, code()))
    assert take(folder) == GlassBroken(0)
    put(folder, code("00c0ffef", OTHER))
    assert take(folder) == GlassBroken(1)
    assert take(folder, OTHER).taken == "00c0ffef"


def test_a_pipe_that_says_the_right_thing_does_not_count(folder: Path) -> None:
    path = put(folder, code())
    content = path.read_bytes()
    pipe(folder, path)
    end = os.open(path, os.O_RDWR)
    os.write(end, content)
    assert take(folder) == GlassBroken(0)
    os.close(end)


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "00"}, {"digest": "0" * 63}, {"digest": "x" * 64}, {"digest": 1}, {"label": 1}, {"label": ""},
        {"label": "x" * 65}, {"label": "a\nb"}, {"label": "\x1b[1m"}, {"label": "é"}, {"created": "1"},
        {"created": 1.5}, {"created": True}, {"created": None}, {"expires": "2030"}, {"expires": False}, {"user": 0},
        {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_content_that_is_none_of_ours(folder: Path, other: dict[str, object]) -> None:
    path = put(folder, code(), **other)
    assert take(folder) == GlassBroken(0)
    assert path.exists()


@pytest.mark.parametrize("lacking", ["digest", "label", "created", "expires", "user"])
def test_content_that_lacks_something(folder: Path, lacking: str) -> None:
    path = put(folder, code())
    content = json.loads(path.read_bytes())
    del content[lacking]
    path.write_text(json.dumps(content))
    assert take(folder) == GlassBroken(0)


@pytest.mark.parametrize("name", ["00c0ffee.new", ".00c0ffee", "00C0FFEE", "00c0ffe", "00c0ffee0", "\u0660" * 8])
def test_files_that_are_not_named_like_a_code(folder: Path, name: str) -> None:
    put(folder, code()).rename(folder / name)
    assert take(folder) == GlassBroken(0)
    assert (folder / name).exists()


def test_a_directory_full_of_something_is_not_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glass, "MAX_LOOKED_AT", 10)
    for number in range(20):
        put(folder, code(f"{number:08x}", number.to_bytes(32, "big")))
    assert take(folder, None) == GlassBroken(10)


# What cannot be taken


def test_what_cannot_be_taken_away_opens_nothing(folder: Path, as_account: Callable[[], None]) -> None:
    path = put(folder, code())
    folder.chmod(0o750)
    as_account()
    assert take(folder) == GlassBroken(1, reason="break_glass_not_taken")
    assert path.exists()


@pytest.mark.parametrize("call", ["unlink", "fsync"])
def test_a_disk_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Once it is gone from memory it may still be on the disk: it has not opened anything, and may never."""
    put(folder, code())

    def fail(*given: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, call, fail)
        assert take(folder) == GlassBroken(1, reason="break_glass_not_taken")
    assert take(folder).taken == (code().id if call == "unlink" else None)


def test_the_directory_is_on_the_disk_before_it_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, code())
    done: list[str] = []
    unlink, fsync = os.unlink, os.fsync

    def unlinked(path: str, dir_fd: int) -> None:
        unlink(path, dir_fd=dir_fd)
        done.append("unlink")

    def synced(fd: int) -> None:
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        fsync(fd)
        done.append("fsync")

    monkeypatch.setattr(os, "unlink", unlinked)
    monkeypatch.setattr(os, "fsync", synced)
    assert take(folder).taken
    assert done == ["unlink", "fsync"]


def test_who_has_become_the_service_can_make_none(folder: Path, as_account: Callable[[], None]) -> None:
    """Nor by another one's name, nor out of one that was there: it can only do away with them."""
    path = put(folder, code(digest=OTHER))
    as_account()
    own = folder / "0badc0de"
    own.write_bytes(code("0badc0de").pack())
    assert take(folder) == GlassBroken(1)
    with pytest.raises(PermissionError):
        path.write_bytes(code().pack())
    with pytest.raises(PermissionError):
        os.chown(own, 0, ACCOUNT)
    own.rename(path)
    assert take(folder) == GlassBroken(0)
