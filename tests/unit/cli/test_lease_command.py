"""`pam-mfa lease`: what is asked of the service, and what people read."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit
from pam_mfa.cli.lease import end_all
from pam_mfa.cli.main import main
from pam_mfa.cli.paths import Paths

from .conftest import Run

LEASES = [
    {"kind": "lease", "service": "sudo", "place": "/dev/pts/3", "user": "root", "left": 119},
    {"kind": "lease", "service": "sshd", "place": "192.0.2.7", "user": "bob", "left": 599},
]
NOBODY = pwd.getpwnam("nobody")


def two(peer: Peer, request: dict[str, Any]) -> None:
    """A service with two leases; none is ended where nobody is named."""
    if request["verb"] == "leases":
        for record in LEASES:
            peer.part(**record)
    else:
        peer.part(kind="leases_ended", ended=2 if request.get("account") or request["args"]["all"] else 0)
    peer.done()


def none(peer: Peer, request: dict[str, Any]) -> None:
    """A service without any."""
    peer.done()


def test_the_list(root: Path, run: Run) -> None:
    with Double(root, two) as double:
        assert run("lease", "list").stdout.splitlines() == [
            "Service  Where       Account  Still holds for",
            "sudo     /dev/pts/3  root     119 s",
            "sshd     192.0.2.7   bob      9 min",
        ]
        assert [json.loads(line) for line in run("lease", "list", "--json").stdout.splitlines()] == LEASES
        assert run("lease", "list", "--user", "nobody").returncode == Exit.DONE
    account = {"uid": NOBODY.pw_uid, "name": "nobody"}
    assert [request.get("account") for request in double.requests] == [None, None, account]


def test_an_empty_list(root: Path, run: Run) -> None:
    with Double(root, none):
        assert run("lease", "list").stdout == "None: whoever logs in is asked.\n"
        assert run("lease", "list", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "request_", "said"),
    [
        ([], {"args": {"all": False}}, "There was none.\n"),
        (
            ["nobody"],
            {"args": {"all": False}, "account": {"uid": NOBODY.pw_uid, "name": "nobody"}},
            "Ended: 2.\n",
        ),
        (["--all"], {"args": {"all": True}}, "Ended: 2.\n"),
    ],
)
def test_revoking(root: Path, run: Run, arguments: list[str], request_: dict[str, Any], said: str) -> None:
    with Double(root, two) as double:
        done = run("lease", "revoke", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.DONE, said, "")
    assert double.requests == [{"verb": "end_leases", **request_}]


def test_whose_they_are_is_said_once(root: Path, run: Run) -> None:
    with Double(root, two) as double:
        assert run("lease", "revoke", "nobody", "--all").returncode == Exit.USAGE
    assert double.requests == []


def test_others_than_root_end_their_own_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    with Double(root, two) as double:
        ends = [
            main(["lease", *line.split()], Paths(root)) for line in ("revoke root", "revoke --all", "list --user root")
        ]
        assert main(["lease", "revoke"], Paths(root)) == Exit.DONE
    assert ends == [Exit.REFUSED] * 3
    assert double.requests == [{"verb": "end_leases", "args": {"all": False}}]
    assert capsys.readouterr().err.count("only root") == 3


def test_all_end_for_a_try_or_it_is_told(root: Path) -> None:
    def refused(peer: Peer, request: dict[str, Any]) -> None:
        peer.done("unavailable", "no store")

    def garbage(peer: Peer, request: dict[str, Any]) -> None:
        peer.send_raw(b"nonsense")

    with Double(root, two) as double:
        assert end_all(Paths(root)) == ""
    assert double.requests == [{"verb": "end_leases", "args": {"all": True}}]
    with Double(root, refused):
        assert end_all(Paths(root)) == "leases may still hold: no store"
    with Double(root, garbage):
        assert end_all(Paths(root)).startswith("leases may still hold: ")
    assert end_all(Paths(root)).startswith("leases may still hold: ")


def test_explain_tells_of_one_that_holds(root: Path, run: Run) -> None:
    def lets_by(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(
            kind="explained", rule="sudo", terms={"lease": "600"}, user="root", subject="root", local=True,
            entry="exempt", reason="lease", ago=500, methods={}, sees="", code="PAM_IGNORE",
        )  # fmt: skip
        peer.done()

    with Double(root, lets_by):
        said = run("explain", "--service", "sudo", "--tty", "/dev/pts/3").stdout
    assert "Nothing is asked: a proof of 8 min ago holds\n" in said
    assert "PAM is told PAM_IGNORE" in said
