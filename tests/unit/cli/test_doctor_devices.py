"""`pam-mfa doctor`: what the device service needs, one thing wrong at a time."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pam_mfa.cli.checks import devices
from pam_mfa.cli.paths import Paths

from .installed import write, wrong

DEVICE_GID = 989
RULES = "udev/rules.d/71-pam-mfa-device.rules"
KEY = bytes.fromhex("06d0f10901a101")
MOUSE = bytes.fromhex("05010902a101")


def plug_in(system: Path, name: str, descriptor: bytes = KEY, gid: int = DEVICE_GID, mode: int = 0o660) -> None:
    """A hidraw node, and what sysfs says of it."""
    folder = system / "sys/class/hidraw" / name / "device"
    folder.mkdir(parents=True)
    (folder / "report_descriptor").write_bytes(descriptor)
    path = system / "dev" / name
    path.parent.mkdir(exist_ok=True)
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(path, 0, gid)
    path.chmod(mode)


def found(system: Path) -> list[tuple[str, str]]:
    return wrong(devices.check(Paths(system)))


def test_nothing_plugged_in(system: Path) -> None:
    assert found(system) == []
    said = [finding.found for finding in devices.check(Paths(system))]
    assert any("none is plugged into a USB port" in text for text in said)
    assert any("install the package pcscd" in text for text in said), "a hint, not a warning"


@pytest.mark.parametrize("file", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("text", ["", "root:x:0:0::/:/bin/sh\n", "pam-mfa-device\n", "pam-mfa-device:x:abc:\n"])
def test_no_account_or_no_group(system: Path, file: str, text: str) -> None:
    (system / file).write_text(text)
    assert found(system) == [("security keys", "warn")]


@pytest.mark.parametrize("uid", [0, 990])
def test_an_account_that_is_another_one(system: Path, uid: int) -> None:
    text = (system / "etc/passwd").read_text()
    (system / "etc/passwd").write_text(text.replace("pam-mfa-device:x:989", f"pam-mfa-device:x:{uid}"))
    assert found(system) == [("security keys", "bad")]


def test_no_udev_rule(system: Path) -> None:
    (system / "usr/lib" / RULES).unlink()
    assert found(system) == [("security keys", "warn")]


@pytest.mark.parametrize("folder", ["etc", "run"])
def test_a_udev_rule_that_was_put_out_of_force(system: Path, folder: str) -> None:
    write(system, f"{folder}/{RULES}", "")
    assert found(system) == [("security keys", "warn")]
    write(system, f"{folder}/{RULES}", 'SUBSYSTEM=="hidraw", GROUP="pam-mfa-device"\n')
    assert found(system) == []


def test_a_key_that_the_service_may_open(system: Path) -> None:
    plug_in(system, "hidraw0")
    plug_in(system, "hidraw1", MOUSE, gid=0, mode=0o600)
    assert found(system) == []
    shown = [finding.found for finding in devices.check(Paths(system))]
    assert "/dev/hidraw0" in shown
    assert not any("hidraw1" in text or "none is" in text for text in shown)


def test_a_key_by_a_group_that_the_account_was_put_in(system: Path) -> None:
    plug_in(system, "hidraw0", gid=46)
    assert found(system) == [("security keys", "warn")]
    with (system / "etc/group").open("a") as groups:
        groups.write("plugdev:x:46:alice,pam-mfa-device\n")
    assert found(system) == []


def replace_by_file(path: Path) -> None:
    path.unlink()
    path.touch(0o660)
    os.chown(path, 0, DEVICE_GID)


@pytest.mark.parametrize(
    ("how", "severity"),
    [
        (lambda node: os.chown(node, 0, 0), "warn"),
        (lambda node: node.chmod(0o600), "warn"),
        (lambda node: node.chmod(0o640), "warn"),
        (lambda node: node.chmod(0o666), "warn"),
        (lambda node: node.chmod(0o664), "warn"),
        (Path.unlink, "warn"),
        (replace_by_file, "bad"),
    ],
)
def test_a_key_that_it_may_not_open_or_everybody_may(
    system: Path, how: Callable[[Path], object], severity: str
) -> None:
    plug_in(system, "hidraw0")
    plug_in(system, "hidraw1")
    how(system / "dev/hidraw0")
    assert found(system) == [("security keys", severity)]


@contextmanager
def pcscd(system: Path, mode: int = 0o666) -> Iterator[Path]:
    """pcscd's socket."""
    write(system, "usr/sbin/pcscd", "ELF")
    path = system / "run/pcscd/pcscd.comm"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(mode)
        yield path


def test_pcscd_answers(system: Path) -> None:
    with pcscd(system):
        assert found(system) == []
    assert found(system) == [("cards", "warn")], "nobody listens any more"


def test_pcscd_without_a_socket(system: Path) -> None:
    write(system, "usr/sbin/pcscd", "ELF")
    assert found(system) == [("cards", "warn")]


def test_pcscd_that_is_not_open_to_the_service(system: Path) -> None:
    with pcscd(system, 0o660):
        assert found(system) == [("cards", "warn")]


@pytest.mark.parametrize("folder", ["usr/share", "etc"])
def test_polkit_that_keeps_the_service_from_cards(system: Path, folder: str) -> None:
    with pcscd(system):
        write(system, "usr/share/polkit-1/actions/org.debian.pcsc-lite.policy", "")
        assert found(system) == [("cards", "warn")]
        write(system, f"{folder}/polkit-1/rules.d/pam-mfa-device.rules", "")
        assert found(system) == []
