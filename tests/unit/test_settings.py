"""Which settings are in force, and that a bad file takes no login down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import FACTORS
from stores import SEALER, discard, do, make

from pam_mfa import wire
from pam_mfa.errors import ConfigError
from pam_mfa.service import ground, settings
from pam_mfa.service.ground import Base, take_key
from pam_mfa.service.settings import choose, complaint
from pam_mfa.store.base import KeepConfig
from pam_mfa.store.sqlite import SqliteStore

GOOD, OTHER, BAD = 'issuer = "good"\n', 'issuer = "other"\n', "issuer = \n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of this test."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(settings, "PATH", str(folder / "config.toml"))
    monkeypatch.setattr(choose, "__defaults__", (str(folder / "config.toml"),))
    return folder / "config.toml"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr(ground, "STORE", make(tmp_path / "state"))
    one = SqliteStore(ground.STORE, SEALER)
    yield one
    discard(one)


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def issuer(base: Base) -> str | None:
    assert base.ground.settings is not None
    return base.ground.settings.issuer


# ------------------------------------------------------------------------------------------------- choose


def test_a_good_file_is_in_force(path: Path) -> None:
    write(path, GOOD)
    for kept in (None, OTHER, BAD):
        chosen = choose(kept, FACTORS)
        assert (chosen.source, chosen.text, chosen.problems) == ("file", GOOD, [])
        assert chosen.settings is not None
        assert chosen.settings.issuer == "good"
        assert complaint(chosen) is None


@pytest.mark.parametrize("case", ["bad", "missing", "writable", "binary"])
def test_otherwise_the_kept_text_is(path: Path, case: str) -> None:
    if case != "missing":
        write(path, BAD if case == "bad" else GOOD)
    if case == "writable":
        path.chmod(0o666)
    if case == "binary":
        path.write_bytes(b"\xff\xfe")
    chosen = choose(OTHER, FACTORS)
    assert (chosen.source, chosen.text) == ("kept", OTHER)
    assert chosen.settings is not None
    assert chosen.settings.issuer == "other"
    alert = complaint(chosen)
    assert alert is not None
    assert "the settings from before stay in force" in alert
    assert str(path) in alert


@pytest.mark.parametrize("kept", [None, BAD, 'unknown = "key"\n'])
def test_where_neither_is_good_nobody_gets_in(path: Path, kept: str | None) -> None:
    write(path, BAD)
    chosen = choose(kept, FACTORS)
    assert (chosen.settings, chosen.source, chosen.text) == (None, "none", None)
    alert = complaint(chosen)
    assert alert is not None
    assert "no login is possible" in alert
    assert len(chosen.problems) == (1 if kept is None else 2)


def test_a_kept_text_that_names_a_factor_of_another_program_is_not_good(path: Path) -> None:
    write(path, BAD)
    assert choose('[policy]\nmethods = ["piv"]\n', FACTORS).settings is None


# --------------------------------------------------------------------------------------------------- Base


def test_a_good_file_is_kept_and_comes_back_when_it_is_spoilt(path: Path, store: SqliteStore) -> None:
    base = Base("service", SEALER)
    write(path, GOOD)
    assert base.load_settings(store) is None
    assert base.keep(store) == (KeepConfig(GOOD),)
    do(store, *base.keep(store))
    write(path, BAD)
    alert = base.load_settings(store)
    assert alert is not None
    assert "stay in force" in alert
    assert issuer(base) == "good"
    assert base.keep(store) == ()
    later = Base("service", SEALER)
    later.load_settings(store)
    assert issuer(later) == "good"


def test_a_file_spoilt_while_the_store_is_away_leaves_the_settings_as_they_are(path: Path, store: SqliteStore) -> None:
    """The store may be back before the file is: logins must not wait for somebody to reload."""
    base = Base("service", SEALER)
    write(path, GOOD)
    base.load_settings(store)
    write(path, BAD)
    absent = SqliteStore(f"{ground.STORE}.absent", SEALER)
    alert = base.load_settings(absent)
    assert alert is not None
    assert "stay in force" in alert
    assert issuer(base) == "good"
    assert base.keep(store) == ()


def test_a_good_file_needs_no_store(path: Path, store: SqliteStore) -> None:
    base = Base("service", SEALER)
    write(path, GOOD)
    assert base.load_settings(SqliteStore(f"{ground.STORE}.absent", SEALER)) is None
    assert issuer(base) == "good"


def test_without_file_and_store_there_are_no_settings(path: Path, store: SqliteStore) -> None:
    base = Base("service", SEALER)
    alert = base.load_settings(SqliteStore(f"{ground.STORE}.absent", SEALER))
    assert alert is not None
    assert "no login is possible" in alert
    assert base.ground.settings is None


# ------------------------------------------------------------------------------------------------- health


def test_health_says_what_is_in_force_and_how_the_store_is(path: Path, store: SqliteStore) -> None:
    base = Base("service", SEALER)
    write(path, GOOD)
    base.load_settings(store)
    health = base.health(store)
    assert (health["role"], health["config"], health["problems"], health["store"]) == ("service", "file", [], "ok")
    write(path, BAD)
    base.load_settings(store)
    assert health["rp_id"] == base.ground.host.lower()
    health = base.health(SqliteStore(f"{ground.STORE}.absent", SEALER))
    assert health["config"] == "kept"
    assert len(health["problems"]) == 1
    assert str(health["store"]).startswith("store_missing: ")


def test_health_fits_into_one_frame_whatever_is_in_the_file(path: Path, store: SqliteStore) -> None:
    base = Base("service", SEALER)
    write(path, "".join(f"'{chr(92) * 64}{number}' = 1\n" for number in range(500)))
    base.load_settings(store)
    health = base.health(store)
    assert health["problems"]
    part = json.dumps({"kind": "service", **health, "sessions": 10**6, "audit_lost": 10**9})
    wire.encode(wire.Type.PART, part.encode())


# ---------------------------------------------------------------------------------------------- the key


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_none(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "key").open("w+b") as file:
        file.write(bytes(size))
        file.flush()
        monkeypatch.setattr(ground, "KEY_FD", os.dup(file.fileno()))
        with pytest.raises(ConfigError):
            take_key()


def test_the_key_is_read_from_its_start_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    fd = os.open(tmp_path / "key", os.O_RDONLY)
    os.lseek(fd, 7, os.SEEK_SET)
    monkeypatch.setattr(ground, "KEY_FD", fd)
    assert take_key().check == SEALER.check
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(ConfigError):
        take_key()
