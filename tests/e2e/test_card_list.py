"""What `pam-mfa key` says of smartcards and readers on an installed system."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e.carded import Cards, start
from e2e.site_machine import SiteMachine
from smartcards import piv
from vdev import pcscd
from vdev.iso7816 import Card
from vdev.piv import AUTHENTICATION, SIGNATURE

PAM_MFA = "/usr/bin/pam-mfa"


@pytest.fixture
def cards(site: SiteMachine) -> Iterator[Cards]:
    """Readers, one with a card."""
    if lack := pcscd.missing():
        pytest.skip(lack)
    cards = Cards(site)
    cards.readers[0].insert(Card(piv(slots=(AUTHENTICATION, SIGNATURE))))
    start(site)
    yield cards
    cards.close()


def said(site: SiteMachine, command: str) -> list[str]:
    """To root."""
    return site.machine.run([PAM_MFA, "key", command]).stdout.splitlines()


def test_readers_and_cards_are_listed_and_described(site: SiteMachine, cards: Cards) -> None:
    names = [reader.name for reader in cards.readers]
    head, card, empty = said(site, "list")
    assert head.split() == ["Reader", "Smartcard", "PIN", "Certificates"]
    assert [names[0], b"pam-mfa PIV card".hex(), "3 tries left", "9a, 9c"] == [
        part for part in card.split("  ") if part
    ]
    assert empty.split("  ")[0] == names[1]
    assert said(site, "info")[:5] == [
        f"Smartcard in {names[0]}",
        f"  number: {b'pam-mfa PIV card'.hex()}",
        "  PIN: 3 tries left",
        "  slot 9a: CN=alice",
        "  issued by CN=alice, number 1",
    ]
    cards.readers[0].remove()
    assert said(site, "list")[0] == "No security key and no smartcard is plugged in."
