"""`pam-mfa doctor` on enrolled security keys: what they are bound to, and which may have been copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.checks import keys
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.client import Account
from pam_mfa.cli.paths import Paths

from .installed import healthy, lay, listening, wrong

ALICE, BOB = Account(1000, "alice"), Account(1001, "bob")


def key(label: str = "blue nano", factor: str = "fido2", **details: Any) -> dict[str, Any]:
    facts = {"rp_id": "example.org", "suspect": False, "synced": False} | details
    return {"kind": "credential", "id": "ab" * 16, "factor": factor, "label": label, "details": facts}


def test_keys_that_are_as_they_must_be() -> None:
    (found,) = keys.judge("example.org", [(ALICE, key()), (BOB, key("red"))])
    assert (found.severity, found.found) == (Severity.OK, "2 enrolled, bound to example.org")
    assert list(keys.judge("example.org", [])) == []


def test_keys_of_another_name_are_counted_by_name() -> None:
    others = [(ALICE, key(rp_id="old.example")), (BOB, key(rp_id="old.example")), (BOB, key(rp_id="a.example"))]
    found = list(keys.judge("example.org", [*others, (ALICE, key())]))
    assert [finding.found for finding in found] == [
        "1 bound to a.example, new ones to example.org; they go on working",
        "2 bound to old.example, new ones to example.org; they go on working",
    ]
    assert wrong(iter(found)) == [("security keys", "warn")] * 2


@pytest.mark.parametrize("rp_id", ["pam://host", "ssh:", "ipa.example.org"])
def test_imported_keys_keep_the_name_that_another_program_gave_them(rp_id: str) -> None:
    imported = (ALICE, key(rp_id=rp_id, synced=None))
    assert list(keys.judge("example.org", [imported])) == []
    (found,) = keys.judge("example.org", [imported, (BOB, key())])
    assert (found.severity, found.found) == (Severity.OK, "1 enrolled, bound to example.org")


def test_a_suspected_copy_names_its_owner_and_what_to_do() -> None:
    (found,) = keys.judge("example.org", [(ALICE, key(suspect=True)), (BOB, key())])
    assert found.severity is Severity.WARN
    assert found.found == '"blue nano" of alice may have been copied: its counter fell back'
    assert "pam-mfa unlock alice" in found.fix
    assert "pam-mfa remove --user alice abababab" in found.fix


def test_everybody_is_asked_for(root: Path) -> None:
    lay(root)

    def script(peer: Peer, request: dict[str, Any]) -> None:
        if request["verb"] != "list":
            return healthy(peer, request)
        peer.part(**key(rp_id="old.example"))
        peer.part(**key("phone", factor="totp"))
        return peer.done()

    with Double(root, script) as double, listening(root):
        assert wrong(keys.check(Paths(root))) == [("security keys", "warn")]
    assert double.requests[-1]["account"] == {"uid": 0, "name": "root"}


def test_a_service_that_does_not_answer_is_for_others_to_tell(root: Path) -> None:
    assert list(keys.check(Paths(root))) == []


def test_only_root_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert list(keys.check(Paths(root))) == []
