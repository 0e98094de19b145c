"""R09 with smartcards: what is said before anything was proven, and of waits after it was."""

from __future__ import annotations

import pytest
from ca import Leaf
from cardflows import INSERT, ISSUING, PHONE, PIN, PLACE, enrolled, run
from flows import Clock, account
from softcard import SoftCard, idle

from pam_mfa.conversation import AskSecret, Expired
from pam_mfa.factors.card_dialogue import NO_CARD
from pam_mfa.rules import FirstFactor, Rule
from pam_mfa.store.rows import Account
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE, LIMIT, Tally

UNPROVEN = replace(PLACE, rule=Rule(first_factor=FirstFactor.NONE))


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return ISSUING.leaf()


def failed(of: Account, failures: int) -> Account:
    return replace(of, tallies={**of.tallies, "smartcard": Tally(failures, Clock()())})


def test_nobody_sees_who_has_a_card(leaf: Leaf) -> None:
    """The same wants and the same words for everybody, whatever card is there."""
    card, stranger = SoftCard(leaf), SoftCard(ISSUING.leaf("mallory"))
    owner = account(enrolled(leaf))
    for device in ([idle(), Expired()], [stranger.carries, idle(1), Expired()]):
        seen = [
            (world.kinds, world.told)
            for of in (owner, account(PHONE), failed(owner, FREE + 1), failed(owner, LIMIT))
            for _, world, _ in [run(of, device, place=UNPROVEN)]
        ]
        assert all(each == seen[0] for each in seen)
        assert seen[0][1] == ["Insert your smartcard", NO_CARD]
    proof, world, _ = run(owner, [idle(), card.carries, card.sign], place=UNPROVEN)
    assert proof is not None
    assert [want.text for want in world.wants if isinstance(want, AskSecret)] == [
        "PIN of the smartcard (3 tries left): "
    ]


def test_who_has_none_is_asked_for_none_where_something_was_proven() -> None:
    proof, world, ceremony = run(account(PHONE), [])
    assert (proof, world.kinds, ceremony.reason) == (None, [], "unenrolled")


@pytest.mark.parametrize(("failures", "words"), [(FREE + 1, "counts again in 30 s"), (LIMIT, "is locked until")])
def test_a_wait_is_told_and_the_pin_is_not_sent(leaf: Leaf, failures: int, words: str) -> None:
    card = SoftCard(leaf)
    proof, world, _ = run(failed(account(enrolled(leaf)), failures), [idle(), card.carries], [PIN])
    assert proof is None
    assert words in world.told[0]
    assert world.told[1] == INSERT
