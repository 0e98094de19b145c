"""The settings file on disk: whose file is believed, and what stands in the way of reading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_mfa import config
from pam_mfa.config import Settings
from pam_mfa.errors import ConfigError

FACTORS = ("fido2", "smartcard", "totp", "recovery")
ME = os.getuid()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "pam-mfa"
    folder.mkdir(mode=0o755)
    path = folder / "config.toml"
    path.write_text("fail_delay = 1\n")
    path.chmod(0o644)
    return path


def refusal(path: Path, owner: int = ME) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError) as caught:
        config.load(str(path), FACTORS, owner)
    assert len(os.listdir("/proc/self/fd")) == before, "a file descriptor stayed open"
    (problem,) = caught.value.problems
    return problem


def test_load_gives_text_and_settings(file: Path) -> None:
    assert config.load(str(file), FACTORS, ME) == ("fail_delay = 1\n", Settings(fail_delay_ms=1000))


def test_load_keeps_line_ends(file: Path) -> None:
    file.write_bytes(b"fail_delay = 1\r\n")
    assert config.load(str(file), FACTORS, ME)[0] == "fail_delay = 1\r\n"


def _symlink(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CASES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.unlink(), "No such file or directory"),
    (_symlink, "Too many levels of symbolic links"),
    (_fifo, "not a regular file"),
    (_folder, "not a regular file"),
    (lambda path: path.chmod(0o664), "mode 0664; must not be writable by group or others"),
    (lambda path: path.chmod(0o646), "mode 0646; must not be writable by group or others"),
    (lambda path: path.write_bytes(b"#" * (256 * 1024 + 1)), "larger than 262144 bytes"),
    (lambda path: path.write_bytes(b"a = 1\nb = '\xff'"), "not UTF-8 at line 2"),
]


@pytest.mark.parametrize(("damage", "problem"), CASES)
def test_a_file_that_cannot_be_believed(file: Path, damage: Callable[[Path], object], problem: str) -> None:
    damage(file)
    assert refusal(file) == f"{file}: {problem}"


def test_the_largest_file(file: Path) -> None:
    file.write_bytes(b"#\n" * (128 * 1024))
    assert config.load(str(file), FACTORS, ME)[1] == Settings()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_can_write(file: Path, mode: int) -> None:
    file.parent.chmod(mode)
    assert refusal(file) == f"{file.parent}: mode {mode:04o}; must not be writable by group or others"


def test_a_directory_that_is_a_link(file: Path) -> None:
    link = file.parent.with_name("link")
    link.symlink_to(file.parent)
    assert refusal(link / "config.toml") == f"{link}: Not a directory"


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none" / "config.toml") == f"{tmp_path / 'none'}: No such file or directory"


def test_a_directory_of_somebody_else(file: Path) -> None:
    assert refusal(file, ME + 1) == f"{file.parent}: owned by uid {ME}; must be owned by uid {ME + 1}"


@pytest.mark.skipif(ME != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else(file: Path) -> None:
    os.chown(file, 1, -1)
    assert refusal(file) == f"{file}: owned by uid 1; must be owned by uid 0"


@pytest.mark.skipif(ME != 0, reason="only root's files pass")
def test_root_is_the_owner_unless_said_otherwise(file: Path) -> None:
    assert config.load(str(file), FACTORS)[1].fail_delay_ms == 1000
    os.chown(file.parent, 1, -1)
    with pytest.raises(ConfigError, match="owned by uid 1; must be owned by uid 0"):
        config.load(str(file), FACTORS)


@pytest.mark.skipif(ME != 0, reason="only root can become somebody who may not read")
def test_a_file_that_may_not_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o600)
    monkeypatch.chdir(file.parent)
    os.seteuid(65534)
    try:
        found = refusal(Path("config.toml"))
    finally:
        os.seteuid(0)
    assert found == "config.toml: Permission denied"


def test_problems_of_the_text_are_those_of_parse(file: Path) -> None:
    file.write_text("fail_delay = -1")
    assert refusal(file) == "fail_delay: must be a number of seconds from 0 to 10"
