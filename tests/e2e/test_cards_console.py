"""Smartcards at a virtual console, where the default settings ask for them: by service and by engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ca import Authority
from e2e.carded import INSERT, LAST_BUT_ONE, NAME, PIN, PROMPT, WRONG_PIN, Cards, enrol, said_nothing_secret, start
from e2e.keyed import CODE, console, prepare_console
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS
from vdev import pcscd as vdev_pcscd
from vdev.piv import PivApplet

LEAF = Authority.root("Company").leaf("alice")


@pytest.fixture
def cards(site: SiteMachine) -> Iterator[Cards]:
    """Readers in the site's machine, whose console asks for cards."""
    if lack := vdev_pcscd.missing():
        pytest.skip(lack)
    found = Cards(site)
    prepare_console(site)
    start(site, "")
    yield found
    found.close()


@pytest.fixture
def card(site: SiteMachine, cards: Cards) -> PivApplet:
    """alice's, inserted."""
    found = cards.insert(LEAF)
    enrol(site, LEAF)
    return found


def log_in(site: SiteMachine) -> Terminal:
    """The account's password is given."""
    login = console(site)
    login.answer("Password: ", PASSWORDS["alice"])
    return login


def lets_in(site: SiteMachine, login: Terminal, count: int = 1, factor: str = "smartcard") -> None:
    """There is a shell at that console."""
    login.expect("$ ")
    login.type("id -un; tty")
    login.expect("alice\r\n/dev/tty1")
    login.type("exit")
    login.end()
    record = site.last_record(count)
    assert (record["outcome"], record["role"], record["service"]) == ("GRANTED", site.side, "login")
    assert record["factor"] == factor


def test_the_right_pin(site: SiteMachine, card: PivApplet) -> None:
    with site.terminals.story("console-card"):
        login = log_in(site)
        login.answer(PROMPT, PIN)
        lets_in(site, login)
    record = site.last_record(1)
    assert record["label"] == NAME
    assert said_nothing_secret(site)


def test_a_wrong_pin_and_the_right_one(site: SiteMachine, card: PivApplet) -> None:
    with site.terminals.story("console-card-wrong-pin"):
        login = log_in(site)
        login.answer(PROMPT, WRONG_PIN)
        login.expect("That was not the PIN of the smartcard: try again.")
        login.answer(CODE, site.alice.code())
        lets_in(site, login, factor="totp")
        login = log_in(site)
        login.answer(LAST_BUT_ONE, PIN)
        lets_in(site, login, 2)
    assert card.tries_left == card.tries
    assert said_nothing_secret(site)


def test_a_blocked_pin(site: SiteMachine, card: PivApplet) -> None:
    card.tries_left = 0
    with site.terminals.story("console-card-blocked"):
        login = log_in(site)
        login.expect("The PIN of the smartcard is blocked: unblock it with its PUK")
        login.answer(CODE, site.alice.code())
        lets_in(site, login, factor="totp")


def test_pulled_out_and_inserted_again(site: SiteMachine, cards: Cards, card: PivApplet) -> None:
    cards.readers[0].remove()
    with site.terminals.story("console-card-pulled"):
        login = log_in(site)
        login.expect(INSERT)
        cards.insert_again(card)
        site.terminals.happened("the card is inserted")
        login.expect(PROMPT)
        cards.readers[0].remove()
        site.terminals.happened("the card is pulled out")
        login.type(PIN, hidden=True)
        login.expect("The smartcard was removed: insert it again.")
        login.answer(CODE, site.alice.code())
        lets_in(site, login, factor="totp")
    assert card.tries_left == card.tries


def test_ssh_is_never_asked_for_a_card_of_this_host(site: SiteMachine, card: PivApplet) -> None:
    site.start_sshd("sshd, password and code")
    ssh = site.ssh("/usr/bin/id", "-un")
    ssh.answer(CODE, site.alice.code())
    assert ssh.ends_with(0) == "\r\nalice\r\n"
    assert "smartcard" not in ssh.transcript
