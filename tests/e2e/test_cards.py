"""Smartcards in real sudo, by service and by engine: the right PIN, a wrong one, a blocked one, a card pulled out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ca import Authority, pem
from e2e.carded import (
    CHAIN,
    INSERT,
    LAST_BUT_ONE,
    NAME,
    PIN,
    PROMPT,
    WRONG_PIN,
    Cards,
    enrol,
    lay,
    said_nothing_secret,
    start,
)
from e2e.keyed import CODE, PAM_MFA, ROOT
from e2e.site_machine import SiteMachine
from people import configure
from vdev import pcscd as vdev_pcscd
from vdev.piv import GENERAL_AUTHENTICATE, VERIFY

COMPANY = Authority.root("Company")
ISSUING = COMPANY.authority()


@pytest.fixture
def cards(site: SiteMachine) -> Iterator[Cards]:
    """Readers in the site's machine."""
    if lack := vdev_pcscd.missing():
        pytest.skip(lack)
    found = Cards(site)
    yield found
    found.close()


def test_a_card_is_enrolled_and_opens_sudo(site: SiteMachine, cards: Cards) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    cards.insert(leaf)
    with site.terminals.story("enroll-card"):
        enrol(site, leaf)
    with site.terminals.story("sudo-card"):
        sudo = site.sudo()
        sudo.answer(PROMPT, PIN)
        assert sudo.ends_with(0) == ROOT
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["factor"]) == ("GRANTED", site.side, "smartcard")
    assert record["label"] == NAME
    shown = site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout
    assert "CN=alice,O=Example, p-256, slot 9a" in shown
    assert said_nothing_secret(site)


def test_it_is_asked_for_and_inserted(site: SiteMachine, cards: Cards) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    card = cards.insert(leaf)
    enrol(site, leaf)
    cards.readers[0].remove()
    with site.terminals.story("sudo-card-inserted"):
        sudo = site.sudo()
        sudo.expect(INSERT)
        cards.insert_again(card, reader=1)
        site.terminals.happened("the card is inserted")
        sudo.answer(PROMPT, PIN)
        assert sudo.ends_with(0) == ROOT


def test_a_strangers_card_beside_it(site: SiteMachine, cards: Cards) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    cards.insert(leaf)
    enrol(site, leaf)
    stranger = cards.insert(COMPANY.leaf("mallory"), reader=1)
    sudo = site.sudo()
    sudo.answer(PROMPT, PIN)
    assert sudo.ends_with(0) == ROOT
    assert stranger.tries_left == stranger.tries


def test_a_wrong_pin(site: SiteMachine, cards: Cards) -> None:
    """It is asked for once, costs the card one try, and says what it was; the next login says what is left."""
    start(site)
    leaf = COMPANY.leaf("alice")
    card = cards.insert(leaf)
    enrol(site, leaf)
    with site.terminals.story("sudo-card-wrong-pin"):
        sudo = site.sudo()
        sudo.answer(PROMPT, WRONG_PIN)
        sudo.expect("That was not the PIN of the smartcard: try again.")
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT
    assert card.tries_left == 2
    sudo = site.sudo()
    sudo.answer(LAST_BUT_ONE, PIN)
    assert sudo.ends_with(0) == ROOT
    assert card.tries_left == 3
    assert said_nothing_secret(site)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (1, "Only the last try of the smartcard's PIN is left, and it is not spent here"),
        (0, "The PIN of the smartcard is blocked: unblock it with its PUK"),
    ],
)
def test_the_last_try_and_none(site: SiteMachine, cards: Cards, left: int, words: str) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    card = cards.insert(leaf)
    enrol(site, leaf)
    card.tries_left = left
    with site.terminals.story("sudo-card-last-try" if left else "sudo-card-blocked"):
        sudo = site.sudo()
        sudo.expect(words)
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT
    assert "PIN of your smartcard" not in sudo.transcript
    assert card.tries_left == left


def test_a_card_is_pulled_while_its_pin_is_typed(site: SiteMachine, cards: Cards) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    cards.insert(leaf)
    enrol(site, leaf)
    with site.terminals.story("sudo-card-pulled"):
        sudo = site.sudo()
        sudo.expect(PROMPT)
        cards.readers[0].remove()
        site.terminals.happened("the card is pulled out")
        sudo.type(PIN, hidden=True)
        sudo.expect("The smartcard was removed: insert it again.")
        sudo.answer(CODE, site.alice.code())
        assert sudo.ends_with(0) == ROOT


@pytest.mark.parametrize("instruction", [VERIFY, GENERAL_AUTHENTICATE])
def test_a_card_is_pulled_in_the_middle(site: SiteMachine, cards: Cards, instruction: int) -> None:
    start(site)
    leaf = COMPANY.leaf("alice")
    applet = cards.insert(leaf)
    enrol(site, leaf)
    cards.readers[0].remove()
    cards.insert_again(applet, pulled_at=instruction)
    sudo = site.sudo()
    sudo.answer(PROMPT, PIN)
    sudo.expect("The smartcard was removed: insert it again.")
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


def test_p05_a_card_of_two_users(site: SiteMachine, cards: Cards) -> None:
    """Only root can make it so, and then it is nobody's."""
    start(site)
    leaf = COMPANY.leaf("alice")
    cards.insert(leaf)
    enrol(site, leaf)
    site.machine.write("/etc/pam-mfa/cards.pem", pem(leaf.certificate).decode(), 0o600)
    argv = [PAM_MFA, "import", "pam-p11", "/etc/pam-mfa/cards.pem", "--user", "bob", "--apply"]
    assert "alice has one of these" in site.machine.run(argv, check=False).stdout
    site.machine.run([*argv, "--shared"])
    sudo = site.sudo()
    sudo.expect("That smartcard is not this account's alone: ask an administrator.")
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


# ------------------------------------------------------------------------------------------------------ a company's CA


def by_upn(site: SiteMachine, cards: Cards, crl: bytes) -> None:
    """alice's card, mapped by the name that the company's CA gave her."""
    files = {"anchors": {"company.pem": pem(COMPANY.certificate)}, "crls": {"root.crl": COMPANY.crl(), "ca.crl": crl}}
    lay(site, intermediates={"issuing.pem": pem(ISSUING.certificate)}, **files)
    leaf = ISSUING.leaf("alice", upns=["alice@corp.example"])
    start(site, CHAIN)
    cards.insert(leaf)
    enrol(site, leaf, "--by", "upn")


def test_a_renewed_certificate_is_the_same_user(site: SiteMachine, cards: Cards) -> None:
    by_upn(site, cards, ISSUING.crl())
    cards.readers[0].remove()
    cards.insert(ISSUING.leaf("Alice B.", upns=["alice@corp.example"]))
    sudo = site.sudo()
    sudo.answer(PROMPT, PIN)
    assert sudo.ends_with(0) == ROOT
    assert "by upn alice@corp.example" in site.machine.run([PAM_MFA, "list", "--user", "alice"]).stdout


def test_p04_a_revoked_certificate(site: SiteMachine, cards: Cards) -> None:
    by_upn(site, cards, ISSUING.crl())
    revoked = ISSUING.leaf("alice", upns=["alice@corp.example"])
    lay(site, crls={"ca.crl": ISSUING.crl([revoked.serial])})
    cards.readers[0].remove()
    cards.insert(revoked)
    sudo = site.sudo()
    sudo.expect("The certificate of that smartcard was revoked: get a new smartcard.")
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


def test_p04_a_list_that_is_out_of_date(site: SiteMachine, cards: Cards) -> None:
    config = f'{CHAIN}[[rule]]\nservices = ["sudo"]\nmethods = ["smartcard"]\n'
    by_upn(site, cards, ISSUING.crl())
    lay(site, crls={"ca.crl": ISSUING.crl(days=(-10, -1))})
    configure(site.machine, config)
    if site.side == "service":
        site.machine.service.send(1)
    sudo = site.sudo()
    sudo.expect("The certificate of that smartcard cannot be checked now")
    sudo.expect("password for alice: ")
    sudo.interrupt()
    sudo.end()
    record = site.last_record(1)
    assert (record["outcome"], record["reason"]) == ("UNAVAILABLE", "crl_stale")
