"""Whose account a command is about: the caller's own, or anybody's by root's word."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit
from pam_mfa.cli.main import main
from pam_mfa.cli.paths import Paths

from .conftest import Run
from .test_commands import RECORDS, records_of


def test_root_names_an_account(root: Path, run: Run) -> None:
    nobody = pwd.getpwnam("nobody")
    with Double(root, records_of) as double:
        assert run("list", "--user", "nobody").returncode == Exit.DONE
        assert run("unlock", "nobody").returncode == Exit.DONE
    assert [request["account"] for request in double.requests] == [{"uid": nobody.pw_uid, "name": "nobody"}] * 2


@pytest.mark.parametrize("name", ["no-such-user", "", "a\x1bb", "\udcff"])
def test_an_unknown_user_is_not_found(root: Path, run: Run, name: str) -> None:
    with Double(root, records_of):
        for arguments in (["list", "--user", name], ["unlock", name]):
            done = run(*arguments)
            assert (done.returncode, done.stderr.count("\n")) == (Exit.NOT_FOUND, 1)


@pytest.mark.parametrize("wanted", ["left-behind", "4000000001"])
def test_root_reaches_what_is_enrolled_for_a_user_that_is_gone(
    root: Path, run: Run, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    gone = {"uid": 4000000001, "name": "left-behind"}
    monkeypatch.setitem(RECORDS, "accounts", [{"kind": "account", **gone}])
    with Double(root, records_of) as double:
        assert run("list", "--user", wanted).returncode == Exit.DONE
        assert run("remove", "phone", "--user", wanted).returncode == Exit.DONE
        assert run("enroll", "totp", "--user", wanted).returncode == Exit.NOT_FOUND
    assert [(r["verb"], r.get("account")) for r in double.requests] == [
        ("accounts", None), ("list", gone), ("accounts", None), ("remove", gone),
    ]  # fmt: skip


def test_a_name_that_two_enrolled_accounts_have_chooses_neither(
    root: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECORDS, "accounts", [{"kind": "account", "uid": uid, "name": "gone"} for uid in (101, 102)])
    with Double(root, records_of):
        assert run("list", "--user", "gone").returncode == Exit.NOT_FOUND


@pytest.mark.parametrize(("name", "said"), [("old", "belongs to the name old, not nobody"), ("nobody", "ask an admin")])
def test_root_is_told_whose_enrolments_are_in_the_way(root: Path, run: Run, name: str, said: str) -> None:
    uid = pwd.getpwnam("nobody").pw_uid

    def script(peer: Peer, request: dict[str, Any]) -> None:
        if request["verb"] != "accounts":
            return peer.done("unavailable", "ask an admin")
        peer.part(kind="account", uid=uid, name=name)
        peer.done()

    with Double(root, script):
        done = run("list", "--user", "nobody")
    assert (done.returncode, done.stderr.count("\n")) == (Exit.UNAVAILABLE, 1)
    assert said in done.stderr
    assert (f"pam-mfa reset {uid}" in done.stderr) == (name == "old")


def test_others_than_root_name_nobody_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    with Double(root, records_of) as double:
        ends = {
            line: main(line.split(), Paths(root))
            for line in ("list --user root", "unlock nobody", "accounts", "list --user nobody", "list")
        }
    assert list(ends.values()) == [Exit.REFUSED] * 3 + [Exit.DONE] * 2
    assert double.requests == [{"verb": "list", "args": {}}] * 2
    assert capsys.readouterr().err.count("pam-mfa: only root") == 3
