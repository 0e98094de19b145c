"""`pam-mfa key` as it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit

from .conftest import Run

BLUE: dict[str, Any] = {
    "kind": "device", "device": 1, "name": "Blue Nano", "transport": "usb",
    "aaguid": "2fc0579f-8113-47ea-b116-bb5a8db9202a", "firmware": 328707, "versions": ["U2F_V2", "FIDO_2_0"],
    "extensions": [], "options": {"clientPin": "1", "rk": "1"}, "algorithms": ["es256", "eddsa"], "pin_tries": 8,
    "min_pin": 4, "pin_change": False,
}  # fmt: skip
CARD = BLUE | {"name": "Card", "transport": "nfc", "firmware": 0, "options": {"clientPin": "0", "uv": "0"}}
BUSY = {"kind": "device_failed", "device": 3, "why": "busy"}


READER = {"kind": "reader", "device": 4, "name": "Reader 1"}
CERTIFICATE = {
    "slot": "9a", "subject": "CN=Alice", "issuer": "CN=Example CA", "number": "4d2", "valid_from": "2026-01-01",
    "valid_until": "2028-01-01", "key": "p-256",
}  # fmt: skip
SMARTCARD: dict[str, Any] = {
    "kind": "card", "device": 5, "name": "Reader 0", "serial": "00ff", "pin_tries": 3, "certificates": [CERTIFICATE],
}  # fmt: skip


def service(*records: dict[str, Any]) -> Any:
    def answer(peer: Peer, request: dict[str, Any]) -> None:
        for record in records:
            peer.part(**record)
        peer.done()

    return answer


def test_the_list(root: Path, run: Run) -> None:
    with Double(root, service(BLUE, CARD, BUSY)) as double:
        done = run("key", "list")
    assert double.requests == [{"verb": "devices", "args": {}}]
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert done.stdout.splitlines() == [
        "A device cannot be used: another program uses it; try again.",
        "Name       Connected  PIN                Model id (AAGUID)",
        "Blue Nano  usb        set, 8 tries left  2fc0579f-8113-47ea-b116-bb5a8db9202a",
        "Card       nfc        not set            2fc0579f-8113-47ea-b116-bb5a8db9202a",
    ]


def test_the_description(root: Path, run: Run) -> None:
    with Double(root, service(BLUE, CARD)):
        done = run("key", "info")
    assert done.stdout.splitlines() == [
        "Blue Nano (usb)",
        "  model id (AAGUID): 2fc0579f-8113-47ea-b116-bb5a8db9202a",
        "  firmware: 328707",
        "  speaks: U2F_V2, FIDO_2_0",
        "  algorithms: es256, eddsa",
        "  PIN: set, 8 tries left",
        "Card (nfc)",
        "  model id (AAGUID): 2fc0579f-8113-47ea-b116-bb5a8db9202a",
        "  speaks: U2F_V2, FIDO_2_0",
        "  algorithms: es256, eddsa",
        "  PIN: not set",
        "  fingerprint: none enrolled",
        "  To be used where a PIN is required it needs one: fido2-token -S DEVICE; fido2-token -L names the DEVICE"
        " (package fido2-tools).",
    ]


@pytest.mark.parametrize("command", ["list", "info"])
def test_json_is_the_records(root: Path, run: Run, command: str) -> None:
    with Double(root, service(BLUE, BUSY)):
        done = run("key", command, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [BLUE, BUSY]
    with Double(root, service()):
        assert run("key", command, "--json").stdout == ""


@pytest.mark.parametrize("command", ["list", "info"])
def test_nothing_there(root: Path, run: Run, command: str) -> None:
    with Double(root, service()):
        done = run("key", command)
    assert (done.returncode, done.stdout) == (Exit.DONE, "No security key and no smartcard is plugged in.\n")


@pytest.mark.parametrize(
    ("changes", "short", "advice"),
    [
        ({"options": {}}, "none possible", ""),
        ({"pin_tries": None}, "set", ""),
        ({"pin_tries": 3}, "set, 3 tries left", ""),
        ({"pin_tries": 2}, "set, 2 tries left", "fido2-token -C DEVICE"),
        ({"pin_tries": 0}, "blocked", "fido2-token -R DEVICE"),
        ({"pin_change": True}, "must be changed", "fido2-token -C DEVICE"),
    ],
)
def test_how_a_pin_stands(root: Path, run: Run, changes: dict[str, Any], short: str, advice: str) -> None:
    with Double(root, service(BLUE | changes)):
        done = run("key", "info")
    assert f"  PIN: {short}\n" in done.stdout
    assert ("fido2-token" in done.stdout) == bool(advice)
    assert advice in done.stdout


def test_what_a_device_says_of_itself_is_made_harmless(root: Path, run: Run) -> None:
    with Double(root, service(BLUE | {"name": "\x1b[2Jx", "versions": ["a\nb"]}, BUSY | {"why": "\x07"})):
        for command in ("list", "info"):
            assert "\x1b" not in run("key", command).stdout


def test_a_group_alone_says_what_is_missing(root: Path, run: Run) -> None:
    done = run("key")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr == "pam-mfa: Missing command; see pam-mfa key --help\n"


def test_the_list_of_cards_and_readers(root: Path, run: Run) -> None:
    bare = SMARTCARD | {"name": "Reader 2", "serial": "", "pin_tries": None, "certificates": []}
    with Double(root, service(READER, BLUE, SMARTCARD, bare)):
        done = run("key", "list")
    assert done.stdout.splitlines()[2:] == [
        "",
        "Reader    Smartcard         PIN           Certificates",
        "Reader 0  00ff              3 tries left  9a",
        "Reader 2  without a number  set           none",
        "Reader 1  none",
    ]


def test_readers_alone(root: Path, run: Run) -> None:
    with Double(root, service(READER)):
        done = run("key", "list")
    assert done.stdout.splitlines() == [
        "No security key and no smartcard is plugged in.",
        "Reader    Smartcard  PIN  Certificates",
        "Reader 1  none",
    ]


def test_the_description_of_a_card(root: Path, run: Run) -> None:
    with Double(root, service(SMARTCARD, READER)):
        done = run("key", "info")
    assert done.stdout.splitlines() == [
        "Smartcard in Reader 0",
        "  number: 00ff",
        "  PIN: 3 tries left",
        "  slot 9a: CN=Alice",
        "  issued by CN=Example CA, number 4d2",
        "  valid from 2026-01-01 to 2028-01-01, key p-256",
    ]


@pytest.mark.parametrize(
    ("changes", "short", "advice"),
    [
        ({"pin_tries": 2}, "2 tries left", ""),
        ({"pin_tries": 1}, "1 try left", "The last try is yours alone."),
        ({"pin_tries": 0}, "blocked", "PUK"),
        ({"pin_tries": None}, "set", ""),
        ({"certificates": []}, "3 tries left", "no certificate"),
    ],
)
def test_what_to_do_about_a_card(root: Path, run: Run, changes: dict[str, Any], short: str, advice: str) -> None:
    with Double(root, service(SMARTCARD | changes)):
        said = run("key", "info").stdout
    assert f"  PIN: {short}\n" in said
    assert [text for text in ("The last try", "PUK", "no certificate") if text in said] == [
        text for text in ("The last try", "PUK", "no certificate") if text in advice
    ]


def test_what_a_card_says_of_itself_is_made_harmless(root: Path, run: Run) -> None:
    hostile = CERTIFICATE | {"subject": "\x1b[2J\n"}
    with Double(root, service(SMARTCARD | {"name": "\x1b[2J", "certificates": [hostile]}, READER | {"name": "\x07"})):
        for command in ("list", "info"):
            said = run("key", command).stdout
            assert not {"\x1b", "\x07"} & set(said)
