"""What is told to systemd, and that nobody listening is no trouble."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_mfa.service.notify import Notifier, from_environment


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(20)
        yield one


def test_one_datagram_of_lines(listener: socket.socket, tmp_path: Path) -> None:
    listener.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.send("READY=1", "STATUS=x")
    assert listener.recv(4096) == b"READY=1\nSTATUS=x"


def test_an_abstract_socket(listener: socket.socket) -> None:
    name = f"pam-mfa-test-{os.getpid()}"
    listener.bind(f"\0{name}")
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).send("READY=1")
    assert listener.recv(4096) == b"READY=1"


def test_reloading_carries_the_monotonic_time(listener: socket.socket, tmp_path: Path) -> None:
    listener.bind(str(tmp_path / "notify"))
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).reloading()
    first, second = listener.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, number = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(number) > 0


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "@nobody", "relative", "/" + "x" * 200, "\0"])
def test_nobody_listening_is_no_trouble(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).send("READY=1")
    Notifier({}).send("READY=1")


def test_a_full_socket_is_not_waited_for(listener: socket.socket, tmp_path: Path) -> None:
    listener.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for _ in range(2000):
        notifier.send("WATCHDOG=1")


@pytest.mark.parametrize(
    ("usec", "seconds"),
    [
        ("10000000", 5.0),
        ("1", 0.0000005),
        ("007", 0.0000035),
        ("", None),
        ("0", None),
        ("000", None),
        ("-5", None),
        ("5s", None),
        ("1e9", None),
        ("²", None),
        ("１０", None),
        (" 10", None),
        ("9" * 5000, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(usec: str, seconds: float | None) -> None:
    """And never without a pause: "0" means that there is none."""
    assert Notifier({"WATCHDOG_USEC": usec}).watchdog_seconds == seconds
    assert Notifier({}).watchdog_seconds is None


def test_it_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    assert from_environment().watchdog_seconds == 2.0
