"""`pam-mfa enroll fido2`, and how `pam-mfa list` shows a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit
from pam_mfa.wire import encode_tell

from .conftest import Run

ID = "0123456789abcdef" * 2
DETAILS = {
    "product": "Soft Key", "aaguid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "transport": "usb", "verified": False,
    "discoverable": False, "synced": False, "counter": 7, "suspect": False, "rp_id": "example.org",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ([], {}),
        (["--name", "blue nano"], {"label": "blue nano"}),
        (["--verify", "--discoverable"], {"verify": True, "discoverable": True}),
    ],
)
def test_the_options_of_a_key(root: Path, run: Run, options: list[str], sent: dict[str, Any]) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        assert run("enroll", "fido2", *options).returncode == Exit.DONE
    assert double.requests[0]["args"] == {"factor": "fido2", **sent}


def test_the_user_is_told_when_to_touch(root: Path, run: Run) -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.send_raw(encode_tell("Touch the security key that you want to enrol"))
        peer.send_raw(encode_tell("Now touch it once more, to prove that it works"))
        peer.part(kind="enrolled", id=ID, factor="fido2", label="blue nano")
        peer.done()

    with Double(root, script):
        done = run("enroll", "fido2")
    assert done.stderr.splitlines()[:2] == [
        "Touch the security key that you want to enrol",
        "Now touch it once more, to prove that it works",
    ]
    assert "blue nano" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["enroll", "fido2", "--digits", "6"],
        ["enroll", "totp", "--verify"],
        ["enroll", "recovery", "--discoverable"],
        ["enroll", "fido2", "--verify=no"],
    ],
)
def test_an_option_of_another_factor_is_wrong_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")


def shown(root: Path, run: Run, **details: object) -> str:
    record = {"kind": "credential", "id": ID, "factor": "fido2", "label": "blue nano", "created": 1, "used": None}

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(**record, details=DETAILS | details)
        peer.done()

    with Double(root, script):
        return run("list").stdout


def test_a_key_is_listed_with_its_model_transport_and_counter(root: Path, run: Run) -> None:
    assert "Soft Key, usb, counter 7" in shown(root, run)
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f, nfc" in shown(root, run, product="", transport="nfc")


def test_what_is_not_so_is_not_said(root: Path, run: Run) -> None:
    text = shown(root, run, synced=None)
    assert not [word for word in ("verified", "discoverable", "synced", "COPIED") if word in text]
    text = shown(root, run, verified=True, discoverable=True, synced=True, suspect=True)
    assert "verified its user, discoverable, synced, MAY HAVE BEEN COPIED (its counter fell back)" in text
