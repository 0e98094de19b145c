"""`pam-mfa doctor`: files, packages and sockets, one thing wrong at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from manage_double import Double

from pam_mfa.cli.checks import files, site, sockets
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.paths import Paths

from .installed import SERVICE_UID, healthy, lay, listening, write, wrong

# ---------------------------------------------------------------------------------------------------------- files


def spoil(system: Path, name: str, how: Callable[[Path], object]) -> list[tuple[str, str]]:
    """What is said of the files when `how` was done to one of them."""
    how(system / name)
    return wrong(files.check(Paths(system)))


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("usr/lib/pam-mfa/pam-mfa-password", "password helper"),
        ("usr/lib/x86_64-linux-gnu/security/pam_mfa.so", "module"),
        ("etc/pam-mfa/config.toml", "settings"),
        ("etc/pam-mfa/seal.key", "seal key"),
        ("var/lib/pam-mfa/store.db", "store"),
    ],
)
@pytest.mark.parametrize(
    "how",
    [Path.unlink, lambda path: path.chmod(0o666), lambda path: os.chown(path, 1234, -1), replace_by_directory],
    ids=["absent", "writable", "foreign", "directory"],
)
def test_a_file_that_is_not_as_it_must_be(system: Path, name: str, subject: str, how: Callable[[Path], object]) -> None:
    assert spoil(system, name, how) == [(subject, "bad")]


@pytest.mark.parametrize(
    ("name", "how", "subject"),
    [
        ("etc/pam-mfa/seal.key", lambda path: path.write_bytes(bytes(31)), "seal key"),
        ("usr/lib/pam-mfa/pam-mfa-password", lambda path: path.chmod(0o4755), "password helper"),
        ("var/lib/pam-mfa", lambda path: path.chmod(0o755), "state"),
        ("var/lib/pam-mfa", lambda path: os.chown(path, 0, 0), "state"),
        ("etc/pam-mfa", lambda path: path.chmod(0o775), "directories"),
        ("usr/lib/pam-mfa", lambda path: os.chown(path, 1234, -1), "directories"),
        ("usr", lambda path: path.chmod(0o777), "directories"),
    ],
)
def test_what_else_can_be_wrong_with_files(
    system: Path, name: str, how: Callable[[Path], object], subject: str
) -> None:
    assert spoil(system, name, how) == [(subject, "bad")]


@pytest.mark.parametrize(("name", "subject"), [("engine", "engine"), ("device", "device service")])
def test_services_and_engine_are_one_program(system: Path, name: str, subject: str) -> None:
    program = f"usr/lib/pam-mfa/pam-mfa-{name}"

    def copy(path: Path) -> None:
        path.unlink()
        write(system, program, "ELF")
        path.chmod(0o755)

    assert spoil(system, program, copy) == [(subject, "warn")]
    assert spoil(system, program, Path.unlink) == [(subject, "bad")]


@pytest.mark.parametrize("passwd", ["", "pam-mfa:x:0:0::/:/bin/sh\n", "pam-mfa:x:abc:0\n", "pam-mfa\n"])
def test_no_account(system: Path, passwd: str) -> None:
    (system / "etc/passwd").write_text(passwd)
    assert ("account", "bad") in wrong(files.check(Paths(system)))


# ------------------------------------------------------------------------------------------------------- packages


@pytest.mark.parametrize(
    "how",
    [
        lambda site: (site / "thing/__init__.py").write_text("x = 2\n"),
        lambda site: (site / "thing/__init__.py").unlink(),
        lambda site: (site / "thing/__init__.py").chmod(0o666),
        lambda site: (site / "thing").chmod(0o775),
        lambda site: site.chmod(0o775),
        lambda site: os.chown(site / "thing", 1234, -1),
        lambda site: (site / "link").symlink_to("/tmp"),
        lambda site: os.mkfifo(site / "pipe"),
        lambda site: site.rename(site.parent.parent / "elsewhere"),
    ],
)
def test_packages_that_others_can_change_or_have_changed(system: Path, how: Callable[[Path], object]) -> None:
    how(system / "usr/lib/pam-mfa/site-1")
    assert wrong(site.check(Paths(system))) == [("packages", "bad")]


def test_packages_from_elsewhere(system: Path) -> None:
    folder = system / "usr/lib/pam-mfa"
    (folder / "site-1").rename(folder.parent / "elsewhere")
    (folder / "site").unlink()
    (folder / "site").symlink_to("../elsewhere")
    assert wrong(site.check(Paths(system))) == [("packages", "bad")]


@pytest.mark.parametrize("name", ["cpython-34", "abi3"])
def test_packages_for_another_python(system: Path, name: str) -> None:
    native = system / "usr/lib/pam-mfa/site-1/pam_mfa/_native"
    (extension,) = native.glob("*.cpython-*")
    extension.rename(native / f"_libpam.{name}-x86_64-linux-gnu.so")
    assert wrong(site.check(Paths(system))) == [("python", "bad")]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("usr/lib/x86_64-linux-gnu/security/pam_mfa.so", "pam_mfa.so"),
        ("usr/lib/pam-mfa/pam-mfa-password", "pam-mfa-password"),
        ("usr/lib/pam-mfa/pam-mfad", "pam-mfad"),
    ],
)
def test_programs_of_another_installation(system: Path, path: str, name: str) -> None:
    native = system / "usr/lib/pam-mfa/site-1/pam_mfa/_native"
    (native / name).write_bytes((system / path).read_bytes())
    assert wrong(site.check(Paths(system))) == []
    (native / name).write_text("newer")
    (finding,) = (found for found in site.check(Paths(system)) if found.severity is not Severity.OK)
    assert (finding.subject, finding.found) == ("version", f"/{path} is not of the same version as the packages")
    (system / path).unlink()
    assert wrong(site.check(Paths(system))) == []


def test_many_changed_files_are_counted(system: Path) -> None:
    for number in range(5):
        write(system, f"usr/lib/pam-mfa/site-1/file{number}", "")
        (system / f"usr/lib/pam-mfa/site-1/file{number}").chmod(0o666)
    (finding,) = (found for found in site.check(Paths(system)) if found.severity is not Severity.OK)
    assert finding.found.endswith("and 2 more")


# -------------------------------------------------------------------------------------------------------- sockets


def test_no_service_is_worth_a_warning(root: Path) -> None:
    assert wrong(sockets.check(Paths(root))) == [("service", "warn")]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda run: (run / "user.sock").chmod(0o600), ("sockets", "bad")),
        (lambda run: os.chown(run / "password.sock", 0, 0), ("sockets", "bad")),
        (lambda run: os.chown(run / "priv.sock", 1234, -1), ("sockets", "bad")),
        (lambda run: os.chown(run / "device.sock", 0, 0), ("sockets", "bad")),
        (lambda run: (run / "device.sock").chmod(0o666), ("sockets", "bad")),
        (lambda run: (run / "device.sock").unlink(), ("security keys", "warn")),
        (lambda run: (run / "pending").touch(), ("sockets", "bad")),
        (lambda run: run.chmod(0o777), ("sockets", "bad")),
        (lambda run: (run / "priv.sock").unlink(), ("service", "warn")),
        (lambda run: (run / "priv.sock.new").touch(), ("sockets", "warn")),
        (lambda run: (run / "evil").touch(), ("sockets", "warn")),
    ],
)
def test_a_socket_that_is_not_as_it_must_be(
    system: Path, how: Callable[[Path], object], expected: tuple[str, str]
) -> None:
    how(system / "run/pam-mfa")
    assert wrong(sockets.check(Paths(system))) == [expected]


@pytest.mark.parametrize(
    ("mode", "owner", "expected"),
    [(0o755, SERVICE_UID, []), (0o777, SERVICE_UID, [("sockets", "bad")]), (0o755, 1234, [("sockets", "bad")])],
)
def test_the_directory_for_notifiers(system: Path, mode: int, owner: int, expected: list[tuple[str, str]]) -> None:
    path = system / "run/pam-mfa/pending"
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, owner)
    assert wrong(sockets.check(Paths(system))) == expected


def test_sockets_that_were_left_behind(root: Path) -> None:
    lay(root)
    with Double(root, healthy) as double, listening(root):
        os.link(double.path, root / "kept")
    (root / "kept").rename(double.path)
    assert wrong(sockets.check(Paths(root))) == [("sockets", "bad")] * 6


def test_a_plain_file_in_the_place_of_a_socket(system: Path) -> None:
    path = system / "run/pam-mfa/user.sock"
    path.unlink()
    path.touch()
    assert wrong(sockets.check(Paths(system))) == [("sockets", "bad")]


def test_engines_that_never_end(system: Path) -> None:
    with contextlib.ExitStack() as stack:
        for name in sockets.ENGINE_LOCKS:
            file = stack.enter_context((system / "run/pam-mfa" / name).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
            if name != sockets.ENGINE_LOCKS[-1]:
                assert wrong(sockets.check(Paths(system))) == []
        assert wrong(sockets.check(Paths(system))) == [("engine", "bad")]
