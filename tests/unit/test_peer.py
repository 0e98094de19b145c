"""Who is at the other end is the kernel's word."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pam_mfa
from pam_mfa.peer import peer_pid, peer_uid

NOBODY = 0xFFFF_FFFE  # as a signed number it would be -2


@contextmanager
def nobody() -> Iterator[None]:
    """Be it, meanwhile."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_who_made_a_pair() -> None:
    with nobody():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert (peer_pid(ours), peer_uid(ours)) == (os.getpid(), NOBODY)


def test_who_listens_and_who_connects(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link,
    ):
        door.bind(path)
        with nobody():
            door.listen()
        link.connect(path)
        with door.accept()[0] as accepted:
            assert (peer_uid(link), peer_uid(accepted)) == (NOBODY, 0)


def test_one_piece_asks() -> None:
    (package,) = map(Path, pam_mfa.__path__)
    assert [path.name for path in package.rglob("*.py") if "SO_PEERCRED," in path.read_text()] == ["peer.py"]
