"""An entry of a directory, read and put back with all that belongs to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pam_mfa.cli import wholefile
from pam_mfa.cli.wholefile import Kind, Whole

ACL = "system.posix_acl_access"
# acl(5) in the kernel's form: version 2; user::rw-, user 1001:r--, group::r--, mask::r--, other::---.
GRANTED = bytes.fromhex("02000000 01000600ffffffff 02000400e9030000 04000400ffffffff 10000400ffffffff 20000000ffffffff")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one\n\xff")
    os.chown(path, 1234, 4321)
    path.chmod(0o2751)
    os.setxattr(path, "trusted.mark", b"x\x00y")
    return path


def all_of(path: Path) -> tuple[bytes, int, int, int, dict[str, bytes]]:
    found = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return path.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, attributes


def test_everything_comes_back(path: Path, tmp_path: Path) -> None:
    before, whole = all_of(path), wholefile.read(path)
    path.unlink()
    assert whole
    assert wholefile.put(path, whole) == []
    assert all_of(path) == before
    assert before[:2] == (b"one\n\xff", 0o2751)
    assert before[4] == {"trusted.mark": b"x\x00y"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"two"),
        lambda path: path.chmod(0o4755),
        lambda path: os.chown(path, 0, 0),
        lambda path: os.setxattr(path, "trusted.mark", b"other"),
        lambda path: os.setxattr(path, "trusted.more", b""),
        lambda path: os.removexattr(path, "trusted.mark"),
    ],
)
def test_every_part_counts(path: Path, change: object) -> None:
    before, whole = all_of(path), wholefile.read(path)
    change(path)  # type: ignore[operator]
    assert wholefile.read(path) != whole
    assert whole
    wholefile.put(path, whole)
    assert all_of(path) == before
    assert wholefile.read(path) == whole


def test_access_control_lists(path: Path) -> None:
    path.chmod(0o640)
    os.setxattr(path, ACL, GRANTED)
    before, whole = all_of(path), wholefile.read(path)
    os.removexattr(path, ACL)
    path.chmod(0o600)
    assert whole
    assert wholefile.put(path, whole) == []
    assert all_of(path) == before
    assert before[4][ACL] == GRANTED


def test_links_and_what_stands_in_their_way(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to("nowhere")
    whole = wholefile.read(path)
    assert whole
    assert (whole.kind, whole.content) == (Kind.LINK, b"nowhere")
    path.unlink()
    (path / "inner").mkdir(parents=True)
    wholefile.put(path, whole)
    assert os.readlink(path) == "nowhere"


def test_directories_and_what_stands_in_their_way(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir(mode=0o750)
    whole = wholefile.read(path)
    path.rmdir()
    path.write_text("")
    assert whole
    wholefile.put(path, whole)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    (path / "inner").touch()
    wholefile.put(path, whole)
    assert (path / "inner").exists()


def test_what_is_never_made(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    whole = wholefile.read(path)
    assert whole
    assert whole.kind is Kind.OTHER
    path.unlink()
    assert wholefile.put(path, whole) == []
    assert not path.exists()
    assert wholefile.read(path) is None


def test_an_attribute_that_cannot_be_set_is_told_and_the_rest_is_in_force(path: Path) -> None:
    problems = wholefile.put(path, Whole(Kind.FILE, 0o600, attributes={"nothing.mark": b""}, content=b"new"))
    assert [problem.split(": ")[1] for problem in problems] == ["attribute nothing.mark"]
    assert all_of(path)[:3] == (b"new", 0o600, 0)


def test_what_cannot_be_written_stays(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_of(path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        wholefile.put(path, Whole(Kind.FILE, content=b"new"))
    assert all_of(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_has_it_open_keeps_the_old_one(path: Path) -> None:
    with path.open("rb") as file:
        wholefile.put(path, Whole(Kind.FILE, content=b"new"))
        assert file.read() == b"one\n\xff"
    assert path.read_bytes() == b"new"


def test_nobody_but_root_reads_what_is_being_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    real = os.fsync

    def look(fd: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(fd)

    monkeypatch.setattr(os, "fsync", look)
    wholefile.put(path, Whole(Kind.FILE, 0o644, content=b"new"))
    assert modes[0] == 0o600


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere"), lambda path: None])
def test_remove(tmp_path: Path, make: object) -> None:
    path = tmp_path / "it"
    make(path)  # type: ignore[operator]
    wholefile.remove(path)
    assert not os.path.lexists(path)
