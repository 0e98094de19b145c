"""`pam-mfa issue-code`, `reset` and `unlock --reason` as they are run."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli import show
from pam_mfa.cli.exits import Exit

from .conftest import AS_SOMEBODY, Run, command, environment

ID = "0123456789abcdef" * 2
CODE = "ABCD-EFGH-JKMN-PQRS"
ISSUED = {"kind": "issued", "id": ID, "factor": "ticket", "label": "one-time code", "code": CODE, "until": 1763784400}
RECORDS: dict[str, dict[str, Any]] = {
    "issue": ISSUED,
    "reset": {"kind": "reset", "credentials": 3},
    "unlock": {"kind": "unlocked", "tallies": 1, "marks": 0},
}
ROOT = {"uid": 0, "name": "root"}


def answers(peer: Peer, request: dict[str, Any]) -> None:
    peer.part(**RECORDS[request["verb"]])
    peer.done()


@pytest.mark.parametrize(
    ("arguments", "typed", "sent"),
    [
        (["issue-code", "root", "--reason", "lost"], "", {"verb": "issue", "args": {"valid": 14400, "reason": "lost"}}),
        (["issue-code", "root", "--valid", "9m"], " it \n", {"verb": "issue", "args": {"valid": 540, "reason": "it"}}),
        (["reset", "root", "--reason", "lost"], "root\n", {"verb": "reset", "args": {"reason": "lost"}}),
        (["reset", "root"], "lost\nroot\n", {"verb": "reset", "args": {"reason": "lost"}}),
        (["unlock", "root", "--reason", "lost"], "", {"verb": "unlock", "args": {"reason": "lost"}}),
    ],
)  # fmt: skip
def test_what_is_sent(root: Path, run: Run, arguments: list[str], typed: str, sent: dict[str, Any]) -> None:
    with Double(root, answers) as double:
        done = run(*arguments, "--json", input=typed)
    assert done.returncode == Exit.DONE
    assert json.loads(done.stdout) == RECORDS[sent["verb"]]
    assert double.requests == [{**sent, "account": ROOT}]


def test_the_code_is_read_once_and_where_results_are(root: Path, run: Run) -> None:
    with Double(root, answers):
        done = run("issue-code", "root", "--reason", "lost")
    assert done.stdout.splitlines() == [
        "One-time code for root, until 2025-11-22 04:06:",
        "",
        f"  {CODE}",
        "",
        "It works once, in the place of a code, and is shown only now.",
    ]
    assert done.stderr == ""


def test_what_a_reset_says(root: Path, run: Run) -> None:
    with Double(root, answers):
        done = run("reset", "root", "--reason", "lost", input="root\n")
    assert done.stderr == 'Everything that root has enrolled is removed for good. Type "root" to go on: \n'
    assert done.stdout.splitlines() == [
        "Removed all that root had enrolled: 3.",
        "To let root in once, where a second factor is needed: pam-mfa issue-code root",
    ]


@pytest.mark.parametrize(("typed", "code"), [("yes\n", Exit.REFUSED), ("\n", Exit.REFUSED), ("", Exit.ABORTED)])
def test_a_reset_that_is_not_confirmed_asks_the_service_for_nothing(
    root: Path, run: Run, typed: str, code: Exit
) -> None:
    with Double(root, answers) as double:
        done = run("reset", "root", "--reason", "lost", input=typed)
    assert (done.returncode, done.stdout, double.requests) == (code, "", [])


@pytest.mark.parametrize("valid", ["25h", "0m", "4", "h", "-1h", "1d"])
def test_a_time_that_is_none(root: Path, run: Run, valid: str) -> None:
    assert run("issue-code", "root", "--reason", "x", "--valid", valid).returncode == Exit.USAGE


def test_a_user_that_is_gone_gets_no_code_but_may_be_reset(root: Path, run: Run) -> None:
    def stored(peer: Peer, request: dict[str, Any]) -> None:
        if request["verb"] == "accounts":
            peer.part(kind="account", uid=4711, name="former")
            return peer.done()
        answers(peer, request)

    with Double(root, stored) as double:
        assert run("issue-code", "former", "--reason", "x").returncode == Exit.NOT_FOUND
        assert run("reset", "former", "--reason", "x", input="former\n").returncode == Exit.DONE
    assert double.requests[-1]["account"] == {"uid": 4711, "name": "former"}


@pytest.mark.parametrize("arguments", [("issue-code", "root"), ("reset", "root")])
def test_only_root(root: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*AS_SOMEBODY, *command(root, *arguments)], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert done.returncode == Exit.REFUSED
    assert f"sudo pam-mfa {arguments[0]}" in done.stderr


@pytest.mark.parametrize(
    ("spent", "ahead", "shown"),
    [(True, 60, "used"), (True, -60, "used"), (False, 60, "until "), (False, -60, "expired ")],
)
def test_a_list_shows_what_became_of_it(
    capsys: pytest.CaptureFixture[str], spent: bool, ahead: int, shown: str
) -> None:
    details = {"until": int(time.time()) + ahead, "spent": spent}
    show.credentials([{**ISSUED, "created": 1763770000, "used": None, "details": details}])
    assert f"  {shown}" in capsys.readouterr().out
