"""`pam-mfa doctor` on enrolled smartcards: those that are refused to everybody, and those that do not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.checks import cards, keys
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.client import Account
from pam_mfa.cli.paths import Paths
from pam_mfa.config import Trust

from .installed import healthy, lay

ALICE, BOB = Account(1000, "alice"), Account(1001, "bob")


def card(id_: str = "ab" * 16, by: str = "key", label: str = "work") -> dict[str, Any]:
    return {"kind": "credential", "id": id_, "factor": "smartcard", "label": label, "details": {"by": by}}


@pytest.mark.parametrize("trust", Trust)
def test_cards_that_are_as_they_must_be(trust: Trust) -> None:
    (found,) = cards.judge(trust, [(ALICE, card()), (BOB, card("cd" * 16))])
    assert (found.severity, found.found) == (Severity.OK, "2 enrolled")
    assert list(cards.judge(trust, [])) == []


def test_p05_a_card_of_two_users() -> None:
    found = list(cards.judge(Trust.PINNED, [(ALICE, card()), (BOB, card(label="b")), (BOB, card("cd" * 16))]))
    assert [each.severity for each in found] == [Severity.WARN]
    assert found[0].found == 'one card is "work" of alice, "b" of bob: it is refused to all of them'
    assert "pam-mfa remove --user bob abababab" in found[0].fix


def test_what_does_not_count_with_pinned_trust() -> None:
    enrolled = [(ALICE, card()), (BOB, card("cd" * 16, "upn"))]
    (found,) = cards.judge(Trust.PINNED, enrolled)
    assert (found.severity, found.found) == (
        Severity.WARN, '1 enrolled by upn, which does not count with trust = "pinned"',
    )  # fmt: skip
    assert [each.severity for each in cards.judge(Trust.CHAIN, enrolled)] == [Severity.OK]


def test_they_are_asked_for_with_the_keys(root: Path) -> None:
    lay(root)

    def service(peer: Peer, request: dict[str, Any]) -> None:
        if request["verb"] != "list":
            return healthy(peer, request)
        peer.part(**card())
        peer.done()

    with Double(root, service):
        found = [each for each in keys.check(Paths(root)) if each.subject == cards.SUBJECT]
    assert [each.severity for each in found] in ([Severity.OK], [Severity.WARN])
