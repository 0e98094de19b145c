"""`pam-mfa enroll smartcard`, and how `pam-mfa list` shows a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit

from .conftest import Run

ID = "0123456789abcdef" * 2
DETAILS = {
    "by": "key", "matches": "ab" * 32, "slot": "9a", "key": "p-256", "subject": "CN=alice,O=Example",
    "issuer": "CN=Issuing,O=Example", "serial": "1f", "valid_until": "2030-01-31",
}  # fmt: skip
CERTIFICATE = {**DETAILS, "kind": "certificate", "valid_from": "2026-01-31"}


@pytest.mark.parametrize(
    ("options", "sent"),
    [([], {}), (["--name", "work"], {"label": "work"}), (["--slot", "9c", "--by", "upn"], {"slot": "9c", "by": "upn"})],
)
def test_the_options_of_a_card(root: Path, run: Run, options: list[str], sent: dict[str, Any]) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        assert run("enroll", "smartcard", *options).returncode == Exit.DONE
    assert double.requests[0]["args"] == {"factor": "smartcard", **sent}


@pytest.mark.parametrize(
    "arguments",
    [
        ["enroll", "smartcard", "--verify"],
        ["enroll", "fido2", "--slot", "9a"],
        ["enroll", "totp", "--by", "key"],
        ["enroll", "smartcard", "--slot", "9e"],
        ["enroll", "smartcard", "--by", "cn"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")


@pytest.mark.parametrize(
    ("by", "counts"), [({}, "key"), ({"by": "upn", "matches": "alice@corp\x1b[2J"}, "upn alice@corp [2J")]
)
def test_the_certificate_is_shown_before_it_is_agreed_to(root: Path, run: Run, by: dict[str, str], counts: str) -> None:
    answers: list[str] = []

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(**CERTIFICATE | by)
        answers.append(peer.ask("Enrol this certificate for alice? (yes or no) ", secret=False))
        peer.part(kind="enrolled", id=ID, factor="smartcard", label="work")
        peer.done()

    with Double(root, script):
        done = run("enroll", "smartcard", input="yes\n")
    assert answers == ["yes"]
    assert done.stdout.splitlines() == [
        "The smartcard has this certificate:",
        "",
        "  Subject    CN=alice,O=Example",
        "  Issuer     CN=Issuing,O=Example",
        "  Serial     1f",
        "  Valid      2026-01-31 to 2030-01-31",
        "  Key        p-256, slot 9a",
        f"  Counts by  {counts}",
        "",
        'Enrolled smartcard "work".',
    ]


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, "CN=alice,O=Example, p-256, slot 9a, valid until 2030-01-31"),
        ({"by": "mail", "matches": "alice@example.org"}, "valid until 2030-01-31, by mail alice@example.org"),
        ({"slot": "", "subject": "", "valid_until": ""}, "p-256"),
    ],
)
def test_a_card_is_listed_with_what_is_on_it(root: Path, run: Run, details: dict[str, str], text: str) -> None:
    record = {"kind": "credential", "id": ID, "factor": "smartcard", "label": "work", "created": 1, "used": None}

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(**record, details=DETAILS | details)
        peer.done()

    with Double(root, script):
        done = run("list")
    assert text in done.stdout
    assert "by key" not in done.stdout
